"""Runs for two hosts and for four, of one device each."""

from jaxlm.data import DataConfig, Synthetic
from jaxlm.model import ModelConfig
from jaxlm.parallel import MeshConfig
from jaxlm.schedules import WSD
from jaxlm.sweep import Stage, Study
from jaxlm.train import CheckpointConfig, DiagnosticsConfig, EvalConfig, RunConfig


def run(name, *, updates, **fields):
    """Chunks of 4 updates of two micro-batches; parameters and optimizer state lie on all devices together."""
    return RunConfig(
        name=name, updates=updates, batch=16, accumulation=2, chunk=4, schedule=WSD(peak_lr=1e-2, warmup=3),
        model=ModelConfig(vocabulary=16, sequence=8, layers=1, width=8, heads=2, ff=8, tied=True),
        data=DataConfig(sources=tuple(Synthetic(vocabulary=16, order=1, seed=s, tokens=400) for s in (0, 1)), sequence=8),
        evaluation=EvalConfig(every=50, sequences=8), **fields)


def study():
    """A short run, and one that is long enough to be caught at work anywhere."""
    short = run("short", updates=80, checkpoint=CheckpointConfig(keep=(8,)), mesh=MeshConfig(fsdp=2))
    long = run("long", updates=200_000, checkpoint=CheckpointConfig(every=20), diagnostics=DiagnosticsConfig(every=10),
               mesh=MeshConfig(data=2, fsdp=2))
    return Study(name="hosts", question="Are several hosts one?", stages=(Stage(title="all", runs=(short, long)),))
