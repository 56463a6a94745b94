"""Batch ramps and token clocks: against a walk in Python integers, up to 10^13 tokens, traced in 32 bits."""

import bisect
import fractions

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import schedule_twins as twins

from jaxlm.config import ConfigError
from jaxlm.schedules import BatchRamp, as_array, by_tokens, cosine, doubling_ramp, linear, linear_ramp, power, wsd

RAMPS = {
    "linear": linear_ramp(start=4, end=36, tokens=7001, sequence=13, multiple=4),
    "fast": linear_ramp(start=4, end=36, tokens=400, sequence=13, multiple=4),  # some batches last less than an update
    "doubling": doubling_ramp(start=6, at=(1000, 3000, 3100), sequence=13, multiple=3),
    "constant": BatchRamp(batches=(8,), tokens=(0,), sequence=13, multiple=2),
}


def line(tokens, *, start=4, end=36, over=7001, multiple=4):
    """The formula of the ramp in exact fractions, halves rounded up."""
    batch = start + (end - start) * min(fractions.Fraction(1), fractions.Fraction(tokens, over))
    return int(batch / multiple + fractions.Fraction(1, 2)) * multiple


def test_linear_ramp_is_its_formula_rounded_to_the_multiple():
    for tokens in [*range(7200), 10**14]:
        assert RAMPS["linear"].batch_at(tokens) == line(tokens)


@pytest.mark.parametrize("name", RAMPS)
def test_batches_and_clock_are_those_of_a_walk(name):
    ramp = RAMPS[name]
    batches, tokens = twins.walk(ramp.batch_at, sequence=13, updates=200)
    t = jnp.arange(200)
    assert ramp.batch(t).tolist() == batches
    assert (ramp.grains(t) * ramp.grain).tolist() == tokens == [ramp.tokens_before(k) for k in range(200)]


@pytest.mark.parametrize("name", RAMPS)
def test_number_of_updates_for_a_budget_is_that_of_a_walk(name):
    ramp = RAMPS[name]
    _, tokens = twins.walk(ramp.batch_at, sequence=13, updates=200)
    for budget in range(0, tokens[-1], 11):
        assert ramp.updates(budget) == bisect.bisect_left(tokens, budget)


def test_number_of_updates_is_near_the_integral_of_dn_over_the_batch():
    ramp = linear_ramp(start=32, end=2048, tokens=10**10, sequence=2048)
    # From 0 to n_r the integral is n_r log(B1/B0) / (B1 - B0), in tokens per update.
    exact = 1e10 * np.log(2048 / 32) / ((2048 - 32) * 2048) + 1e10 / (2048 * 2048)
    assert ramp.updates(2 * 10**10) == pytest.approx(exact, rel=1e-3)


