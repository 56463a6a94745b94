"""Batches on the mesh: each host reads the sequences that its own devices need, and no others.

Example i of the training order is a pure function of (data seed, i), whatever the hosts; these functions
only choose which examples to read, and in calls of which size.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from jaxlm.parallel import batch_spec
from jaxlm.train.config import RunConfig


def training_batches(config: RunConfig, dataset: Any, mesh: Mesh, *, step: int, count: int) -> jax.Array:
    """Returns batches step..step+count-1 as [K, A, B, T + 1], K = config.chunk, the rest zeros."""
    micro = config.microbatch
    shape = (config.chunk, config.accumulation, micro, config.data.sequence + 1)

    def read(start: int, stop: int) -> np.ndarray:
        tokens = np.zeros((*shape[:2], stop - start, shape[3]), np.int32)
        for k in range(step, step + count):
            if stop - start == micro:
                tokens[k - step] = dataset.batch(k, config.batch).reshape(shape[1:])
                continue
            for a in range(config.accumulation):
                tokens[k - step, a] = _examples(dataset, (k * config.accumulation + a) * micro + start, stop - start)
        return tokens

    return _placed(read, shape, mesh)


def diagnosed_batches(config: RunConfig, dataset: Any, mesh: Mesh, *, step: int) -> tuple[jax.Array, jax.Array | None]:
    """Returns the first micro-batch of batch `step` [B, T + 1], and sequences of it [C, P, T + 1], P data shards."""
    first, length = step * config.batch, config.data.sequence + 1

    @functools.cache
    def read(start: int, stop: int) -> np.ndarray:
        return _examples(dataset, first + start, stop - start)

    batch = _placed(read, (config.microbatch, length), mesh)
    count, shards = config.diagnostics.sequences, config.mesh.batch_shards
    if config.accumulation > 1 or not count:
        return batch, None

    def alone(start: int, stop: int) -> np.ndarray:
        if stop - start == shards:
            return read(0, config.microbatch)[:count].reshape(-1, shards, length)
        return np.stack([_examples(dataset, first + c * shards + start, stop - start)
                         for c in range(count // shards)])

    return batch, _placed(alone, (count // shards, shards, length), mesh)


def heldout_batches(config: RunConfig, dataset: Any, mesh: Mesh) -> jax.Array:
    """Returns the fixed held-out sequences as [M, B, T + 1] with B the largest divisor up to the micro-batch."""
    total, shards = config.evaluation.sequences, config.mesh.batch_shards
    size = max(b for b in range(shards, max(config.microbatch, shards) + 1, shards) if total % b == 0)
    numbers = np.arange(total).reshape(-1, size)

    def read(start: int, stop: int) -> np.ndarray:
        wanted = numbers[:, start:stop]
        return dataset.heldout(total, wanted.ravel()).reshape(*wanted.shape, -1)

    return _placed(read, (*numbers.shape, config.data.sequence + 1), mesh)


def _examples(dataset: Any, first: int, count: int) -> np.ndarray:
    """Returns examples first..first+count-1; `first` is a multiple of `count`, as pieces of a batch are."""
    return dataset.batch(first // count, count)


def _placed(read: Callable[[int, int], np.ndarray], shape: tuple[int, ...], mesh: Mesh) -> jax.Array:
    """Returns the array of a shape whose last axis but one counts sequences, `read(start, stop)` giving some."""
    axis = len(shape) - 2
    placement = NamedSharding(mesh, batch_spec(axis))
    if not mesh.is_multi_process:  # one read of them all
        return jax.device_put(read(0, shape[axis]), placement)
    read = functools.cache(read)  # devices that hold the same sequences

    def piece(index: tuple[slice, ...]) -> np.ndarray:
        start, stop, _ = index[axis].indices(shape[axis])
        return read(start, stop)

    return jax.make_array_from_callback(shape, placement, piece)
