"""Runs of a second with everything on that could break an exact resume, for both kinds of optimizer state."""

from jaxlm.data import DataConfig, Synthetic
from jaxlm.model import ModelConfig
from jaxlm.optim import AdamW, Muon
from jaxlm.schedules import WSD
from jaxlm.sweep import Stage, Study
from jaxlm.train import CheckpointConfig, DiagnosticsConfig, EvalConfig, Parent, RunConfig

# Two sources of 44 training windows each, mixed 2 : 1; 24 updates of 8 read 128 of the first: three epochs.
DATA = DataConfig(sources=tuple(Synthetic(vocabulary=16, order=1, seed=seed, tokens=400) for seed in (0, 1)),
                  weights=(2.0, 1.0), sequence=8)
MODEL = ModelConfig(vocabulary=16, sequence=8, layers=1, width=8, heads=2, ff=8, tied=True, dropout=0.1)


def run(name, *, updates=24, **fields):
    """Chunks of 4, evaluation every 7, checkpoints every 9, diagnostics every 5: no two fall together."""
    settings = {"checkpoint": CheckpointConfig(every=9)} | fields
    return RunConfig(name=name, updates=updates, batch=8, accumulation=4, z_loss=1e-3, chunk=4, model=MODEL, data=DATA,
                     schedule=WSD(peak_lr=1e-2, warmup=3), evaluation=EvalConfig(every=7, sequences=8),
                     diagnostics=DiagnosticsConfig(every=5), **settings)


def study():
    """Each optimizer alone, and a branch of a branch of the first."""
    adamw, muon = run("adamw", optimizer=AdamW()), run("muon", optimizer=Muon())
    trunk = run("trunk", updates=12, checkpoint=CheckpointConfig(keep=(7,)))
    branch = run("branch", updates=16, parent=Parent(run=trunk.folder, step=7), checkpoint=CheckpointConfig(keep=(13,)))
    twig = run("twig", parent=Parent(run=branch.folder, step=13))
    return Study(name="exact", question="Is it the same?",
                 stages=(Stage(title="all", runs=(adamw, muon, trunk, branch, twig)),))
