"""The order of training windows."""

import sys

import numpy as np
import pytest

from jaxlm.config import ConfigError
from jaxlm.data.order import WindowOrder, ratios, shuffle_seed


@pytest.fixture(autouse=True, scope="module")
def _grain():
    pytest.importorskip("grain")


def flat(order, examples, first=0):
    return np.concatenate([order.batch(i, 1) for i in range(first, first + examples)])


def test_order_is_pinned():
    # Golden, from grain 0.2.18: if grain's shuffle changes, recorded runs can no longer be continued.
    assert WindowOrder([50], None, 7).batch(0, 12).tolist() == [43, 44, 3, 4, 5, 31, 1, 15, 14, 38, 19, 6]


def test_mixed_order_is_pinned():
    # Golden, from grain 0.2.18, as above.
    order = WindowOrder([30, 20], [0.6, 0.4], 7)
    assert order.batch(0, 12).tolist() == [26, 7, 31, 3, 47, 4, 5, 37, 22, 30, 1, 15]


def test_every_window_once_an_epoch():
    order = WindowOrder([30, 20], None, 1)
    for epoch in range(3):
        assert sorted(flat(order, 50, first=50 * epoch)) == list(range(50))


def test_epochs_are_shuffled_anew():
    order = WindowOrder([50], None, 1)
    assert flat(order, 50).tolist() != flat(order, 50, first=50).tolist()


def test_neighbouring_seeds_do_not_share_epochs():
    # grain alone shuffles epoch e of seed s like epoch 0 of seed s + e.
    second_epoch = flat(WindowOrder([50], None, 0), 50, first=50)
    assert second_epoch.tolist() != flat(WindowOrder([50], None, 1), 50).tolist()


def test_batch_size_slices_one_order():
    order = WindowOrder([30, 20], [0.6, 0.4], 3)
    joined = np.concatenate([order.batch(k, 7) for k in range(6)])
    np.testing.assert_array_equal(joined, np.concatenate([order.batch(k, 21) for k in range(2)]))


def test_batch_does_not_depend_on_earlier_calls():
    visited = WindowOrder([50], None, 3)
    for k in (9, 2, 9, 0, 123_456_789):
        visited.batch(k, 4)
    np.testing.assert_array_equal(visited.batch(5, 4), WindowOrder([50], None, 3).batch(5, 4))


@pytest.mark.parametrize("weights", [(0.7, 0.3), (0.5, 0.3, 0.2), (0.01, 0.99)])
def test_weights_are_respected(weights):
    order = WindowOrder([5000] * len(weights), weights, 0)
    examples = 2000
    counts = np.bincount(order.batch(0, examples) // 5000, minlength=len(weights))
    shares = np.array(weights) / sum(weights)
    # Four binomial standard errors; grain interleaves evenly, so it stays far inside.
    bound = 4 * np.sqrt(examples * shares * (1 - shares))
    assert np.all(np.abs(counts - examples * shares) < bound)


def test_each_source_of_a_mixture_has_its_own_epochs():
    order = WindowOrder([10, 40], (0.5, 0.5), 0)
    first = [number for number in order.batch(0, 60) if number < 10]
    assert [sorted(first[i:i + 10]) for i in (0, 10, 20)] == [list(range(10))] * 3


def test_grain_keeps_the_ratios_it_is_given():
    weights = (0.3, 0.1)
    # .3 / .1 is below 3 in floating point; grain would truncate it to 2.99.
    counts = np.bincount(WindowOrder([5000, 5000], weights, 0).batch(0, 400) // 5000)
    assert counts.tolist() == [300, 100]


def test_ratios_are_rounded_to_hundredths():
    assert ratios([0.7, 0.3]) == [2.33, 1.0]


def test_seeds_of_shuffles_differ():
    seeds = {shuffle_seed(seed, source) for seed in range(50) for source in range(20)}
    assert len(seeds) == 1000 and max(seeds) < 2**32


def test_more_windows_than_grain_can_shuffle():
    with pytest.raises(ConfigError, match="too many windows"):
        WindowOrder([2**32], None, 0)


def test_missing_grain_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'jaxlm\[train\]'"):
        WindowOrder([10], None, 0)
