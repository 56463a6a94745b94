"""Noise scale, update ratio and spikes from numbers whose answer is known."""

import numpy as np
import pytest

from scaling.diagnostics import estimate_noise_scale, spike_score, spikes
from scaling.errors import InputError


# The gradient noise scale.

def gaussian_norms(rng, *, rows, small=4, big=64):
    """(|g_small|^2, |g_big|^2, tr(Sigma) / |G|^2, |G|^2, tr(Sigma)): averages of Gaussian gradients."""
    mean, deviation = rng.normal(size=50), rng.uniform(0.5, 5.0, 50)
    parts = rng.normal(mean, deviation / np.sqrt(small), (rows, big // small, 50))
    small_sq = (parts**2).sum(-1).mean(1)
    big_sq = (parts.mean(1) ** 2).sum(-1)
    trace, square = (deviation**2).sum(), (mean**2).sum()
    return small_sq, big_sq, trace / square, square, trace


def test_gaussian_gradients_with_known_covariance():
    small_sq, big_sq, truth, square, trace = gaussian_norms(np.random.default_rng(0), rows=4000)
    found = estimate_noise_scale(small_sq, big_sq, small_batch=4, big_batch=64, decay=0.999, tokens_per_sequence=128)
    assert found.sequences[-1] == pytest.approx(truth, rel=0.05)
    assert found.grad_sq[-1] == pytest.approx(square, rel=0.05) and found.noise[-1] == pytest.approx(trace, rel=0.05)
    assert found.tokens[-1] == 128 * found.sequences[-1]


def test_estimates_are_unbiased_over_rows():
    small_sq, big_sq, _, square, trace = gaussian_norms(np.random.default_rng(1), rows=20000)
    each = estimate_noise_scale(small_sq, big_sq, small_batch=4, big_batch=64, decay=0.0)
    for values, truth in ((each.grad_sq, square), (each.noise, trace)):
        assert abs(values.mean() - truth) < 4 * values.std() / np.sqrt(values.size)


def test_exact_norms_give_the_exact_scale_from_the_first_row():
    # |G|^2 = 3, tr(Sigma) = 24: |g_B|^2 = 3 + 24 / B; the correction makes the first row exact.
    found = estimate_noise_scale(np.full(3, 3 + 24 / 2), np.full(3, 3 + 24 / 16), small_batch=2, big_batch=16)
    np.testing.assert_allclose(found.sequences, 8.0, rtol=1e-12)
    np.testing.assert_allclose(found.grad_sq, 3.0, rtol=1e-12)
    np.testing.assert_array_equal(found.steps, [0, 1, 2])
    assert np.isnan(found.tokens).all()


def test_batches_may_differ_from_row_to_row():
    small, big = np.array([1.0, 2, 4]), np.array([8.0, 16, 64])
    found = estimate_noise_scale(3 + 24 / small, 3 + 24 / big, small_batch=small, big_batch=big)
    np.testing.assert_allclose(found.sequences, 8.0, rtol=1e-12)


def test_averages_decay_and_skip_rows_without_values():
    small_sq, big_sq, *_ = gaussian_norms(np.random.default_rng(2), rows=5)
    small_sq[2] = np.nan
    found = estimate_noise_scale(small_sq, big_sq, small_batch=4, big_batch=64, decay=0.9)
    noise = ((small_sq - big_sq) / (1 / 4 - 1 / 64))[[0, 1, 3, 4]]
    weights = 0.9 ** np.array([3, 2, 1, 0])
    assert found.noise[-1] == pytest.approx((weights * noise).sum() / weights.sum(), rel=1e-12)
    assert np.isnan(found.noise[2]) and np.isnan(found.sequences[2])


def test_a_gradient_drowned_in_noise_has_no_scale():
    found = estimate_noise_scale(np.array([17.0]), np.array([1.0]), small_batch=1, big_batch=16)
    assert found.grad_sq[0] < 0 and np.isnan(found.sequences[0])


@pytest.mark.parametrize(("arguments", "text"), [
    ({"small_batch": 4, "big_batch": 4}, "small_batch, big_batch"),
    ({"small_batch": 0, "big_batch": 4}, "small_batch, big_batch"),
    ({"small_batch": np.nan, "big_batch": 4}, "small_batch, big_batch"),
    ({"small_batch": 1, "big_batch": 4, "decay": 1.0}, "decay = 1.0: must lie in"),
])
def test_wrong_arguments_of_the_noise_scale(arguments, text):
    with pytest.raises(InputError, match=text.replace("[", r"\[")):
        estimate_noise_scale(np.ones(2), np.ones(2), **arguments)


def test_norms_of_two_shapes_are_refused():
    with pytest.raises(InputError, match="must be .rows. both"):
        estimate_noise_scale(np.ones(2), np.ones(3), small_batch=1, big_batch=2)


# Spikes.

def brute_force(loss, *, window, threshold, least):
    """The definition, a value at a time."""
    before, found = [], []
    for index, value in enumerate(loss):
        if not np.isfinite(value):
            continue
        last = np.array(before[-window:])
        if len(last) >= min(least, window):
            deviation = last.std()
            if value != last[0] if (last == last[0]).all() else abs(value - last.mean()) >= threshold * deviation:
                found.append(index)
        before.append(value)
    return found


def noisy(length, seed=0):
    rng = np.random.default_rng(seed)
    return 3 + 2 * np.exp(-np.arange(length) / 500) + rng.normal(0, 0.02, length)


def test_planted_spikes_are_found_and_nothing_else():
    loss, planted = noisy(6000), [1500, 2300, 2301, 5999]
    loss[planted] += 1.5
    np.testing.assert_array_equal(spikes(loss), planted)
    assert spike_score(loss) == 4 / 6000


def test_a_sudden_fall_counts_too():
    loss = noisy(3000)
    loss[2500] -= 1.5
    np.testing.assert_array_equal(spikes(loss), [2500])


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_definition_value_by_value(seed):
    rng = np.random.default_rng(seed)
    loss = rng.standard_t(2, 3000)  # heavy tails: many spikes
    loss[rng.integers(0, 3000, 40)] = rng.choice([np.nan, np.inf, -np.inf], 40)
    loss[400:430] = 1.25
    options = {"window": 20, "threshold": 3.0, "least": 5}
    found = spikes(loss, **options)
    np.testing.assert_array_equal(found, brute_force(loss, **options))
    assert found.size > 50


def test_later_values_change_nothing():
    loss = noisy(2000)
    loss[1200] += 1.0
    whole = spikes(loss)
    for length in (1200, 1201, 1500):
        np.testing.assert_array_equal(spikes(loss[:length]), whole[whole < length])


def test_the_tail_alone_gives_the_same_judgement():
    loss = noisy(2500)
    loss[[700, 2100]] += 1.0
    tail = loss[-1400:]  # a window and 400 new values
    np.testing.assert_array_equal(spikes(tail, first=1000) + 1100, [2100])


def test_the_first_values_are_not_judged():
    loss = np.random.default_rng(0).normal(3, 0.02, 200)
    loss[[99, 100]] += 0.5, 50.0
    np.testing.assert_array_equal(spikes(loss), [100])
    np.testing.assert_array_equal(spikes(loss, least=99), [99, 100])


def test_constant_values_are_no_spikes_and_the_first_other_one_is():
    loss = np.full(300, 0.1)  # a mean that rounding sets beside 0.1
    assert spikes(loss).size == 0
    loss[200] += 1e-9
    np.testing.assert_array_equal(spikes(loss), [200])


def test_values_that_are_not_finite_are_no_spikes_and_count_for_nothing():
    loss = noisy(1500)
    loss[[700, 800]] = np.nan, np.inf
    loss[900] += 6.0  # the first values still fall by more than one
    np.testing.assert_array_equal(spikes(loss), [900])
    assert spike_score(loss) == 1 / 1498 and np.isnan(spike_score(np.array([np.nan])))


@pytest.mark.parametrize("loss", [[], [1.0], [np.nan] * 5])
def test_too_few_values(loss):
    assert spikes(np.array(loss)).size == 0


@pytest.mark.parametrize("arguments", [{"window": 1}, {"least": 1}, {"first": -1}, {"threshold": 0.0}])
def test_wrong_arguments_of_spikes(arguments):
    (name, value), = arguments.items()
    with pytest.raises(InputError, match=f"{name} = {value}: must be "):
        spikes(noisy(50), **arguments)
