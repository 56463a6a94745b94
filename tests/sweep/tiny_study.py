"""A study of seconds: a trunk, two branches, a run that diverges and its branch, on synthetic tokens."""

import os

from jaxlm.data import DataConfig, Synthetic
from jaxlm.model import ModelConfig
from jaxlm.optim import AdamW
from jaxlm.schedules import WSD
from jaxlm.sweep import Stage, Study
from jaxlm.train import CheckpointConfig, EvalConfig, Parent, RunConfig


def run(name, *, updates, decay=0, peak_lr=1e-2, **fields):
    """A run of a model of two thousand parameters."""
    return RunConfig(
        name=name, updates=updates, batch=4, schedule=WSD(peak_lr=peak_lr, warmup=2, decay=decay), chunk=4,
        model=ModelConfig(vocabulary=16, sequence=16, layers=1, width=8, heads=1, tied=True),
        data=DataConfig(sources=(Synthetic(vocabulary=16, order=1, tokens=60_000),), sequence=16),
        evaluation=EvalConfig(sequences=8), **fields)


def study():
    """Two stages; the second's hook writes what it saw."""
    trunk = run("trunk", updates=24, checkpoint=CheckpointConfig(every=7, keep=(12, 24)))
    branches = [run(f"t{updates}", updates=updates, decay=6, parent=Parent(run=trunk.folder, step=updates - 6))
                for updates in (18, 30)]
    # Updates a hundred thousand times too large overflow within a few steps.
    wild = run("wild", updates=24, peak_lr=1e36, clip_norm=None, optimizer=AdamW(weight_decay=1e3),
               checkpoint=CheckpointConfig(keep=(12,)))
    orphan = run("orphan", updates=20, peak_lr=1e36, parent=Parent(run=wild.folder, step=12))
    runs = [trunk, *branches] + ([wild, orphan] if os.environ.get("TINY_WILD") else [])
    return Study(name="tiny", question="Does it run?", stages=(
        Stage(title="all", runs=tuple(runs), then=lambda root: (root / "seen").write_text("yes")),))
