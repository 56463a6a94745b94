"""Small problems with known theory: closed forms against simulation, exponents, bounds, bad input."""

import importlib
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.config import ConfigError

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "experiments" / "testbeds"))
bounds, factors, last, noisy, valley, verdicts = (
    importlib.import_module(name)
    for name in ("bounds", "matrix_factorization", "last_iterate", "noisy_quadratic", "river_valley", "verdicts"))


# Noisy quadratic.

def test_the_recursion_is_the_closed_form():
    problem = noisy.NoisyQuadratic(size=5, noise=3.0, start=2.0)
    for rate in (0.1, 1.7):  # 1.7 overshoots in the sharpest coordinate
        along = noisy.losses(problem, jnp.full(20, rate), batch=4)
        exact = [noisy.expected_loss(problem, rate, batch=4, steps=t) for t in range(21)]
        np.testing.assert_allclose(along, exact, rtol=2e-6)


def test_the_simulation_has_the_mean_that_theory_gives():
    problem = noisy.NoisyQuadratic(size=5)
    rates = jnp.linspace(0.9, 0.1, 20)
    keys = jax.random.split(jax.random.key(1), 2000)
    runs = jax.jit(jax.vmap(lambda key: noisy.simulate(problem, rates, batch=2, key=key)))(keys)
    sample, exact = np.asarray(runs)[:, 1:], np.asarray(noisy.losses(problem, rates, batch=2))[1:]
    scores = (sample.mean(0) - exact) / (sample.std(0, ddof=1) / np.sqrt(len(sample)))
    assert np.abs(scores).max() < 4, scores


def test_a_long_run_ends_at_the_steady_loss():
    problem = noisy.NoisyQuadratic(size=4)
    assert noisy.steady_loss(problem, 0.5, batch=8) == pytest.approx(
        0.5 * sum(0.5 * h / (8 * (2 - 0.5 * h)) for h in (1, 1 / 2, 1 / 3, 1 / 4)))
    assert noisy.expected_loss(problem, 0.5, batch=8, steps=1e4) == pytest.approx(noisy.steady_loss(problem, 0.5, batch=8))


def test_perfect_scaling_ends_at_the_noiseless_run():
    problem, target = noisy.NoisyQuadratic(size=16), 0.02
    (slow_rate, slow), (rate, steps) = (noisy.fewest_steps(problem, target, batch=batch) for batch in (0.5, 1))
    assert slow / steps == pytest.approx(2, rel=0.05) and rate / slow_rate == pytest.approx(2, rel=0.05)
    assert noisy.fewest_steps(problem, target, batch=1 / 64)[1] / 64 == pytest.approx(
        noisy.fewest_examples(problem, target), rel=0.01)
    least = noisy.fewest_steps(noisy.NoisyQuadratic(size=16, noise=0.0), target, batch=1)[1]
    assert noisy.fewest_steps(problem, target, batch=2**20)[1] == pytest.approx(least, rel=0.01)


def test_no_schedule_beats_the_best_decay_of_one_coordinate():
    problem = noisy.NoisyQuadratic(size=1)
    best = noisy.best_decay(problem, 50, batch=1)
    found = noisy.tuned(problem, 2.0 ** np.arange(-6, 1, 0.5), updates=50, batch=1)
    assert all(best < losses.min() for losses in found.values())
    moment, rates = 1.0, []
    for _ in range(50):
        rates.append(moment / (moment + 1))
        moment /= 1 + moment
    assert float(noisy.losses(problem, jnp.array(rates), batch=1)[-1]) == pytest.approx(best, rel=1e-5)


# Last iterate.

def test_the_general_bound_is_the_textbook_one_for_two_points():
    # By hand, D = M = 1, rates (s, s): 1/(4s) + s/2 + s/2 * (2 s^2)/(2s * s) / s.
    found = bounds.any_schedule([1.0, 1.0], distance=1.0, moment=1.0)
    assert found.step == pytest.approx(0.5) and found.gap == pytest.approx(1 / (4 * 0.5) + 0.5 / 2 + 0.5 / 2)


@pytest.mark.parametrize(("shape", "per_log"), [("linear", 0.0), ("constant", 0.5)])
def test_the_general_bound_has_a_logarithm_unless_the_rate_decays(shape, per_log):
    squared = [bounds.any_schedule(last.multipliers(shape, t), distance=1.0, moment=1.0).gap ** 2 * t
               for t in (256, 1024, 4096)]
    growth = np.diff(squared) / np.log(4)
    # a/step + b step at its best is 2 sqrt(ab), b growing by 1/2 per unit of log T where the rate is constant.
    assert growth[-1] == pytest.approx(2 * per_log, abs=0.02)


