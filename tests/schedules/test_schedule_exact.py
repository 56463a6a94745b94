"""Exact boundaries, float32 accuracy at any step, and equality with the independent twins."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from schedule_twins import rate, rates

from jaxlm.schedules import WSD, Warmup, as_array, constant, cosine, linear, wsd

SHAPES = ("linear", "sqrt", "cosine", "square", "mirror_cosine", "exponential", "inverse")

# Lengths whose boundaries float32 cannot represent: 2**24 + odd, 2**30 + odd, and the end of int32.
LONG = [dict(updates=2**24 + 5001, warmup=1777, decay=2**23 + 11),
        dict(updates=2**30 + 12345, warmup=2**24 + 3, decay=2**29 + 1),
        dict(updates=2**31 - 1, warmup=2**30, decay=2**30 - 7)]


def on_each_device_path(schedule, t):
    t = jnp.asarray(t, jnp.int32)
    return [np.asarray(schedule(t)), np.asarray(jax.jit(schedule)(t))]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("inclusive", [False, True])
def test_wsd_equals_its_twin(shape, inclusive):
    options = dict(updates=120, decay=37, shape=shape, final=0.07, peak_lr=3e-4)
    schedule = wsd(**options, warmup=13, end="inclusive" if inclusive else "exclusive")
    expected = rates(130, **options, warmup=13, inclusive=inclusive)
    # Both are float64; a few roundings each.
    np.testing.assert_allclose(as_array(schedule, 130), expected, rtol=1e-14)


@pytest.mark.parametrize("initial", [None, 0.0, 0.1, 1.0])
@pytest.mark.parametrize("steps", [0, 1, 2, 49])
def test_warmup_equals_its_twin(initial, steps):
    schedule = constant(peak_lr=2.0, warmup=Warmup(steps=steps, initial=initial))
    expected = rates(60, updates=60, warmup=steps, decay=0, peak_lr=2.0, initial=initial)
    np.testing.assert_allclose(as_array(schedule, 60), expected, rtol=1e-15)


def test_linear_equals_its_twin():
    expected = rates(110, updates=100, warmup=7, decay=93, final=0.2)
    np.testing.assert_allclose(as_array(linear(100, warmup=7, final=0.2), 110), expected, rtol=1e-14)


def test_cosine_equals_its_twin():
    expected = rates(110, updates=100, warmup=7, decay=93, shape="cosine", final=0.2)
    np.testing.assert_allclose(as_array(cosine(100, warmup=7, final=0.2), 110), expected, rtol=1e-14)


@pytest.mark.parametrize("long", LONG)
@pytest.mark.parametrize("shape", SHAPES)
def test_boundaries_are_exact_in_float32(long, shape):
    schedule = wsd(**long, shape=shape, final=0.25)
    start, end = long["updates"] - long["decay"], long["updates"]
    t = [long["warmup"] - 1, long["warmup"], start - 1, start] + [end] * (end < 2**31 - 1)
    for got in on_each_device_path(schedule, t):
        np.testing.assert_array_equal(got, [1.0] * 4 + [0.25] * (len(t) - 4))


@pytest.mark.parametrize("long", LONG)
@pytest.mark.parametrize("shape", SHAPES)
def test_float32_is_within_4e_7_of_the_peak(long, shape):
    schedule = wsd(**long, shape=shape, final=0.1)
    start, end = long["updates"] - long["decay"], long["updates"]
    near = np.arange(-20, 20)
    t = np.concatenate([near + long["warmup"], near + start, near[near < 0] + end,
                        np.linspace(0, end - 1, 80).astype(np.int64)])
    expected = [rate(int(step), **long, shape=shape, final=0.1) for step in t]
    for got in on_each_device_path(schedule, t):
        # The contract; 2.0e-7 is the worst measured over 20,000 steps of each shape.
        np.testing.assert_allclose(got, expected, rtol=0, atol=4e-7)


def test_neighbouring_updates_differ_above_2_to_24():
    # A clock in float32 would repeat every second value here.
    schedule = wsd(2**24 + 2000, decay=1000, shape="linear")
    t = jnp.arange(2**24 + 1000, 2**24 + 2001, dtype=jnp.int32)
    np.testing.assert_allclose(np.asarray(schedule(t)), np.arange(1000, -1, -1) / 1000, rtol=2e-7)


def test_rates_near_zero_keep_their_relative_precision_in_float32():
    schedule = linear(1_000_003)
    t = np.arange(1_000_000, 1_000_003, dtype=np.int32)
    np.testing.assert_allclose(np.asarray(schedule(t)), np.array([3, 2, 1]) / 1_000_003, rtol=2e-7)


def test_last_update_of_an_inclusive_decay_of_one_update_is_final():
    assert float(wsd(5, decay=1, final=0.5, end="inclusive")(4)) == 0.5


def test_inclusive_decay_of_one_update_keeps_the_peak_before_it():
    assert float(wsd(5, decay=1, final=0.5, end="inclusive")(3)) == 1.0


def random_cases(count: int) -> list[tuple[int, int, int, str, float]]:
    rng = np.random.default_rng(7)
    cases = []
    for _ in range(count):
        warmup, stable, decay = (int(n) for n in rng.integers(1, 60, 3))
        shape = SHAPES[rng.integers(len(SHAPES))]
        cases.append((warmup, warmup + stable, decay, shape, float(10.0 ** rng.uniform(-5, 1))))
    return cases


@pytest.mark.parametrize("warmup, branch, decay, shape, peak_lr", random_cases(12))
def test_trunk_and_branch_agree_bit_for_bit_before_the_branch(warmup, branch, decay, shape, peak_lr):
    trunk = WSD(peak_lr=peak_lr, warmup=warmup)
    leaf = WSD(peak_lr=peak_lr, warmup=warmup, decay=decay, shape=shape, final=0.1)
    left = as_array(trunk.build(500), 500)[:branch]
    right = as_array(leaf.build(branch + decay), branch + decay)[:branch]
    np.testing.assert_array_equal(left, right)
    np.testing.assert_array_equal(left.astype(np.float32), right.astype(np.float32))


@pytest.mark.parametrize("warmup, branch, decay, shape, peak_lr", random_cases(4))
def test_trunk_and_branch_agree_bit_for_bit_inside_jit(warmup, branch, decay, shape, peak_lr):
    t = jnp.arange(branch, dtype=jnp.int32)
    trunk = WSD(peak_lr=peak_lr, warmup=warmup).build(500)
    leaf = WSD(peak_lr=peak_lr, warmup=warmup, decay=decay, shape=shape, final=0.1).build(branch + decay)
    np.testing.assert_array_equal(np.asarray(jax.jit(trunk)(t)), np.asarray(jax.jit(leaf)(t)))
