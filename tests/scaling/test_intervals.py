"""Bootstrap schemes, predictions, scores."""

import dataclasses

import numpy as np
import pytest

import scaling
from scaling import Bootstrap, Prior, bootstrap
from scaling.errors import InputError

# Rows 0-2 of size 1, rows 3-8 of size 2; seeds within sizes.
SIZE = np.array([1, 1, 1, 2, 2, 2, 2, 2, 2])
SEED = np.array([0, 1, 2, 0, 0, 1, 1, 2, 2])
DATA = {"size": SIZE, "seed": SEED}
SIZES = np.array([1e5, 3e5, 1e6])


def ladder(rng, noise=3e-3):
    """Returns 18 rows: three sizes, three budgets each, two seeds."""
    n = np.repeat(SIZES, 6)
    d = np.concatenate([np.repeat(size * np.array([10, 20, 40]), 2) for size in SIZES])
    return {"N": n, "D": d, "loss": truth(n, d) * np.exp(
        noise * rng.standard_normal(18)
    ), "seed": np.tile([0, 1], 9)}


def truth(n, d):
    return 1.2 + (n / 1e5) ** -0.4 + 1.2 * (d / 5e6) ** -0.35


def small_fit(rng, **options):
    prior = [Prior(parameter="alpha", value=0.35, sd=0.3), Prior(parameter="beta", value=0.35, sd=0.3)]
    options = {"prior": prior, "bootstrap": Bootstrap(draws=200, scheme="residual", strata="N")} | options
    return scaling.fit("chinchilla", ladder(rng), unit="nats/token", counting="non_embedding", **options)


@pytest.fixture(scope="module")
def found():
    return small_fit(np.random.default_rng(0))


def test_no_stratum_ever_vanishes():
    strata = bootstrap._groups(Bootstrap(strata="size"), DATA, 9)
    weights = bootstrap.row_weights(strata, 500, 9, np.random.default_rng(0))
    np.testing.assert_array_equal(weights[:, SIZE == 1].sum(axis=1), np.full(500, 3))
    np.testing.assert_array_equal(weights[:, SIZE == 2].sum(axis=1), np.full(500, 6))


def test_rows_of_one_group_are_drawn_together():
    strata = bootstrap._groups(Bootstrap(strata="size", groups="seed"), DATA, 9)
    weights = bootstrap.row_weights(strata, 100, 9, np.random.default_rng(0))
    np.testing.assert_array_equal(weights[:, [3, 5, 7]], weights[:, [4, 6, 8]])


def test_every_row_is_drawn_once_on_average():
    strata = bootstrap._groups(Bootstrap(), DATA, 9)
    weights = bootstrap.row_weights(strata, 4000, 9, np.random.default_rng(0))
    # The mean of 4000 counts of variance 8/9 has a standard error of 0.015.
    np.testing.assert_allclose(weights.mean(axis=0), 1.0, atol=0.06)


