"""The low-rank core itself: bases, transforms, rotations, and when frames are renewed."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problem import quick_jit, synthetic

from jaxlm import optim
from jaxlm.config import ConfigError
from jaxlm.optim.low_rank import (
    DCT,
    SVD,
    Random,
    RandomColumns,
    SubspaceIteration,
    dct,
    dct_columns,
    dct_matrix,
    dct_transform,
    project_low_rank,
)

INPUT, OUTPUT = -2, -1
BASES = [SVD(), SubspaceIteration(), Random(), Random("orthonormal", distinct=True), RandomColumns(distinct=True), DCT(),
         DCT("l2", whole=False)]
ORTHONORMAL = [basis for basis in BASES if basis != Random()]


def cosines(k):
    i, j = np.ogrid[:k, :k]
    return np.sqrt(2 / k) * np.cos(np.pi * i * (2 * j + 1) / (2 * k)) * np.where(i == 0, np.sqrt(0.5), 1)


def gradient(shape=(2, 10, 6), seed=0):
    return jnp.asarray(synthetic(seed=seed, steps=1, shapes={"w": shape}).grads["w"][0])


def made(basis, x, axis, rank=4, count=1, frame=None):
    frame = basis.init(x.shape, axis, rank) if frame is None else frame
    return basis.refresh(x, frame, axis=axis, rank=rank, count=jnp.asarray(count))


@functools.cache
def facts(basis, axis):
    """All that the tests look at, of one compilation: two gradients, their frames, projections and rotations."""
    def compute(x, y):
        def compress(x):
            return basis.compress(x, made(basis, x, axis), axis)

        old, new = made(basis, x, axis), made(basis, y, axis, count=2)
        s = basis.compress(x, old, axis)
        back = basis.expand(s, old, axis, x.shape[axis])
        return {
            "inside": back, "turned": basis.rotate(s, old, new, axis=axis, squared=False),
            "recomputed": basis.compress(back, new, axis), "s": s,
            "squared": basis.rotate(s**2, old, new, axis=axis, squared=True),
            "old": columns(basis, old, x, axis), "new": columns(basis, new, y, axis),
            "values": {"zero": compress(0 * x), "large": compress(x * 1e18), "constant": compress(0 * x + 1e18),
                       "nan": compress(x + jnp.nan)}}

    x, y = gradient(), gradient(seed=1)
    return x, jax.device_get(quick_jit(compute)(x, y))


def columns(basis, frame, x, axis):
    """The frame as columns [B..., n, r]: what it makes of unit vectors."""
    rank = frame.shape[-1]
    out = basis.expand(jnp.broadcast_to(jnp.eye(rank), (*x.shape[:-2], rank, rank)), frame, axis, x.shape[axis])
    return out if axis == INPUT else out.swapaxes(-1, -2)


@pytest.mark.parametrize("k", [1, 7, 260])
def test_the_transform_is_the_matrix_by_either_way(k):
    exact = cosines(k)
    np.testing.assert_allclose(dct_matrix(k), exact, atol=1e-7)
    x = np.random.default_rng(k).normal(size=(2, 3, k)).astype(np.float32)
    wanted = x @ exact
    ways = (dct_transform, dct._by_fft, dct._by_matrix)
    for last, before in quick_jit(lambda x, y: [(way(x, -1), way(y, -2)) for way in ways])(x, x.swapaxes(1, 2)):
        np.testing.assert_allclose(last, wanted, atol=1e-5)
        np.testing.assert_allclose(before, wanted.swapaxes(1, 2), atol=1e-5)
    some = jnp.asarray([[0, k // 2], [k - 1, k // 3]])
    np.testing.assert_allclose(dct_columns(some, k), np.stack([exact[:, i] for i in np.asarray(some)]), atol=1e-7)


def test_long_transforms_are_as_exact_as_short_ones():
    """Angles count modulo 4k: cosines of large float32 numbers would be off by 1e-3."""
    k, last = 32768, jnp.asarray([32767, 1])
    i, j = np.arange(k)[:, None].astype(float), np.asarray(last).astype(float)
    exact = math.sqrt(2 / k) * np.cos(np.pi * i * (2 * j + 1) / (2 * k)) * np.where(i == 0, math.sqrt(0.5), 1)
    np.testing.assert_allclose(dct_columns(last, k), exact, atol=1e-9)


@pytest.mark.parametrize("axis", [INPUT, OUTPUT])
@pytest.mark.parametrize("basis", ORTHONORMAL, ids=repr)
def test_frames_are_orthonormal(basis, axis):
    x, found = facts(basis, axis)
    q = found["old"]
    np.testing.assert_allclose(np.einsum("...nr,...ns->...rs", q, q), np.broadcast_to(np.eye(4), (2, 4, 4)), atol=1e-5)
    product = q @ q.swapaxes(-1, -2)
    np.testing.assert_allclose(found["inside"], product @ x if axis == INPUT else x @ product, atol=1e-5)


def test_gaussian_bases_have_variance_one_over_rank_and_slices_differ_on_request():
    draws = {"alike": (Random(), 1), "later": (Random(), 2), "distinct": (Random(distinct=True), 1)}
    make = lambda basis, count, x: made(basis, x, INPUT, rank=100, count=count)  # noqa: E731
    x = jnp.zeros((2, 400, 500))
    drawn = quick_jit(lambda x: {name: make(*draw, x) for name, draw in draws.items()} | {
        "second": make(Random(distinct=True).at(1), 1, x[1])})(x)
    alike, distinct = drawn["alike"], drawn["distinct"]
    np.testing.assert_allclose(jnp.std(alike), 0.1, rtol=0.02)
    np.testing.assert_array_equal(alike[0], alike[1])
    assert jnp.max(jnp.abs(distinct[0] - distinct[1])) > 0.1
    np.testing.assert_array_equal(distinct[1], drawn["second"])
    assert jnp.max(jnp.abs(alike - drawn["later"])) > 0.1


def test_signs():
    def frames(x, y):
        first = made(SubspaceIteration(), x, OUTPUT)
        return made(SVD(), x, OUTPUT), first, made(SubspaceIteration(), x + y / 100, OUTPUT, count=2, frame=first)

    vectors, first, again = jax.device_get(quick_jit(frames)(gradient((10, 6)), gradient((10, 6), seed=1)))
    assert (vectors[np.argmax(np.abs(vectors), axis=0), range(4)] > 0).all()
    assert (np.sum(first * again, axis=0) > 0.5).all()


@pytest.mark.parametrize("axis", [INPUT, OUTPUT])
def test_captured_energy(axis):
    def energies(x, choices):
        energy = lambda basis, frame: jnp.sum(basis.compress(x, frame, axis) ** 2)  # noqa: E731
        first = made(SubspaceIteration(), x, axis, rank=8)
        again = made(SubspaceIteration(), x, axis, rank=8, count=2, frame=first)
        return {"first": energy(SVD(), first), "again": energy(SVD(), again), "svd": energy(SVD(), made(SVD(), x, axis, rank=8)),
                "l1": energy(DCT(), made(DCT("l1"), x, axis, rank=8)), "l2": energy(DCT(), made(DCT("l2"), x, axis, rank=8)),
                "others": jax.vmap(lambda choice: energy(DCT(), choice))(choices)}

    x = gradient((40, 30))
    choices = np.stack([np.random.default_rng(i).permutation(x.shape[axis])[:8] for i in range(20)])
    optimal = np.sum(np.linalg.svd(x)[1][:8] ** 2)
    share = {name: np.asarray(value) / optimal for name, value in quick_jit(energies)(x, choices).items()}
    np.testing.assert_allclose(share["svd"], 1, atol=1e-5)
    assert share["first"] > 0.9
    assert share["again"] > 0.99
    assert share["l2"] >= share["others"].max()
    assert share["l2"] >= share["l1"] > share["others"].mean()


@pytest.mark.slow
def test_both_sides_found_from_each_other_come_to_the_singular_subspaces():
    x, basis = gradient((10, 6)), SubspaceIteration()
    ins, outs = jnp.zeros((10, 3)), jnp.zeros((6, 3))
    for count in range(1, 30):
        ins, outs = basis.refresh_both(x, ins, outs, count=jnp.asarray(count))
    left, _, right = np.linalg.svd(np.asarray(x, np.float64))
    for frame, vectors in ((ins, left[:, :3]), (outs, right[:3].T)):
        np.testing.assert_allclose(frame @ frame.T, vectors @ vectors.T, atol=1e-5)  # float32 QR
    np.testing.assert_allclose(np.abs(np.diag(ins.T @ x @ outs)), np.linalg.svd(x)[1][:3], rtol=1e-5)


@pytest.mark.parametrize("axis", [INPUT, OUTPUT])
@pytest.mark.parametrize("basis", ORTHONORMAL, ids=repr)
def test_rotated_moments_are_those_of_the_new_frame(basis, axis):
    _, found = facts(basis, axis)
    np.testing.assert_allclose(found["turned"], found["recomputed"], atol=1e-5)
    r2 = (found["old"].swapaxes(-1, -2) @ found["new"]) ** 2
    v = found["s"] ** 2
    np.testing.assert_allclose(found["squared"], v @ r2 if axis == OUTPUT else r2.swapaxes(-1, -2) @ v, atol=1e-5)
    assert (found["squared"] >= 0).all()


@pytest.mark.parametrize("axis", [INPUT, OUTPUT])
@pytest.mark.parametrize("basis", BASES, ids=repr)
def test_nan_zero_and_large_gradients(basis, axis):
    _, found = facts(basis, axis)
    values = found["values"]
    assert not np.isfinite(values.pop("nan")).any()
    for what, s in values.items():
        assert np.isfinite(s).all(), what


def run(chains, grads):
    """name -> directions of each update and its frames, for name -> (transformation, gradients [T, ...])."""
    def step(states, grads):
        out = {name: chains[name].update(grads[name], states[name]) for name in chains}
        frames = {name: state.matrices.input_frame for name, (_, state) in out.items()}
        return {name: state for name, (_, state) in out.items()}, ({name: u for name, (u, _) in out.items()}, frames)

    init = {name: chains[name].init(grads[name][0]) for name in chains}
    return jax.device_get(quick_jit(lambda init, grads: jax.lax.scan(step, init, grads)[1])(init, grads))


@pytest.mark.parametrize(("basis", "moments"), [
    (SubspaceIteration(), "rotate"), (Random(distinct=True), "reset"), (DCT(whole=False), "keep")], ids=repr)
def test_a_stack_goes_the_way_of_its_slices_staggered_or_not(basis, moments):
    grads = synthetic(steps=13, shapes={"w": (2, 6, 10)}).grads["w"]
    at = getattr(basis, "at", lambda _: basis)

    def chain(basis, **settings):
        return project_low_rank(optim.scale_by_adam(eps=1e-3), basis=basis, rank=3, refresh=6, moments=moments,
                                error_feedback=True, **settings)

    chains = {"stack": chain(basis), "staggered": chain(basis, stagger=True), "second": chain(at(1)),
              "early": chain(at(1), phase=3)}
    directions, frames = run(chains, {name: grads if name.startswith("sta") else grads[:, 1] for name in chains})
    for stack, single in (("stack", "second"), ("staggered", "early")):
        np.testing.assert_allclose(directions[stack][:, 1], directions[single], atol=2e-5, err_msg=stack)
        np.testing.assert_allclose(frames[stack][:, 1], frames[single], atol=1e-5)
    np.testing.assert_allclose(directions["staggered"][:, 0], directions["stack"][:, 0], atol=2e-5)
    if basis != DCT(whole=False):  # whose choice may stay as it is
        assert {name: changed(frames[name]) for name in ("second", "early")} == {"second": [1, 7, 13], "early": [1, 4, 10]}


def changed(frames):
    """At which updates, from 1, the frame is another one."""
    return [1] + [t + 1 for t in range(1, len(frames)) if np.abs(frames[t] - frames[t - 1]).max() > 1e-7]


def test_phase_one_refreshes_at_multiples():
    chains = {"w": project_low_rank(optim.scale_by_adam(), basis=Random(), rank=2, refresh=4, phase=1)}
    _, frames = run(chains, {"w": synthetic(steps=9, shapes={"w": (6, 10)}).grads["w"]})
    assert changed(frames["w"]) == [1, 4, 8]


def test_error_feedback_loses_nothing():
    """Without an inner rule all updates and the last error add up to all gradients."""
    grads = synthetic(steps=9, shapes={"w": (6, 10)}).grads["w"]
    tx = project_low_rank(optax.identity(), basis=DCT(), rank=2, refresh=2, error_feedback=True)
    state, total = tx.init(jnp.asarray(grads[0])), 0
    update = quick_jit(tx.update)
    for g in grads:
        direction, state = update(jnp.asarray(g), state)
        total += direction
    np.testing.assert_allclose(total + state.matrices.error, grads.sum(axis=0), atol=1e-5)


def test_rank_by_shape_and_whole_matrices():
    grads = {"a": gradient((6, 10)), "b": gradient((20, 8))}
    tx = project_low_rank(optim.scale_by_adam(), basis=SVD(), rank=lambda shape: 3 if shape[-2] == 6 else None, side="both")
    state = quick_jit(tx.init)(grads)
    assert (state.matrices.inner.mu["a"].shape, state.matrices.inner.mu["b"].shape) == ((3, 3), (20, 8))
    assert state.matrices.input_frame["b"] is None
    direction, _ = quick_jit(tx.update)(grads, state)
    plain = optim.scale_by_adam()
    np.testing.assert_allclose(direction["b"], plain.update(grads["b"], plain.init(grads["b"]))[0], atol=1e-6)
    assert jnp.linalg.matrix_rank(direction["a"]) == 3


@pytest.mark.parametrize(("settings", "message"), [
    ({"rank": 0}, "rank = 0: must be a whole number of at least 1"), ({"refresh": 0}, "refresh = 0: "),
    ({"phase": -1}, "phase = -1: "), ({"side": "left"}, "side = 'left': must be one of"),
    ({"moments": "turn"}, "moments = 'turn': must be one of"), ({"stagger": "yes"}, "stagger = 'yes': ")])
def test_bad_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        project_low_rank(optim.scale_by_adam(), **({"basis": SVD(), "rank": 2} | settings))


def test_bad_bases():
    with pytest.raises(ConfigError, match="iterations = 0: must be a whole number of at least 1"):
        SubspaceIteration(iterations=0)
    with pytest.raises(ConfigError, match="norm = 'l3': must be one of 'l1', 'l2'"):
        DCT("l3")
    with pytest.raises(ConfigError, match="k = 40000: must lie in 1..32768"):
        dct_matrix(40000)
