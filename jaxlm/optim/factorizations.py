"""QR, Cholesky, eigenvectors, SVD and triangular solves of stacks that cannot hang on a CPU.

jaxlib 0.10 hands the slices of a batched LAPACK call to the pool of threads on which the call itself runs, and
waits for them. As many of these calls at once as the pool has threads then wait for each other for ever: seen with
the triangular solves of two stacked matrices on two threads, in `jax::ParallelBatchMap`. 0.11.2 has no such path.
So on the CPU, under the versions that have it, slices are factorized one after another; stacks of other matrices
still go on beside them. Everywhere else these are the functions of jax.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

_CAN_HANG = (0, 10) <= jax.__version_info__ < (0, 11, 2)


def slice_by_slice(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `function` of stacks [batch..., m, n], any number of them with equal batch axes, safe as above.

    A `vmap` around a caller stacks the slices again, out of reach of this function.
    """

    @functools.wraps(function)
    def on_stacks(*stacks: jax.Array) -> Any:
        batch = stacks[0].shape[:-2]
        if not _CAN_HANG or math.prod(batch) < 2:
            return function(*stacks)

        def one_by_one(*stacks: jax.Array) -> Any:
            flat = tuple(x.reshape(-1, *x.shape[-2:]) for x in stacks)
            out = jax.lax.map(lambda slices: function(*slices), flat)
            return jax.tree.map(lambda x: x.reshape(*batch, *x.shape[1:]), out)

        return jax.lax.platform_dependent(*stacks, cpu=one_by_one, default=function)

    return on_stacks


@slice_by_slice
def qr(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns Q [batch..., m, k] and R [batch..., k, n] of x, k = min(m, n)."""
    q, r = jnp.linalg.qr(x)
    return q, r


@slice_by_slice
def complete_q(x: jax.Array) -> jax.Array:
    """Returns the square Q [batch..., m, m] of x [batch..., m, n]."""
    return jnp.linalg.qr(x, mode="complete")[0]


@slice_by_slice
def descending_eigenvectors(x: jax.Array) -> jax.Array:
    """Returns the eigenvectors of symmetric x as columns, largest eigenvalue first."""
    return jnp.linalg.eigh(x)[1][..., ::-1]


@slice_by_slice
def svd(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns U [batch..., m, k], S [batch..., k] descending and V^T [batch..., k, n], k = min(m, n)."""
    u, s, vt = jnp.linalg.svd(x, full_matrices=False)
    return u, s, vt


@slice_by_slice
def lower_inverse(x: jax.Array) -> jax.Array:
    """Returns the inverse of lower triangular x."""
    eye = jnp.broadcast_to(jnp.eye(x.shape[-1], dtype=x.dtype), x.shape)
    return jax.lax.linalg.triangular_solve(x, eye, left_side=True, lower=True)


@slice_by_slice
def cholesky(x: jax.Array) -> jax.Array:
    """Returns lower triangular C with C C^T = x."""
    return jnp.linalg.cholesky(x)


@slice_by_slice
def solve_positive(x: jax.Array, y: jax.Array) -> jax.Array:
    """Returns z with x z = y by a Cholesky factor of x; y [batch..., m, n]."""
    return jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(x), True), y)