def test_linear_decay_is_within_both_its_bounds():
    tight = bounds.linear_decay(64, lipschitz=1.0, distance=2.0, sigma=1.0)
    assert tight.gap == pytest.approx(2 * 2**0.5 / 8)
    assert tight.gap <= bounds.for_class(last.multipliers("linear", 64), lipschitz=1.0, distance=2.0, sigma=1.0).gap


@pytest.mark.parametrize("p", [1.25, 1.5, 1.75])
def test_clipped_guarantees_fall_at_the_rate_of_heavy_tails_but_for_a_logarithm(p):
    times = 2 ** np.array([10, 13, 16])
    gaps = np.array([bounds.for_class(1 - np.arange(t) / t, lipschitz=1.0, distance=1.0, sigma=1.0, p=p).gap
                     for t in times])
    scaled = gaps * times ** bounds.exponent(p)  # a + b log T
    np.testing.assert_allclose(np.diff(scaled)[1:], np.diff(scaled)[:-1], rtol=0.02)


@pytest.mark.parametrize("p", [2.0, 1.75])
def test_noise_has_the_moment_it_declares(p):
    noise = last.Noise(p=p, sigma=3.0, tail=1.0)
    sample = np.asarray(noise.sample(jax.random.key(0), (200_000,)))
    assert np.mean(np.abs(sample) ** p) ** (1 / p) == pytest.approx(3.0, rel=0.05)
    assert abs(np.mean(np.sign(sample))) < 0.01


def test_gaps_fall_with_the_square_root_and_stay_below_the_bound():
    problem, horizons = last.Slopes(count=10, least=2.0**-6), np.array([16, 64, 256])
    found = last.measure(problem, horizons, noise=last.Noise(), clipped=False, runs=200)
    assert verdicts.slope(horizons, found["gap"][:, 0])[0] == pytest.approx(-0.5, abs=0.1)
    assert (found["gap"] < found["bound"]).all()
    assert (np.diff(found["quantiles"], axis=2) >= 0).all()


def test_without_noise_the_last_iterate_is_what_plain_steps_give():
    problem, rates = last.Slopes(count=2, least=0.5), np.array([0.7, 0.6, 0.2])
    quiet = last.last_gaps(problem, jnp.asarray(rates)[:, None], updates=2, noise=last.Noise(sigma=1e-12),
                           clip=np.inf, radius=np.inf, runs=3, key=jax.random.key(0))
    np.testing.assert_allclose(quiet[0], [[0.5 * 0.35] * 3, [0.3] * 3], atol=1e-6)  # 1.3 overshoots by 0.3


def test_the_staircase_costs_a_logarithm_only_without_decay():
    sizes = (16, 64, 256)
    by_sqrt = [last.staircase(last.multipliers("1/sqrt(t)", t)) for t in sizes]
    assert all(np.log(t) / 32 <= f <= (1 + np.log(t)) / 16 for t, f in zip(sizes, by_sqrt, strict=True))
    by_decay = [last.staircase(last.multipliers("linear", t) / np.sqrt(t)) for t in sizes]
    np.testing.assert_allclose(by_decay, 7 / 128, rtol=0.15)


# Matrix factorisation.

def test_plain_descent_counts_as_written_out():
    problem = factors.Factorization(kappa=2.0, rows=4, columns=3, rank=2, width=5, scale=5.0)
    a, x = problem.draw(0)
    np.testing.assert_allclose(np.linalg.svd(a, compute_uv=False)[:2], [1, 0.5])
    step, y, count = factors.step_and_momentum(x, 2)[0], np.zeros((3, 5)), 0
    while np.linalg.norm(x @ y.T - a) > 1e-3 * np.linalg.norm(a):
        error = x @ y.T - a
        x, y, count = x - step * error @ y, y - step * error.T @ x, count + 1
    assert factors.count_updates(problem, seeds=1, accuracy=1e-3)["GD"][0] == count


def test_the_updates_grow_like_kappa_squared_and_kappa():
    kappas = np.array([4, 8, 16])
    counts = [factors.count_updates(factors.Factorization(kappa=float(k), rank=2), seeds=2, accuracy=1e-8) for k in kappas]
    for name, power in (("GD", 2), ("NAG", 1)):
        assert verdicts.slope(kappas, np.array([count[name].mean() for count in counts]))[0] == pytest.approx(power, abs=0.2)
    np.testing.assert_allclose([count["GD"] for count in counts], [count["frozen"] for count in counts], rtol=0.05)
    assert not jax.config.jax_enable_x64