def test_clock_is_exact_at_10_to_13_tokens_in_32_bits():
    ramp = linear_ramp(start=512, end=16384, tokens=10**11, sequence=4096, multiple=256)
    last = ramp.updates(10**13)
    assert ramp.tokens_before(last - 1) < 10**13 <= ramp.tokens_before(last)
    t = [0, 1, 1000, last // 3, last - 1, last]
    for grains in (jax.jit(ramp.grains), jax.jit(jax.vmap(ramp.grains))):
        got = grains(jnp.asarray(t, jnp.int32))
        assert got.dtype == jnp.int32
        assert [int(g) * ramp.grain for g in got] == [ramp.tokens_before(k) for k in t]


def test_clock_stands_still_before_it_would_overflow():
    ramp = BatchRamp(batches=(1000, 3000), tokens=(0, 5000), sequence=1)
    got = ramp.grains(jnp.asarray([10**6, 2**31 - 1], jnp.int32))
    assert got.tolist() == [ramp.tokens_before(10**6) if ramp.tokens_before(10**6) < 2**31 else got[1], int(got[1])]
    assert 2**31 - 3001 <= int(got[1]) < 2**31


def test_exact_integers_beyond_int32_on_the_host():
    ramp = doubling_ramp(start=1, at=(10**14, 10**15), sequence=1)
    assert ramp.tokens_before(2 * 10**14) == 10**14 + 2 * 10**14
    assert ramp.batch(2**31 - 1) == 1


def test_rates_of_a_constant_batch_are_those_of_updates():
    ramp = BatchRamp(batches=(8,), tokens=(0,), sequence=16, multiple=8)
    schedule = cosine(50, warmup=5)
    np.testing.assert_array_equal(as_array(by_tokens(schedule, ramp), 50), as_array(schedule, 50))


def test_rates_follow_the_tokens_under_jit_vmap_and_scan():
    ramp = RAMPS["linear"]
    budget = 20_000
    schedule = by_tokens(wsd(ramp.in_grains(budget), decay=ramp.in_grains(budget // 5), shape="linear"), ramp)
    count = ramp.updates(budget)
    _, tokens = twins.walk(ramp.batch_at, sequence=13, updates=count)
    total, decay = round(budget / ramp.grain), round(budget // 5 / ramp.grain)
    expected = [min(1.0, (total - n / ramp.grain) / decay) for n in tokens]
    t = jnp.arange(count)
    _, scanned = jax.lax.scan(lambda k, _: (k + 1, schedule(k)), jnp.int32(0), None, length=count)
    for got in (jax.jit(schedule)(t), jax.jit(jax.vmap(schedule))(t), scanned):
        np.testing.assert_allclose(got, expected, rtol=0, atol=4e-7)


def test_power_of_tokens_at_10_to_13_tokens():
    ramp = linear_ramp(start=512, end=16384, tokens=10**11, sequence=4096, multiple=256)
    schedule = by_tokens(power(start=ramp.in_grains(10**9), exponent=-0.5), ramp)
    t = ramp.updates(10**13)
    assert float(jax.jit(schedule)(t)) == pytest.approx((10**9 / 10**13) ** 0.5, rel=1e-3)


def test_linear_in_tokens_falls_faster_in_updates_while_the_batch_grows():
    ramp = linear_ramp(start=1, end=8, tokens=800, sequence=10)
    rates = as_array(by_tokens(linear(ramp.in_grains(2000)), ramp), ramp.updates(2000))
    drops = -np.diff(rates)
    batches = np.asarray(ramp.batch(jnp.arange(len(drops))))
    np.testing.assert_allclose(drops / drops[0], batches, rtol=1e-12)


@pytest.mark.parametrize("make, message", [
    (lambda: linear_ramp(start=6, end=16, tokens=10, sequence=1, multiple=4),
     "start = 6: must be a positive multiple of multiple = 4"),
    (lambda: linear_ramp(start=4, end=18, tokens=10, sequence=1, multiple=4), "end = 18: must be a positive multiple"),
    (lambda: linear_ramp(start=8, end=4, tokens=10, sequence=1, multiple=4), "end = 4: must not be below start = 8"),
    (lambda: linear_ramp(start=4, end=8, tokens=0, sequence=1), "tokens = 0"),
    (lambda: linear_ramp(start=0, end=8, tokens=1, sequence=1), "start = 0"),
    (lambda: linear_ramp(start=4, end=8, tokens=10, sequence=1, multiple=0), "multiple = 0"),
    (lambda: linear_ramp(start=4, end=8, tokens=10, sequence=0), "sequence = 0"),
    (lambda: doubling_ramp(start=3, at=(10,), sequence=1, multiple=2), "start = 3"),
    (lambda: doubling_ramp(start=2, at=(10, 10), sequence=1), r"tokens = \(0, 10, 10\): must ascend"),
    (lambda: doubling_ramp(start=2, at=(0,), sequence=1), r"tokens = \(0, 0\): must ascend"),
    (lambda: BatchRamp(batches=(2, 3), tokens=(0, 5), sequence=1, multiple=2), r"batches\[1\] = 3"),
    (lambda: BatchRamp(batches=(2,), tokens=(5,), sequence=1), r"tokens = \(5,\): must be 0, then"),
    (lambda: BatchRamp(batches=(), tokens=(), sequence=1), r"tokens = \(\): must be 0, then"),
    (lambda: BatchRamp(batches=(2,), tokens=(0, 5), sequence=1), r"tokens = \(0, 5\)"),
    (lambda: BatchRamp(batches=(1,), tokens=(0,), sequence=1).in_grains(10**13),
     "tokens = 10000000000000: must lie in 0..2147483647, 2.31-1 times multiple"),
    (lambda: BatchRamp(batches=(1,), tokens=(0,), sequence=1).in_grains(-1), "tokens = -1"),
])
def test_mistakes_are_named_in_one_line(make, message):
    with pytest.raises(ConfigError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