def test_residuals_stay_within_their_stratum():
    strata = bootstrap._groups(Bootstrap(scheme="residual", strata="size"), DATA, 9)
    sources = bootstrap.residual_sources(strata, 200, 9, np.random.default_rng(0))
    assert np.all(SIZE[sources] == SIZE)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (Bootstrap(strata="colour"), "strata = 'colour': no such column"),
        (Bootstrap(draws=1), "draws = 1"),
        (Bootstrap(scheme="wild"), "scheme = 'wild'"),
        (Bootstrap(groups="same"), "one same within all rows only"),
        (Bootstrap(scheme="residual", groups="uneven"), "groups differ in size"),
    ],
)
def test_impossible_bootstrap_is_refused(how, message):
    data = ladder(np.random.default_rng(0)) | {"same": np.zeros(18), "uneven": np.arange(18) // 4}
    with pytest.raises(InputError, match=message):
        scaling.fit("chinchilla", data, unit="nats/token", counting="total", bootstrap=how)


def test_parameter_known_by_prior_alone_keeps_the_priors_spread():
    # With a huge declared noise the rows say nothing about alpha.
    fit = small_fit(np.random.default_rng(0), noise=100.0)
    spread = np.log(fit.draws[:, 3]).std()
    assert spread == pytest.approx(0.3, rel=0.2)  # 200 draws estimate a deviation to 5%


@pytest.mark.slow
def test_held_out_runs_fall_into_ninety_per_cent_intervals():
    rng = np.random.default_rng(5)
    hits = 0
    how = Bootstrap(draws=80, scheme="residual", strata="N")
    for _ in range(20):
        result = scaling.predict(small_fit(rng, bootstrap=how), N=3e6, D=6e7)
        observed = truth(3e6, 6e7) * np.exp(3e-3 * rng.standard_normal())
        hits += bool(result.low[0] <= observed <= result.high[0])
    # 20 trials at a true coverage of 0.9 give fewer than 15 hits once in a hundred times.
    assert hits >= 15


def test_observed_interval_is_wider_than_the_laws(found):
    law = scaling.predict(found, N=1e6, D=4e7, observed=False)
    run = scaling.predict(found, N=1e6, D=4e7)
    assert run.high - run.low > law.high - law.low


def test_interval_states_what_it_leaves_out(found):
    assert scaling.predict(found, N=1e6, D=4e7).interval.endswith("excludes model error")


def test_without_draws_there_is_a_reason_and_no_interval(found):
    result = scaling.predict(
        dataclasses.replace(found, draws=None, bootstrap="none: not asked for"), N=1e6, D=4e7
    )
    assert (result.low, result.high, result.interval) == (None, None, "none: not asked for")


def test_published_coefficients_predict_without_interval():
    result = scaling.predict(scaling.published("chinchilla", "hoffmann2022"), N=7e10, D=1.4e12)
    assert result.low is None and "published coefficients without draws" in result.interval


def test_query_outside_says_how_far(found):
    warnings = scaling.predict(found, N=1.1e7, D=1e7).warnings
    assert warnings == ("extrapolates: N = 1.1e+07 lies 11 times above the fitted 1e+05 to 1e+06",)


def test_query_inside_the_range_is_not_warned_about(found):
    assert scaling.predict(found, N=9e5, D=1e7).warnings == ()


def test_profile_and_bootstrap_agree_where_the_problem_is_nearly_linear(found):
    by_draws = scaling.predict(found, N=3e5, D=6e6, observed=False)
    by_profile = scaling.predict(found, N=3e5, D=6e6, observed=False, method="profile")
    widths = [(one.high - one.low)[0] for one in (by_draws, by_profile)]
    # Inside the data the law is nearly linear in what the rows determine; 200 draws of 18 rows know a width to 20%.
    assert widths[1] == pytest.approx(widths[0], rel=0.4)
    assert "by profile" in by_profile.interval and by_profile.low[0] < by_profile.point[0] < by_profile.high[0]


def test_queries_broadcast(found):
    assert scaling.predict(found, N=np.array([1e5, 1e6]), D=1e7).point.shape == (2,)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"N": 1e6}, "needs exactly N, D"),
        ({"N": 1e6, "D": 0.0}, "query D = 0.0"),
        ({"N": np.ones(2), "D": np.ones(3)}, "shapes do not go together"),
        ({"N": 1e6, "D": 1e7, "level": 1.0}, "level = 1.0"),
    ],
)
def test_wrong_query_is_refused(found, query, message):
    with pytest.raises(InputError, match=message):
        scaling.predict(found, **query)


def test_curve_prediction_needs_a_law_of_curves(found):
    with pytest.raises(InputError, match="predict_curve needs a law of whole curves"):
        scaling.predict_curve(found, np.ones(3), 0)


def test_scores_have_their_textbook_values():
    predicted, observed = np.array([1.1, 2.0, 2.7]), np.array([1.0, 2.0, 3.0])
    scores = [scaling.pred_e(predicted, observed), scaling.worst_e(predicted, observed), scaling.r2(
        predicted, observed
    )]
    np.testing.assert_allclose(scores, [0.2 / 3, 0.1, 0.95], rtol=1e-12)


def test_scores_refuse_arrays_of_other_shapes():
    with pytest.raises(InputError, match="must be alike"):
        scaling.pred_e(np.ones(2), np.ones(3))
