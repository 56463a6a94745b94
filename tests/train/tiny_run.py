"""The run that the tests of the loop share: every feature that could break an exact resume is on."""

import numpy as np

from jaxlm.data import DataConfig, Synthetic
from jaxlm.model import ModelConfig
from jaxlm.schedules import WSD
from jaxlm.train import CheckpointConfig, EvalConfig, RunConfig

SEQUENCE, VOCABULARY, UPDATES = 8, 16, 24
MODEL = ModelConfig(vocabulary=VOCABULARY, sequence=SEQUENCE, layers=1, width=8, heads=2, ff=8, tied=True, dropout=0.1)

# Two sources of 44 training windows each, in the proportion 2 : 1: the run reads 64 of the first, so it
# crosses the end of an epoch.
DATA = DataConfig(
    sources=tuple(Synthetic(vocabulary=VOCABULARY, order=1, seed=seed, tokens=400) for seed in (0, 1)),
    weights=(2.0, 1.0), sequence=SEQUENCE)

# Neither checkpoints nor evaluations fall on the ends of full chunks.
RUN = RunConfig(
    name="tiny", updates=UPDATES, batch=4, accumulation=2, z_loss=1e-3, chunk=4, model=MODEL, data=DATA,
    schedule=WSD(peak_lr=1e-2, warmup=3), evaluation=EvalConfig(every=7, sequences=8),
    checkpoint=CheckpointConfig(every=9, latest=2, keep=(5,)))


def tokens(*shape, seed=0):
    """Returns random tokens of a shape as int32."""
    return np.random.default_rng(seed).integers(0, VOCABULARY, shape).astype(np.int32)


def leaves(tree):
    """Returns the leaves of a tree of arrays as NumPy arrays by dotted name."""
    import jax

    return {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
