"""The bed of the largest rate: its bisection finds an edge, and a small rate lowers the loss."""

import importlib
import pathlib
import sys

import numpy as np
import pytest

from jaxlm.config import ConfigError

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "experiments" / "testbeds"))
bed = importlib.import_module("largest_rate")
SMALL = bed.Bed(context=2, width=8, updates=8, seeds=2, rounds=4, low=1e-2, high=1e2)
TEXT = np.random.default_rng(0).integers(0, 256, 512).astype(np.uint8)


def test_the_bisection_ends_within_its_last_interval(monkeypatch):
    edges = np.array([0.5, 3.0])
    monkeypatch.setattr(bed, "train", lambda data, rates, **how: np.stack([np.ones(2), np.ones(2), np.ones(2), np.where(
        rates < edges, 0.5, np.nan)], axis=1))
    found = bed.largest_rates(TEXT, 8, rule="SGD", bed=bed.Bed(updates=4, seeds=2, rounds=12, low=1e-2, high=1e2))
    assert (found < edges).all() and (found * 1.003 > edges).all()


def test_an_interval_without_the_edge_is_refused(monkeypatch):
    monkeypatch.setattr(bed, "train", lambda data, rates, **how: np.full((2, 8), np.nan))
    with pytest.raises(ConfigError, match="must hold the largest rate of Adam at batch 8"):
        bed.largest_rates(TEXT, 8, rule="Adam", bed=SMALL)


@pytest.mark.slow
def test_the_first_loss_is_that_of_no_knowledge_and_a_small_rate_lowers_it():
    constant = np.zeros(512, np.uint8)
    losses = np.asarray(bed.train(constant, np.array([0.5, 0.5], np.float32), batch=4, rule="SGD", bed=SMALL))
    np.testing.assert_allclose(losses[:, 0], np.log(256), rtol=1e-6)
    assert (np.diff(losses, axis=1) < 0).all()


def test_bad_beds():
    with pytest.raises(ConfigError, match="low = 2: must be positive and below high = 1"):
        bed.Bed(low=2, high=1)
