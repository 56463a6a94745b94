"""The Chinchilla law against published data and closed forms."""

import csv
from pathlib import Path

import numpy as np
import pytest

import scaling
from scaling.laws import chinchilla

POINTS = Path(__file__).resolve().parents[4] / "shared" / "runs" / "chinchilla" / "svg_extracted_data.csv"


@pytest.fixture(scope="module")
def points():
    if not POINTS.exists():
        pytest.skip("needs ../shared")
    with open(POINTS, newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: float(row["loss"]))[:-5]
    names = ("Model Size", "Training FLOP", "loss")
    n, c, loss = (np.array([float(row[name]) for row in rows]) for name in names)
    return {"N": n, "D": c / (6 * n), "loss": loss}


def test_published_points_give_the_known_optimum(points):
    found = scaling.fit("chinchilla", points, unit="nats/token", counting="total")
    assert found.n_rows == 188
    digits = [round(found.params["A"]), round(found.params["B"])]
    digits += [round(found.params["E"], 3), round(found.params["alpha"], 4), round(found.params["beta"], 4)]
    assert digits == [432, 1967, 1.807, 0.3419, 0.3628]


def test_nearly_all_starts_reach_the_optimum_of_the_published_points(points):
    # Finite-difference L-BFGS from Hoffmann et al.'s grid: about 8%.
    assert scaling.fit("chinchilla", points, unit="nats/token", counting="total").starts_at_best > 0.9


def test_bootstrap_intervals_agree_with_besiroglu(points):
    found = scaling.fit(
        "chinchilla", points, unit="nats/token", counting="total", bootstrap=scaling.Bootstrap(draws=200)
    )
    # Their 95% intervals, from 240 points of which these are a part: alpha .317-.373, beta .331-.415.
    assert np.allclose(found.interval("alpha", 0.95), (0.317, 0.373), atol=0.015)
    assert np.allclose(found.interval("beta", 0.95), (0.331, 0.415), atol=0.02)


def test_compute_optimal_is_the_minimum_at_fixed_flops():
    values = np.array([[1.8, 480.0, 2085.0, 0.35, 0.37]])
    n, d = chinchilla.compute_optimal(values, 1e21)
    sizes = n[0] * np.array([0.99, 1.0, 1.01])
    loss = chinchilla.LAW.loss(values, {"N": sizes, "D": 1e21 / 6 / sizes})[0]
    assert np.argmin(loss) == 1 and 6 * n[0] * d[0] == pytest.approx(1e21, rel=1e-12)


def test_published_refit_gives_the_known_tokens_per_parameter():
    found = scaling.published("chinchilla", "besiroglu2024")
    best = scaling.compute_optimal(found, 5.76e23)
    assert 18 < best["D/N"].point[0] < 26


def test_every_published_entry_lies_within_the_bounds():
    for entry in chinchilla.LAW.published:
        for parameter in chinchilla.LAW.parameters:
            assert parameter.low < entry.values[parameter.name] < parameter.high
