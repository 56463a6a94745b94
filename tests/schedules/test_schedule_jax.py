"""Schedules as JAX functions: traced, mapped, scanned, and as the learning rate of optax chains."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlm.config import ConfigError
from jaxlm.schedules import constant, cosine, from_array, linear, wsd

UPDATES = 12
SCHEDULES = {
    "constant": constant(warmup=3), "linear": linear(UPDATES, warmup=3), "cosine": cosine(UPDATES, warmup=3),
    "wsd": wsd(UPDATES, warmup=3, decay=4), "array": from_array(np.linspace(1.0, 0.0, UPDATES)),
}
# Compiled and eager code may differ by a few roundings of float32 (a fused multiply-add).
SAME = dict(rtol=0, atol=2e-7)


@pytest.fixture(params=SCHEDULES, scope="module")
def schedule(request):
    return SCHEDULES[request.param]


@pytest.fixture(scope="module")
def one_by_one(schedule):
    return np.array([schedule(t) for t in range(UPDATES)])


def test_takes_an_array_of_any_shape(schedule, one_by_one):
    got = schedule(np.arange(UPDATES).reshape(3, 4))
    np.testing.assert_allclose(got, one_by_one.reshape(3, 4), **SAME)


def test_vmaps(schedule, one_by_one):
    np.testing.assert_allclose(jax.vmap(schedule)(jnp.arange(UPDATES)), one_by_one, **SAME)


def test_scans(schedule, one_by_one):
    body = lambda t, _: (t + 1, schedule(t))  # noqa: E731
    _, got = jax.lax.scan(body, jnp.int32(0), None, length=UPDATES)
    np.testing.assert_allclose(got, one_by_one, **SAME)


def test_rate_is_a_float32_scalar(schedule):
    rate = schedule(0)
    assert (rate.dtype, rate.shape, rate.weak_type) == (jnp.float32, (), False)


def test_refuses_a_step_that_is_not_an_integer(schedule):
    with pytest.raises(ConfigError, match="t = 'float32': must be of an integer type"):
        schedule(jnp.float32(1.0))


@pytest.mark.parametrize("inject", [False, True])
def test_serves_as_learning_rate_of_an_optax_chain(schedule, one_by_one, inject):
    make = optax.inject_hyperparams(optax.sgd) if inject else optax.sgd
    tx = optax.chain(optax.identity(), make(learning_rate=schedule))

    @jax.jit
    def moves(params):
        def body(carry, _):
            params, state = carry
            updates, state = tx.update(jnp.ones_like(params), state, params)
            return (optax.apply_updates(params, updates), state), -updates
        return jax.lax.scan(body, (params, tx.init(params)), None, length=UPDATES)[1]

    np.testing.assert_allclose(moves(jnp.float32(0.0)), one_by_one, **SAME)
