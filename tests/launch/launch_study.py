"""A study of one short run, for the command lines of the launcher and for processes that are killed."""

from jaxlm.data import DataConfig, Synthetic
from jaxlm.model import ModelConfig
from jaxlm.schedules import Constant
from jaxlm.sweep import Stage, Study
from jaxlm.train import CheckpointConfig, EvalConfig, RunConfig


def study():
    """Records grow with each checkpoint, 25 updates apart."""
    run = RunConfig(
        name="spot", updates=300, batch=32, schedule=Constant(peak_lr=1e-3, warmup=0), chunk=10,
        model=ModelConfig(vocabulary=16, sequence=16, layers=1, width=8, heads=1, tied=True),
        data=DataConfig(sources=(Synthetic(vocabulary=16, order=1, tokens=60_000),), sequence=16),
        evaluation=EvalConfig(sequences=32), checkpoint=CheckpointConfig(every=25))
    return Study(name="spots", question="Does it go on?", stages=(Stage(title="all", runs=(run,)),))
