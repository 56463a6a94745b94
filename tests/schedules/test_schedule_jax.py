"""Schedules as JAX functions: traced, mapped, scanned, and as the learning rate of optax chains."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlm.config import ConfigError
from jaxlm.schedules import (
    BatchRamp, InverseSqrtShape, PowerShape, by_tokens, constant, cosine, cosine_tail, cyclic_cosine, from_array,
    half_life_decay, infinite, inverse_sqrt, linear, power, rewarm_redecay, step_decay, with_cooldown, wsd, wsd_s,
)

UPDATES = 12
SCHEDULES = {
    "constant": constant(warmup=3), "linear": linear(UPDATES, warmup=3), "cosine": cosine(UPDATES, warmup=3),
    "wsd": wsd(UPDATES, warmup=3, decay=4), "array": from_array(np.linspace(1.0, 0.0, UPDATES)),
    "wsd_s": wsd_s([5, UPDATES], decay=2, warmup=2, rewarmup=2),
    "cyclic_cosine": cyclic_cosine(UPDATES, cycles=2, rewarmup=2), "cosine_tail": cosine_tail(UPDATES, tail=3),
    "power_shape": wsd(UPDATES, decay=6, shape=PowerShape(inner=0.4, outer=1.5)),
    "inverse_sqrt_shape": wsd(UPDATES, decay=6, shape=InverseSqrtShape()),
    "half_life": half_life_decay(UPDATES, decay=6, half_life=2.0),
    "infinite": infinite(UPDATES, cooldown=4, constant=0.5, anneal=3, warmup=2),
    "rewarm_redecay": rewarm_redecay(linear(5), start=4, updates=UPDATES, peak_lr=0.5, warmup=3),
    "inverse_sqrt": with_cooldown(inverse_sqrt(warmup=2), UPDATES, decay=3), "power": power(start=3.5, warmup=2),
    "step_decay": step_decay(UPDATES),
    "by_tokens": by_tokens(linear(40), BatchRamp(batches=(2, 4), tokens=(0, 50), sequence=10)),
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
