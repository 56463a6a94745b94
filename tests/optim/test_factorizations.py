"""Factorizations of stacks: what jax gives, and on a CPU under jaxlib 0.10 no call that can hang."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problem import infos_of, synthetic
from table import TABLE

from jaxlm.optim import factorizations

# A LAPACK call of the lowered program, up to the types of its results.
CALL = re.compile(r"custom_call @(lapack_\w+).*->(.*)")


def batched_calls(function, *args):
    """Returns the LAPACK calls of more than one matrix in the program of `function`."""
    text = jax.jit(function).lower(*args).as_text()
    found = []
    for name, types in CALL.findall(text):
        shapes = [[int(n) for n in shape.split("x")[:-1]] for shape in re.findall(r"tensor<([\dx]+x?[fi]\d+)>", types)]
        found += [name for shape in shapes if len(shape) > 2 and np.prod(shape[:-2]) > 1][:1]
    return found


def stack(*shape):
    return jax.random.normal(jax.random.key(0), shape)


def positive(x):
    return x @ x.swapaxes(-1, -2) + jnp.eye(x.shape[-2])


CASES = {
    "qr": (factorizations.qr, jnp.linalg.qr, stack(2, 3, 6, 4)),
    "complete_q": (factorizations.complete_q, lambda x: jnp.linalg.qr(x, mode="complete")[0], stack(3, 6, 4)),
    "eigenvectors": (factorizations.descending_eigenvectors, lambda x: jnp.linalg.eigh(x)[1][..., ::-1],
                     positive(stack(3, 4, 4))),
    "svd": (factorizations.svd, lambda x: jnp.linalg.svd(x, full_matrices=False), stack(3, 6, 4)),
    "cholesky": (factorizations.cholesky, jnp.linalg.cholesky, positive(stack(3, 4, 4))),
    "lower_inverse": (factorizations.lower_inverse, jnp.linalg.inv, jnp.linalg.cholesky(positive(stack(3, 4, 4)))),
}


@pytest.mark.parametrize("name", CASES)
def test_stacks_equal_jax(name):
    ours, theirs, x = CASES[name]
    for got, wanted in zip(jax.tree.leaves(ours(x)), jax.tree.leaves(tuple(theirs(x)) if name in ("qr", "svd") else theirs(x)),
                           strict=True):
        np.testing.assert_allclose(got, wanted, atol=2e-5)


def test_solve_positive():
    x, y = positive(stack(3, 4, 4)), stack(3, 4, 2)
    np.testing.assert_allclose(x @ factorizations.solve_positive(x, y), y, atol=1e-4)


def test_the_search_finds_a_batched_call():
    assert batched_calls(jnp.linalg.qr, stack(3, 6, 4)) and not batched_calls(jnp.linalg.qr, stack(1, 6, 4))


@pytest.mark.skipif(not factorizations._CAN_HANG, reason="this jaxlib has no such calls")
@pytest.mark.parametrize("entry", [
    pytest.param(entry, marks=[] if entry.name in ("dion", "soap") else pytest.mark.slow) for entry in TABLE],
    ids=[entry.name for entry in TABLE])
def test_no_optimizer_makes_a_batched_call(entry):
    problem = synthetic(steps=2)
    params = {name: jnp.stack([jnp.asarray(array, jnp.float32)] * 2) if np.ndim(array) == 2 else jnp.asarray(array, jnp.float32)
              for name, array in problem.init.items()}
    for hp in entry.cases.values():
        tx = entry.build(hp, infos_of(params, entry.dims), {})
        state = jax.eval_shape(tx.init, params)
        assert batched_calls(tx.update, params, state, params) == []
