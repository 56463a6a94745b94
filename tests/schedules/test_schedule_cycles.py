"""WSD-S and cyclic cosine: twins, one cycle, exact boundaries, mistakes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import schedule_twins as twins

from jaxlm.config import ConfigError
from jaxlm.schedules import WSD, WSDS, CyclicCosine, Warmup, as_array, constant, cosine, cyclic_cosine, wsd, wsd_s

ENDS = [40, 75, 130]


@pytest.mark.parametrize("shape", ["inverse", "linear", "sqrt"])
@pytest.mark.parametrize("rewarmup", [0, 6])
@pytest.mark.parametrize("decays, peaks", [([9, 9, 9], None), ([5, 10, 21], [1.0, 0.75, 0.5])])
def test_wsd_s_equals_its_twin(shape, rewarmup, decays, peaks):
    options = dict(warmup=7, rewarmup=rewarmup, shape=shape, final=0.2)
    expected = [3e-3 * twins.wsd_s(t, ends=ENDS, decays=decays, peaks=peaks, **options) for t in range(140)]
    schedule = wsd_s(ENDS, decay=decays, peak_lr=3e-3, peaks=peaks or (), **options)
    np.testing.assert_allclose(as_array(schedule, 140), expected, rtol=1e-14)


@pytest.mark.parametrize("warmup, rewarmup", [(0, 0), (5, 5), (8, 3)])
def test_cyclic_cosine_equals_its_twin(warmup, rewarmup):
    options = dict(warmup=warmup, rewarmup=rewarmup, final=0.1)
    expected = [twins.cyclic_cosine(t, ends=ENDS, **options) for t in range(140)]
    np.testing.assert_allclose(as_array(cyclic_cosine(130, cycles=ENDS, **options), 140), expected, rtol=1e-14)


def test_a_count_of_cycles_makes_them_equal_to_within_one_update():
    rates = as_array(cyclic_cosine(10, cycles=3, final=0.5), 10)
    assert np.flatnonzero(rates == 1.0).tolist() == [0, 3, 6]


@pytest.mark.parametrize("shape", ["inverse", "sqrt"])
def test_one_cycle_of_wsd_s_is_wsd_bit_for_bit(shape):
    options = dict(decay=11, peak_lr=3e-3, warmup=7, shape=shape, final=0.1)
    one, other = wsd_s([60], **options), wsd(60, **options)
    np.testing.assert_array_equal(as_array(one, 70), as_array(other, 70))
    t = jnp.arange(70)
    np.testing.assert_array_equal(np.asarray(jax.jit(one)(t)), np.asarray(jax.jit(other)(t)))


def test_one_cycle_of_cyclic_cosine_is_cosine_bit_for_bit():
    options = dict(peak_lr=3e-3, warmup=7, final=0.1)
    np.testing.assert_array_equal(as_array(cyclic_cosine(60, cycles=1, **options), 70),
                                  as_array(cosine(60, **options), 70))


def test_one_cycle_of_the_configurations_too():
    one = WSDS(peak_lr=3e-3, warmup=7, ends=(60,), decay=11, shape="sqrt", final=0.0)
    other = WSD(peak_lr=3e-3, warmup=7, decay=11)
    np.testing.assert_array_equal(as_array(one.build(60), 60), as_array(other.build(60), 60))


def test_a_longer_run_agrees_with_a_shorter_one_up_to_its_last_decay_bit_for_bit():
    # What lets a run of WSD-S go on from where a shorter one ended.
    long = as_array(WSDS(peak_lr=3e-3, warmup=7, ends=(40, 75, 130), decay=9).build(130), 130)
    short = as_array(WSDS(peak_lr=3e-3, warmup=7, ends=(40, 75), decay=9).build(75), 75)
    trunk = as_array(constant(peak_lr=3e-3, warmup=7), 31)
    np.testing.assert_array_equal(long[:75], short)
    np.testing.assert_array_equal(long[:31], trunk)


@pytest.mark.parametrize("shape", ["inverse", "linear", "sqrt"])
def test_boundaries_are_exact_in_float32_at_any_update(shape):
    ends = [2**24 + 5001, 2**30 + 12345, 2**31 - 1]
    schedule = wsd_s(ends, decay=1777, warmup=3001, shape=shape, final=0.25)
    t, expected = [], []
    for end in ends:
        t += [end - 1778, end - 1777] + [end] * (end < 2**31 - 1)
        expected += [1.0, 1.0] + [1.0] * (end < 2**31 - 1)
    for evaluate in (schedule, jax.jit(schedule)):
        np.testing.assert_array_equal(np.asarray(evaluate(jnp.asarray(t, jnp.int32))), expected)
        near = np.concatenate([np.arange(-1776, 0, 97) + end for end in ends])
        exact = [twins.wsd_s(int(s), ends=ends, decays=[1777] * 3, warmup=3001, rewarmup=0, shape=shape, final=0.25)
                 for s in near]
        np.testing.assert_allclose(np.asarray(evaluate(jnp.asarray(near, jnp.int32))), exact, rtol=0, atol=4e-7)


def test_rewarmup_begins_at_the_final_rate_and_ends_at_the_peak_exactly():
    schedule = jax.jit(wsd_s([2**30 + 1, 2**30 + 1001], decay=100, rewarmup=11, shape="linear", final=0.25))
    got = schedule(jnp.asarray([2**30 + 1, 2**30 + 12, 2**30 + 13], jnp.int32))
    np.testing.assert_array_equal(np.asarray(got), [0.25, 1.0, 1.0])


def test_rewarmup_takes_the_convention_of_sgdr():
    rates = as_array(cyclic_cosine(20, cycles=2, warmup=Warmup(steps=2, initial=0.0),
                                   rewarmup=Warmup(steps=2, initial=0.0)), 20)
    np.testing.assert_array_equal(rates[:10], rates[10:])
    assert rates[10] == 0.0 and rates[12] == 1.0


@pytest.mark.parametrize("make, message", [
    (lambda: wsd_s([], decay=1), r"ends = \[\]: must be the end of at least one cycle"),
    (lambda: wsd_s([10, 10], decay=1), r"ends\[1\] = 10: must be a whole number of updates above 10, the one before"),
    (lambda: wsd_s([20, 10], decay=1), r"ends\[1\] = 10: must be .* above 20"),
    (lambda: wsd_s([0], decay=1), r"ends\[0\] = 0: must be .* above 0$"),
    (lambda: wsd_s([2**31], decay=1), r"ends\[0\] = 2147483648"),
    (lambda: wsd_s([10.0], decay=1), r"ends\[0\] = 10.0"),
    (lambda: wsd_s([10], decay=11),
     r"ends\[0\] = 10: cycle 0 has 10 updates, too few for warm-up 0 and decay 11"),
    (lambda: wsd_s([10, 20], decay=6, warmup=5), r"ends\[0\] = 10: .* warm-up 5 and decay 6"),
    (lambda: wsd_s([10, 20], decay=6, rewarmup=5), r"ends\[1\] = 20: cycle 1 .* re-warm-up 5 and decay 6"),
    (lambda: wsd_s([10, 20], decay=[3, 11]), r"ends\[1\] = 20: cycle 1 has 10 updates"),
    (lambda: wsd_s([10, 20], decay=[3]), r"decay = \[3\]: must be one number, or one for each of 2 cycles"),
    (lambda: wsd_s([10], decay=0), "decay = 0: must be at least 1"),
    (lambda: wsd_s([10], decay=2, peak_lr=-1.0), "peak_lr = -1.0: must be finite and not negative"),
    (lambda: wsd_s([10], decay=2, final=0.0), "final = 0.0: must be > 0 for the shape 'inverse'"),
    (lambda: wsd_s([10], decay=2, shape="stairs"), "shape = 'stairs': must be one of linear"),
    (lambda: wsd_s([10], decay=2, peaks=[1.0, 0.5]), r"peaks = \[1.0, 0.5\]: must be one for each of 1 cycles"),
    (lambda: wsd_s([10], decay=2, peaks=[-1.0]), r"peaks = \[-1.0\]: must be finite and positive"),
    (lambda: wsd_s([10, 20], decay=2, rewarmup=2, final=0.5, peaks=[1.0, 0.25]),
     r"peaks\[1\] = 0.25: must not lie below the rate that cycle 0 ends at"),
    (lambda: cyclic_cosine(10, cycles=0), r"cycles = 0: must lie in 1..updates = 10"),
    (lambda: cyclic_cosine(10, cycles=11), r"cycles = 11"),
    (lambda: cyclic_cosine(10, cycles=[5, 9]), r"cycles = \(5, 9\): the last cycle must end .* updates = 10"),
    (lambda: cyclic_cosine(10, cycles=2, warmup=5), r"ends\[0\] = 5: cycle 0 has 5 updates, too few for warm-up 5"),
    (lambda: WSDS(peak_lr=1.0, ends=(10, 5), decay=2), r"ends\[1\] = 5"),
    (lambda: WSDS(peak_lr=1.0, ends=(10,), decay=2, rewarmup=-1), "rewarmup = -1: must be a whole number"),
    (lambda: CyclicCosine(peak_lr=1.0, cycles=2, rewarmup=-1), "rewarmup = -1: must be a whole number"),
    (lambda: WSDS(peak_lr=0.0, ends=(10,), decay=2), "peak_lr = 0.0: must be finite and positive"),
    (lambda: WSDS(peak_lr=1.0, ends=(10, 20), decay=2).build(30),
     r"ends = \(10, 20\): the last cycle must end with the run, updates = 30"),
    (lambda: CyclicCosine(peak_lr=1.0, cycles=0), "cycles = 0"),
    (lambda: CyclicCosine(peak_lr=1.0, cycles=(5, 5)), r"cycles\[1\] = 5"),
    (lambda: CyclicCosine(peak_lr=1.0, cycles=(5, 9)).build(10), r"cycles = \(5, 9\): the last cycle must end"),
])
def test_mistakes_are_named_in_one_line(make, message):
    with pytest.raises(ConfigError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
