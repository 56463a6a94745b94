"""Further forms: shapes with parameters, half-life, infinite, re-warmed, inverse root, power, steps, joints."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import schedule_twins as twins

from jaxlm.config import ConfigError
from jaxlm.schedules import (
    CosineTail, HalfLife, Infinite, InverseSqrt, InverseSqrtShape, Linear, Power, PowerShape, RewarmRedecay, StepDecay,
    as_array, constant, cosine, cosine_tail, half_life_decay, infinite, inverse_sqrt, join, linear, power,
    power_start, rewarm_redecay, step_decay, with_cooldown, wsd,
)

FALLS = [(PowerShape(inner=inner, outer=outer), functools.partial(twins.power_fall, inner=inner, outer=outer))
         for inner, outer in ((1.0, 1.5), (0.1, 1.0), (0.4, 1.0), (3.0, 0.5), (1.0, 1.0))]
FALLS += [(InverseSqrtShape(timescale=k), functools.partial(twins.inverse_sqrt_fall, timescale=k)) for k in (0.5, 10.0)]
BIG = 2**31 - 1


def float32(schedule, t):
    t = jnp.asarray(t, jnp.int32)
    return [np.asarray(schedule(t)), np.asarray(jax.jit(schedule)(t))]


@pytest.mark.parametrize("shape, fall", FALLS, ids=lambda f: str(f) if isinstance(f, PowerShape) else "")
def test_shape_with_parameters_equals_its_twin(shape, fall):
    expected = [1.0] * 20 + [0.1 + 0.9 * fall(k / 40) for k in range(40)] + [0.1] * 5
    np.testing.assert_allclose(as_array(wsd(60, decay=40, shape=shape, final=0.1), 65), expected, rtol=1e-13)


@pytest.mark.parametrize("shape, fall", FALLS, ids=lambda f: str(f) if isinstance(f, PowerShape) else "")
def test_shape_with_parameters_is_exact_at_its_ends_and_accurate_between(shape, fall):
    start, decay = 2**24 + 5001, 2**30 + 7
    schedule = wsd(start + decay, decay=decay, shape=shape, final=0.25)
    elapsed = np.array([-1, 0, 1, 2, 1000, 2**20, decay // 3, decay // 2, decay - 1000, decay - 1, decay])
    expected = np.array([0.25 + 0.75 * fall(min(max(e, 0), decay) / decay) for e in elapsed])
    for got in float32(schedule, start + elapsed):
        np.testing.assert_array_equal(got[[0, 1, -1]], [1.0, 1.0, 0.25])
        np.testing.assert_allclose(got, expected, rtol=0, atol=4e-7)


def test_power_shape_contains_the_named_shapes():
    for named, inner in (("linear", 1.0), ("square", 2.0), ("sqrt", 0.5)):
        np.testing.assert_allclose(as_array(wsd(50, decay=30, shape=PowerShape(inner=inner), final=0.2), 55),
                                   as_array(wsd(50, decay=30, shape=named, final=0.2), 55), rtol=1e-14)


def test_half_life_decay_halves_every_half_life():
    rates = as_array(half_life_decay(100, decay=60, half_life=20.0, peak_lr=0.8), 101)
    np.testing.assert_allclose(rates[[0, 40, 60, 80, 100]], [0.8, 0.8, 0.4, 0.2, 0.1], rtol=1e-14)
    np.testing.assert_allclose(rates[40:], [0.8 * 0.5 ** (k / 20) for k in range(61)], rtol=1e-13)


def test_cosine_tail_is_the_shorter_cosine_held():
    np.testing.assert_array_equal(as_array(cosine_tail(50, tail=10, warmup=5, final=0.2), 60),
                                  as_array(cosine(40, warmup=5, final=0.2), 60))


def test_infinite_equals_its_twin():
    options = dict(updates=90, warmup=8, cooldown=30, constant=0.55, anneal=20, final=0.1)
    expected = [2e-3 * twins.infinite(t, **options) for t in range(100)]
    np.testing.assert_allclose(as_array(infinite(**options, peak_lr=2e-3), 100), expected, rtol=1e-13)


def test_infinite_trunk_and_branches_agree_bit_for_bit_before_the_anneal():
    options = dict(peak_lr=2e-3, warmup=8, cooldown=30, constant=0.55)
    trunk = as_array(Infinite(**options).build(500), 500)
    branch = as_array(Infinite(**options, anneal=20).build(90), 90)
    np.testing.assert_array_equal(trunk[:70], branch[:70])
    assert trunk[-1] == trunk[38] == 2e-3 * 0.55


def test_rewarm_redecay_equals_its_twin():
    running = cosine(40, warmup=5, peak_lr=3e-3, final=0.2)
    schedule = rewarm_redecay(running, start=40, updates=100, peak_lr=2e-3, warmup=9, final=0.1)
    expected = [twins.rewarm(t, start=40, low=3e-3 * 0.2, peak_lr=2e-3, updates=100, warmup=9, decay=51, final=0.1)
                for t in range(40, 110)]
    got = as_array(schedule, 110)
    np.testing.assert_array_equal(got[:40], as_array(running, 40))
    np.testing.assert_allclose(got[40:], expected, rtol=1e-13)


def test_rewarm_redecay_begins_where_a_running_schedule_stands():
    schedule = rewarm_redecay(constant(peak_lr=0.25), start=2**30 + 1, updates=2**30 + 101, peak_lr=1.0, warmup=10,
                              decay=20)
    for got in float32(schedule, np.array([0, 1, 6, 11, 81, 102]) + 2**30):
        np.testing.assert_allclose(got, [0.25, 0.25, 0.625, 1.0, 1.0, 0.1], rtol=1e-7)


def test_rewarm_redecay_may_be_repeated():
    once = RewarmRedecay(running=Linear(peak_lr=0.2, final=0.5), start=10, peak_lr=0.2, warmup=2)
    twice = RewarmRedecay(running=once, start=30, peak_lr=0.1, warmup=4)
    rates = as_array(twice.build(60), 60)
    np.testing.assert_array_equal(rates[:30], as_array(once.build(30), 30))
    np.testing.assert_allclose(rates[[30, 34]], [0.02, 0.1], rtol=1e-12)


@pytest.mark.parametrize("warmup, start, timescale, floor", [
    (10, None, None, 0.0), (0, None, None, 0.0), (10, 40, 40.0, 0.0), (10, 9, 10.0, 0.0), (5, 20, 20.0, 0.6)])
def test_inverse_sqrt_equals_its_twin(warmup, start, timescale, floor):
    schedule = inverse_sqrt(peak_lr=3e-3, warmup=warmup, start=start, timescale=timescale, floor=floor)
    first = warmup if start is None else start
    expected = [3e-3 * twins.inverse_sqrt(t, warmup=warmup, start=first, timescale=timescale or first + 1, floor=floor)
                for t in range(200)]
    np.testing.assert_allclose(as_array(schedule, 200), expected, rtol=1e-14)


def test_inverse_sqrt_of_vaswani_is_the_least_of_its_two_branches():
    rates = as_array(inverse_sqrt(warmup=10, start=9, timescale=10.0), 50)
    s = np.arange(1, 51)
    np.testing.assert_allclose(rates, np.minimum(s**-0.5, s * 10**-1.5) * 10**0.5, rtol=1e-14)


@pytest.mark.parametrize("warmup", [0, 5, 60])
def test_power_equals_its_twin(warmup):
    law = dict(tokens_per_update=4 * 128, scale=18.4, exponent=-0.51)
    start = power_start(0.09, **law)
    assert 10 < start < 100
    schedule = power(start=start, peak_lr=0.09, warmup=warmup)
    expected = [twins.power(t, warmup=warmup, peak_lr=0.09, **law) for t in range(300)]
    np.testing.assert_allclose(as_array(schedule, 300), expected, rtol=1e-12)


@pytest.mark.parametrize("schedule, twin", [
    (inverse_sqrt(warmup=2**24 + 3), lambda t: twins.inverse_sqrt(t, warmup=2**24 + 3, start=2**24 + 3,
                                                                  timescale=2**24 + 4)),
    (power(start=2.0**24 + 3.5), lambda t: min(1.0, (t / (2**24 + 3.5)) ** -0.51) if t else 1.0),
])
def test_long_runs_are_exact_at_the_start_of_the_decay_and_accurate_after(schedule, twin):
    t = np.array([2**24 + 2, 2**24 + 3, 2**24 + 5, 2**25, 2**30 + 1, BIG])
    for got in float32(schedule, t):
        np.testing.assert_array_equal(got[:2], [1.0, 1.0])
        np.testing.assert_allclose(got, [twin(int(s)) for s in t], rtol=0, atol=4e-7)


def test_power_start_counts_tokens_beyond_int32():
    # 1e13 tokens in the first update at which the power equals the peak.
    start = power_start(1e13**-0.5, tokens_per_update=10**7, scale=1.0, exponent=-0.5)
    assert start == pytest.approx(10**6, rel=1e-12)


def test_step_decay_drops_at_its_shares_of_the_run():
    rates = as_array(step_decay(1000, warmup=20, peak_lr=2e-3), 1001)
    np.testing.assert_allclose(rates[[19, 20, 799, 800, 899, 900, 1000]] / 2e-3,
                               [1, 1, 1, 0.316, 0.316, 0.316**2, 0.316**2], rtol=1e-14)


def test_with_cooldown_of_a_trunk_is_wsd_bit_for_bit():
    branch = with_cooldown(constant(peak_lr=3e-3, warmup=7), 60, decay=20, final=0.1)
    np.testing.assert_array_equal(as_array(branch, 70),
                                  as_array(wsd(60, decay=20, peak_lr=3e-3, warmup=7, final=0.1), 70))


def test_with_cooldown_begins_at_the_running_rate():
    running = inverse_sqrt(peak_lr=3e-3, warmup=7)
    rates = as_array(with_cooldown(running, 60, decay=20, shape="linear"), 61)
    np.testing.assert_array_equal(rates[:41], as_array(running, 41))
    np.testing.assert_allclose(rates[40:], rates[40] * np.arange(20, -1, -1) / 20, rtol=1e-14, atol=1e-20)


def test_join_takes_schedules_of_optax_and_gives_what_optax_does():
    pieces = [optax.linear_schedule(0.0, 1.0, 10), optax.constant_schedule(1.0), linear(20)]
    np.testing.assert_allclose(as_array(join(pieces, [10, 15]), 40),
                               as_array(optax.join_schedules(pieces[:2] + [optax.linear_schedule(1.0, 0.0, 20)],
                                                             [10, 15]), 40), rtol=0, atol=1e-7)  # its join is float32


@pytest.mark.parametrize("make, message", [
    (lambda: PowerShape(outer=0.0), "shape.outer = 0.0: must be finite and positive"),
    (lambda: InverseSqrtShape(timescale=-1.0), "shape.timescale = -1.0"),
    (lambda: half_life_decay(10, decay=11, half_life=5.0), "decay = 11: must not be longer than the run"),
    (lambda: HalfLife(peak_lr=1.0, decay=0, half_life=5.0), "decay = 0: must be at least 1"),
    (lambda: HalfLife(peak_lr=1.0, decay=1000, half_life=5.0), "half_life = 5.0: .* at least decay/100 = 10"),
    (lambda: CosineTail(peak_lr=1.0, warmup=5, tail=5).build(10), "tail = 5: must leave an update to the cosine"),
    (lambda: CosineTail(peak_lr=1.0, tail=-1), "tail = -1: must not be negative"),
    (lambda: infinite(10, cooldown=5, constant=0.5, anneal=4, warmup=2),
     r"warmup \+ cooldown \+ anneal = 11: must not be longer than the run, updates = 10 \(warmup = 2, cooldown = 5"),
    (lambda: Infinite(peak_lr=1.0, cooldown=0, constant=0.5), "cooldown = 0"),
    (lambda: Infinite(peak_lr=1.0, cooldown=1, constant=1.5), r"constant = 1.5: .* \(0, 1\]"),
    (lambda: Infinite(peak_lr=1.0, cooldown=1, constant=0.5, final=0.6), "final = 0.6: .* constant = 0.5"),
    (lambda: Infinite(peak_lr=1.0, cooldown=1, constant=0.5, anneal=-1), "anneal = -1"),
    (lambda: rewarm_redecay(linear(5), start=10, updates=10, peak_lr=1.0), "start = 10: must be an update of the run"),
    (lambda: rewarm_redecay(linear(5), start=5, updates=10, peak_lr=1.0, warmup=5),
     r"warmup \+ decay = 6: must not be longer than the 5 updates from start = 5 on"),
    (lambda: rewarm_redecay(linear(5), start=5, updates=10, peak_lr=-1.0), "peak_lr = -1.0"),
    (lambda: RewarmRedecay(running=Linear(peak_lr=1.0), start=0, peak_lr=1.0), "start = 0: must be at least 1"),
    (lambda: RewarmRedecay(running=Linear(peak_lr=1.0), start=5, peak_lr=1.0, decay=-1), "decay = -1"),
    (lambda: inverse_sqrt(start=-1), "start = -1"), (lambda: inverse_sqrt(timescale=0.0), "timescale = 0.0"),
    (lambda: inverse_sqrt(floor=2.0), "floor = 2.0"), (lambda: InverseSqrt(peak_lr=1.0, timescale=-1.0), "timescale"),
    (lambda: InverseSqrt(peak_lr=1.0, warmup=5, decay=6).build(10), r"warmup \+ decay = 11"),
    (lambda: Power(peak_lr=1.0, start=0.0), "start = 0.0"), (lambda: power(start=1.0, exponent=0.5), "exponent = 0.5"),
    (lambda: Power(peak_lr=1.0, start=1.0, warmup=5, decay=6).build(10), r"warmup \+ decay = 11"),
    (lambda: power_start(0.0, tokens_per_update=1, scale=1.0), "peak_lr = 0.0"),
    (lambda: power_start(1.0, tokens_per_update=0, scale=1.0), "tokens_per_update = 0"),
    (lambda: StepDecay(peak_lr=1.0, at=(0.9, 0.8)), r"at = \(0.9, 0.8\): must be shares .* that ascend"),
    (lambda: StepDecay(peak_lr=1.0, at=(1.0,)), r"at = \(1.0,\)"),
    (lambda: StepDecay(peak_lr=1.0, factor=-0.1), "factor = -0.1"),
    (lambda: StepDecay(peak_lr=1.0).build(4), "at = .*: must lie at different updates of the 4"),
    (lambda: StepDecay(peak_lr=1.0, warmup=9).build(10), "at = .*none before the warm-up of 9 ends"),
    (lambda: join([constant()], [5]), r"boundaries = \[5\]: must be one fewer than the schedules, 1"),
    (lambda: join([constant()] * 3, [5, 5]), r"boundaries\[1\] = 5: must be .* above 5"),
    (lambda: with_cooldown(constant(), 10, decay=11), "decay = 11: must not be longer than the run"),
])
def test_mistakes_are_named_in_one_line(make, message):
    with pytest.raises(ConfigError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
