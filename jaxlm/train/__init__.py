"""Training: the configuration of a run, the compiled step, and the loop that keeps its record."""

from jaxlm.train.config import CheckpointConfig, DiagnosticsConfig, EvalConfig, Initial, Parent, RunConfig
from jaxlm.train.loop import train
from jaxlm.train.rows import Progress
from jaxlm.train.start import Outcome
from jaxlm.train.state import TrainState
from jaxlm.train.step import Metrics, StepConfig, make_step, update

__all__ = ["CheckpointConfig", "DiagnosticsConfig", "EvalConfig", "Initial", "Metrics", "Outcome", "Parent", "Progress",
           "RunConfig", "StepConfig", "TrainState", "make_step", "train", "update"]
