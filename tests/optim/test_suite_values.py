"""Every optimizer on the synthetic problem: its twin, its limits, and gradients of zero, 1e18 and NaN."""

import functools

import jax
import numpy as np
import pytest
from problem import SHAPES, compiled, infos_of, synthetic
from table import TABLE

STEPS = 20
# The first two cases of each; the golden trajectories hold the others too, and `slow` here.
CASES = [pytest.param(entry, case, id=f"{entry.name}-{case}", marks=() if number < 2 else pytest.mark.slow)
         for entry in TABLE for number, case in enumerate(entry.cases)]
ENTRIES = [pytest.param(entry, id=entry.name) for entry in TABLE]
LIMITS = [pytest.param(entry, limit, id=f"{entry.name}-{limit.why}") for entry in TABLE for limit in entry.equals]


@functools.cache
def runner(name, case):
    entry = next(entry for entry in TABLE if entry.name == name)
    return compiled(entry.build(entry.cases[case], infos_of(problem().init, entry.dims), {}))


@functools.cache
def problem():
    return synthetic(steps=STEPS)


@functools.cache
def clean(name):
    """The run that the contract's checks compare with: the first case."""
    entry = next(entry for entry in TABLE if entry.name == name)
    return runner(name, first(entry))(problem().init, problem().grads)


def first(entry):
    return next(iter(entry.cases))


@pytest.mark.parametrize(("entry", "case"), CASES)
def test_equals_its_twin(entry, case):
    ours, _ = runner(entry.name, case)(problem().init, problem().grads)
    theirs = entry.twin(problem().init, problem().grads, entry.cases[case], {})
    for name in SHAPES:
        off = np.abs(np.float64(ours[name]) - theirs[name]).max()
        assert off <= entry.tolerance(case), f"{name}: {off:.2g}"
        assert np.abs(ours[name][-1] - problem().init[name]).max() > 1e-3, f"{name} has not moved"


@pytest.mark.parametrize(("entry", "limit"), LIMITS)
def test_limit(entry, limit):
    infos = infos_of(problem().init, entry.dims)
    ours, _ = compiled(entry.build(limit.hp, infos, {}))(problem().init, problem().grads)
    others, _ = compiled(limit.other(infos))(problem().init, problem().grads)
    for name in SHAPES:
        off = np.abs(ours[name] - others[name]).max()
        assert off <= limit.atol, f"{name}: {off:.2g}"


@pytest.mark.parametrize("entry", ENTRIES)
def test_zero_gradients_leave_the_decay_alone(entry):
    hp = entry.cases[first(entry)]
    zeros = jax.tree.map(np.zeros_like, problem().grads)
    after, state = runner(entry.name, first(entry))(problem().init, zeros)
    assert_finite(state)
    if entry.lost is None:
        left = entry.twin(problem().init, zeros, hp, {})
    for name, start in problem().init.items():
        before = np.concatenate([start[None], after[name][:-1]])
        if entry.lost is None:
            np.testing.assert_allclose(after[name], left[name], rtol=1e-6, err_msg=name)
            continue
        kept = np.array([1 - entry.lost(hp, name, t) for t in range(1, STEPS + 1)]).reshape(-1, *(1,) * start.ndim)
        # One rounding of the change and one of the sum.
        np.testing.assert_allclose(after[name], np.float64(before) * kept, rtol=2**-23, err_msg=name)


@pytest.mark.parametrize("kind", ["spectrum", "constant"])
@pytest.mark.parametrize("entry", ENTRIES)
def test_gradients_of_1e18_stay_finite(entry, kind):
    if kind == "constant":
        huge = jax.tree.map(lambda g: np.full_like(g, 1e18), problem().grads)
    else:
        huge = jax.tree.map(lambda g: g * np.float32(1e18 / np.abs(g).max()), problem().grads)
    after, state = runner(entry.name, first(entry))(problem().init, huge)
    assert_finite(after)
    assert_finite(state)


@pytest.mark.parametrize("entry", ENTRIES)
def test_nan_reaches_its_update_and_no_other(entry):
    run = runner(entry.name, first(entry))
    usual, _ = clean(entry.name)
    for name in SHAPES:
        at = 11  # neither the first update nor, in most cases, one that refreshes
        spoilt = problem().grads[name].copy()
        spoilt[(at, *(0,) * (spoilt.ndim - 1))] = np.nan
        after, _ = run(problem().init, problem().grads | {name: spoilt})
        struck = after[name][at, 0] if spoilt.ndim == 4 else after[name][at]
        assert not np.isfinite(struck).all(), f"NaN in {name} is hidden"
        np.testing.assert_array_equal(after[name][:at], usual[name][:at])
        if not entry.coupled:
            for other in SHAPES.keys() - {name}:
                np.testing.assert_array_equal(after[other], usual[other], err_msg=f"NaN in {name} changes {other}")


def assert_finite(tree):
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        assert np.isfinite(leaf).all(), f"{jax.tree_util.keystr(path)} is not finite"