# River valley.

def test_river_and_hills_follow_their_theories():
    problem, rates = valley.Bigram(tokens=4, rate=0.2), np.full(400, 0.2)
    runs = jax.jit(jax.vmap(lambda key: valley.simulate(problem, jnp.asarray(rates), key=key)))
    mean = np.asarray(runs(jax.random.split(jax.random.key(0), 256))).mean(0)
    assert mean[-1, 1] == pytest.approx(valley.river(problem, 80.0), rel=0.05)
    assert mean[-100:, 0].mean() == pytest.approx(valley.hills(problem, rates)[-1], rel=0.15)


# Verdicts and bad input.

def test_a_check_holds_inside_its_range_only():
    assert verdicts.near("a", 1.04, 1.0, within=0.05).holds and not verdicts.near("a", 1.06, 1.0, within=0.05).holds
    assert not verdicts.at_most("a", np.nan, 1.0).holds
    text = verdicts.table([verdicts.near("a", 1.5, 1.0, within=0.25, half=0.1), verdicts.at_most("b", 0.5, 1.0)])
    assert "| a | 1.5 ± 0.1 | 1 | 0.75 to 1.25 | **not as predicted** |" in text
    assert "| b | 0.5 | 1 | at most 1 | as predicted |" in text


@pytest.mark.parametrize(("make", "message"), [
    (lambda: noisy.NoisyQuadratic(size=0), "size = 0: must be a whole number"),
    (lambda: noisy.NoisyQuadratic(noise=-1.0), "noise = -1.0: must not be negative"),
    (lambda: noisy.expected_loss(noisy.NoisyQuadratic(), -0.1, batch=1, steps=1), "rate = -0.1: must lie between"),
    (lambda: noisy.expected_loss(noisy.NoisyQuadratic(), 2.0, batch=1, steps=1), "rate = 2.0: must lie between"),
    (lambda: noisy.steady_loss(noisy.NoisyQuadratic(), 0.1, batch=0), "batch = 0: must be positive"),
    (lambda: noisy.fewest_steps(noisy.NoisyQuadratic(), 0.0, batch=1), "target = 0.0: must be positive"),
    (lambda: noisy.best_decay(noisy.NoisyQuadratic(size=2), 5, batch=1), "size = 2: must be 1"),
    (lambda: last.Noise(p=1.0), r"p = 1.0: must lie in \(1, 2\]"),
    (lambda: last.Noise(p=2.5), r"p = 2.5: must lie in \(1, 2\]"),
    (lambda: last.Noise(sigma=0.0), "sigma = 0.0: must be positive"),
    (lambda: last.Slopes(count=1), "count = 1: must be a whole number"),
    (lambda: last.multipliers("cosine", 4), "shape = 'cosine': must be one of linear"),
    (lambda: last.staircase([0.1, 0.0]), r"rates = \[0.1, 0.0\]: must be positive"),
    (lambda: bounds.exponent(0.5), "p = 0.5: must lie"),
    (lambda: bounds.any_schedule([1.0, -1.0], distance=1.0, moment=1.0), "shape = .*: must be positive multipliers"),
    (lambda: bounds.any_schedule([1.0], distance=0.0, moment=1.0), "distance = 0.0: must be positive"),
    (lambda: bounds.linear_decay(0, lipschitz=1.0, distance=1.0), "updates = 0: must be at least 1"),
    (lambda: bounds.for_class([1.0], lipschitz=-1.0, distance=1.0, sigma=1.0), "lipschitz = -1.0: must be positive"),
    (lambda: factors.Factorization(kappa=0.5), "kappa = 0.5: must be finite and at least 1"),
    (lambda: factors.Factorization(kappa=4.0, rank=9), "rank = 9: must not exceed"),
    (lambda: factors.Factorization(kappa=4.0, width=2), "width = 2: must be at least rank"),
    (lambda: factors.count_updates(factors.Factorization(kappa=4.0), seeds=1, accuracy=1.0), "accuracy = 1.0: must lie"),
    (lambda: valley.Bigram(tokens=5), "tokens = 5: must be an even"),
    (lambda: valley.Bigram(rate=-1.0), "rate = -1.0: must be positive"),
    (lambda: verdicts.slope(np.array([1, 2]), np.array([1, 2])), "points = 2: must be at least three"),
    (lambda: verdicts.slope(np.array([1, 2, 3]), np.array([1, 0, 3])), "y = .*: must be positive and finite"),
])
def test_bad_input_is_one_line(make, message):
    with pytest.raises(ConfigError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
