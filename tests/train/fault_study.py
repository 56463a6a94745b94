"""A run of a second with a checkpoint every few updates, and one long enough to be caught at work."""

from jaxlm.data import DataConfig, Synthetic
from jaxlm.model import ModelConfig
from jaxlm.schedules import WSD
from jaxlm.sweep import Stage, Study
from jaxlm.train import CheckpointConfig, EvalConfig, RunConfig


def run(name, *, updates, every):
    """A model of eight hundred parameters."""
    return RunConfig(
        name=name, updates=updates, batch=2, chunk=4, schedule=WSD(peak_lr=1e-2, warmup=3),
        model=ModelConfig(vocabulary=16, sequence=8, layers=1, width=8, heads=2, ff=8, tied=True, dropout=0.1),
        data=DataConfig(sources=tuple(Synthetic(vocabulary=16, order=1, seed=s, tokens=400) for s in (0, 1)), sequence=8),
        evaluation=EvalConfig(every=5, sequences=8), checkpoint=CheckpointConfig(every=every, latest=3))


def study():
    """One stage."""
    runs = (run("short", updates=36, every=4), run("long", updates=200_000, every=500))
    return Study(name="faults", question="Does it survive?", stages=(Stage(title="all", runs=runs),))
