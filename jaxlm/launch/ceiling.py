"""The largest rate at which this device multiplies matrices of the shapes that a model has."""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlm.model.matmul import transposed_product
from jaxlm.train.config import RunConfig

TIMINGS, LEAST_SECONDS, MOST_CALLS = 10, 0.05, 64
_PRODUCTS: dict[str, Callable[..., jax.Array]] = {
    "X W": lambda x, w: x @ w, "dY W^T": lambda dy, w: dy @ w.T, "X^T dY": transposed_product}


class Ceiling(NamedTuple):
    """Operations per second, and the product in which they were reached."""

    flops_per_second: float
    product: str


def matmul_ceiling(run: RunConfig) -> Ceiling:
    """Returns the best rate on the first device, in the run's dtype and on the threads of this process.

    Each product of tokens of a micro-batch and a weight is timed in the three forms of a step: X W of the forward pass,
    dY W^T of the gradient of X, and X^T dY of the weight's.
    """
    best = Ceiling(0.0, "")
    dtype = jnp.dtype(run.model.compute.dtype)
    for tokens, inner, outer in _shapes(run):
        x, w, dy = (jnp.full(shape, 0.5, dtype) for shape in ((tokens, inner), (inner, outer), (tokens, outer)))
        for order, left, right in (("X W", x, w), ("dY W^T", dy, w), ("X^T dY", x, dy)):
            rate = 2 * tokens * inner * outer / _seconds(_PRODUCTS[order], left, right)
            if rate > best.flops_per_second:
                best = Ceiling(rate, f"{order} of {tokens} tokens, {inner} x {outer}, {dtype}")
    return best


def _shapes(run: RunConfig) -> list[tuple[int, int, int]]:
    """(tokens, columns in, columns out) of the model's products on one device, each once."""
    config, tensor = run.model, run.mesh.tensor
    tokens = run.microbatch * run.data.sequence // (run.mesh.batch_shards * run.mesh.sequence)
    width, feed_forward = config.width, config.ff_width // tensor
    pairs = [(width, config.query_width // tensor), (width, feed_forward), (feed_forward, width),
             (width, config.vocabulary // tensor)]
    return [(tokens, *pair) for pair in dict.fromkeys(pairs)]


def _seconds(product: Callable[..., jax.Array], left: jax.Array, right: jax.Array) -> float:
    """Seconds of a product: the least of several means over calls one after the other."""
    product = jax.jit(product)
    product(left, right).block_until_ready()
    calls, least = 1, float("inf")
    for _ in range(TIMINGS + 1):
        started = time.perf_counter()
        for _ in range(calls):
            result = product(left, right)
        result.block_until_ready()
        each = (time.perf_counter() - started) / calls
        least, calls = min(least, each), max(1, min(MOST_CALLS, int(LEAST_SECONDS / each)))
    return least
