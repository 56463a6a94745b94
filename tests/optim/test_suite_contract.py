"""The contract of every optimizer: how it composes with jit, optax's wrappers, narrow parameters, stacks, Orbax."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from problem import IN_OUT, OUT_IN, compiled, infos_of, quick_jit, synthetic
from table import REPRESENTATIVE, TABLE

ENTRIES = [pytest.param(entry, id=entry.name) for entry in TABLE]
STEPS = 10
SHAPES = {"bias": (5,), "stk": (2, 6, 9), "tall": (10, 6)}


@functools.cache
def problem():
    return synthetic(seed=1, steps=STEPS, shapes=SHAPES)


def first(entry):
    return next(iter(entry.cases))


def make(entry, params=None, **changed):
    """The optimizer of the entry's first case, for the parameters of `problem` or others."""
    infos = infos_of(problem().init if params is None else params, entry.dims)
    return entry.build(entry.cases[first(entry)] | changed, infos, {})


@functools.cache
def plain(name):
    entry = next(entry for entry in TABLE if entry.name == name)
    return compiled(make(entry))(problem().init, problem().grads)


@functools.cache
def pieces(name):
    """(parameters after each step, state), step by step, of a masked and a partitioned copy in a chain."""
    entry = next(entry for entry in TABLE if entry.name == name)
    parts = optax.partition({"a": make(entry), "b": make(entry), "none": optax.identity()},
                            {"bias": "none", "stk": "a", "tall": "b"})
    tx = optax.chain(optax.masked(make(entry), {"bias": True, "stk": False, "tall": False}), optax.identity(), parts)
    return step_by_step(tx)


def step_by_step(tx):
    params, seen = jax.tree.map(jnp.asarray, problem().init), []
    update, state = quick_jit(tx.update), tx.init(params)
    for t in range(STEPS):
        updates, state = update(jax.tree.map(lambda g, t=t: g[t], problem().grads), state, params)
        params = optax.apply_updates(params, updates)
        seen.append(params)
    return jax.tree.map(lambda *x: np.stack(x), *seen), state


def assert_close(got, wanted, atol):
    for name in wanted:
        off = np.abs(np.float64(got[name]) - np.float64(wanted[name])).max()
        assert off <= atol, f"{name}: {off:.2g}"


@pytest.mark.parametrize("entry", ENTRIES)
def test_scan_equals_step_by_step_in_pieces(entry):
    """One scan of the whole, against jitted steps of the chained, masked and partitioned parts."""
    after, _ = step_by_step(make(entry)) if entry.coupled else pieces(entry.name)
    assert_close(after, plain(entry.name)[0], entry.tolerance(first(entry)))


def injected(entry, chosen, params=None, **changed):
    """The optimizer with those float hyperparameters in its state whose names `chosen` accepts."""
    paths, treedef = jax.tree_util.tree_flatten_with_path(entry.cases[first(entry)] | changed)
    names = [jax.tree_util.keystr(path, simple=True, separator="_") for path, _ in paths]
    leaves = dict(zip(names, (leaf for _, leaf in paths), strict=True))
    infos = infos_of(problem().init if params is None else params, entry.dims)

    def build(**values):
        return entry.build(treedef.unflatten((leaves | values).values()), infos, {})

    values = {name: x for name, x in leaves.items() if (isinstance(x, float) or callable(x)) and chosen(name)}
    # optax reads the names off the signature.
    build.__signature__ = inspect.Signature([inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in values])
    return optax.inject_hyperparams(build)(**values)


@pytest.mark.parametrize("entry", ENTRIES)
def test_injected_learning_rate_bit_for_bit(entry):
    after, state = compiled(injected(entry, lambda name: name == "lr"))(problem().init, problem().grads)
    assert "lr" in state.hyperparams
    for name in SHAPES:
        np.testing.assert_array_equal(after[name], plain(entry.name)[0][name], err_msg=name)


@pytest.mark.parametrize("entry", [pytest.param(entry, id=entry.name, marks=() if entry.name in REPRESENTATIVE
                                               else pytest.mark.slow) for entry in TABLE])
def test_multi_steps_of_all_other_injected_hyperparameters(entry):
    """Every gradient twice: MultiSteps' mean of them is exact."""
    inner = injected(entry, lambda name: name != "lr" and name not in entry.static)
    tx = optax.MultiSteps(inner, 2).gradient_transformation()
    twice = jax.tree.map(lambda g: np.repeat(g, 2, axis=0), problem().grads)
    after, _ = compiled(tx)(problem().init, twice)
    assert_close(jax.tree.map(lambda x: x[1::2], after), plain(entry.name)[0], entry.injected_atol)


@pytest.mark.parametrize("entry", ENTRIES)
def test_state_is_fixed_at_init(entry):
    tx = make(entry)
    for dtype in (jnp.float32, jnp.bfloat16):
        params = {name: jax.ShapeDtypeStruct(shape, dtype) for name, shape in SHAPES.items()}
        state = jax.eval_shape(tx.init, params)
        updates, after = jax.eval_shape(tx.update, params, state, params)
        assert jax.tree.structure(state) == jax.tree.structure(after)
        for path, old in jax.tree_util.tree_leaves_with_path(state):
            assert old.dtype == jnp.float32 or not jnp.issubdtype(old.dtype, jnp.inexact), (path, old)
            assert old.size, (path, old)
        assert [(x.shape, x.dtype) for x in jax.tree.leaves(state)] == [(x.shape, x.dtype) for x in jax.tree.leaves(after)]
        assert {name: (x.shape, x.dtype) for name, x in updates.items()} == {
            name: (shape, dtype) for name, shape in SHAPES.items()}


@pytest.mark.parametrize("entry", ENTRIES)
def test_bf16_parameters_get_the_float32_update_rounded(entry):
    few = problem().only(["bias", "tall"])
    tx = make(entry, few.init)
    narrow = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), (few.init, few.grads))

    @quick_jit
    def updates(params, grads):
        def step(state, grads):
            new, state = tx.update(grads, state, params)
            return state, new
        return jax.lax.scan(step, tx.init(params), grads)[1]

    got = updates(*narrow)
    wanted = updates(*jax.tree.map(lambda x: x.astype(jnp.float32), narrow))
    for name in narrow[0]:
        assert got[name].dtype == jnp.bfloat16
        # One rounding; the two programs differ by float32's.
        atol = entry.injected_atol * np.abs(wanted[name]).max()
        np.testing.assert_allclose(np.float32(got[name]), wanted[name], rtol=1.01 * 2**-8, atol=atol, err_msg=name)


@pytest.mark.parametrize("entry", ENTRIES)
def test_orbax_round_trip(entry, tmp_path):
    tree = {"plain": plain(entry.name)[1]} | ({} if entry.coupled else {"masked": pieces(entry.name)[1]})
    tree = jax.tree.map(jnp.asarray, tree)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", tree)
        checkpointer.wait_until_finished()
        back = checkpointer.restore(tmp_path / "state", jax.tree.map(jnp.zeros_like, tree))
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    for (path, new), old in zip(jax.tree_util.tree_leaves_with_path(back), jax.tree.leaves(tree), strict=True):
        assert (new.dtype, new.shape) == (old.dtype, old.shape), path
        assert np.asarray(new).tobytes() == np.asarray(old).tobytes(), path


@pytest.mark.parametrize("entry", ENTRIES)
def test_stack_equals_layer_by_layer(entry):
    """[2, 2, m, n] as PyTorch stores it in one run, its slices one after another as Flax stores them in another."""
    if entry.coupled:
        pytest.skip("tensors act on each other")
    single = {"tall": (10, 6), "wide": (6, 10)}
    runs = [synthetic(seed=seed, steps=STEPS, shapes=single) for seed in range(4)]
    stack = lambda axis, *x: np.stack(x, axis=axis).reshape(*x[0].shape[:axis], 2, 2, *x[0].shape[axis:])  # noqa: E731
    init = jax.tree.map(functools.partial(stack, 0), *(run.init for run in runs))
    grads = jax.tree.map(functools.partial(stack, 1), *(run.grads for run in runs))
    hp = entry.cases[first(entry)]
    stacked, _ = compiled(entry.build(hp, infos_of(init, OUT_IN), {}))(init, grads)
    flip = lambda tree: jax.tree.map(lambda x: x.swapaxes(-1, -2), tree)  # noqa: E731
    alone = compiled(entry.build(hp, infos_of(flip(runs[0].init), IN_OUT), {}))
    for i, run in enumerate(runs):
        after, _ = alone(flip(run.init), flip(run.grads))
        assert_close({name: x[:, i // 2, i % 2] for name, x in stacked.items()}, flip(after), entry.tolerance(first(entry)))


@pytest.mark.parametrize("entry", ENTRIES)
def test_converges(entry):
    """A quadratic and a linear map from data, rate falling to zero: for some rate both losses fall by a hundred."""
    rng, steps = np.random.default_rng(0), 300
    goal = {"bias": rng.normal(size=5), "tall": rng.normal(size=(10, 6)) / 2}
    inputs = rng.normal(size=(6, 40)) * np.linspace(1, 2, 6)[:, None] / 6
    curvature = np.linspace(1, 4, 5)

    def losses(params):
        off = params["tall"] - goal["tall"]
        return {"bias": jnp.sum(curvature * (params["bias"] - goal["bias"]) ** 2), "tall": jnp.sum((off @ inputs) ** 2)}

    init = jax.tree.map(lambda x: jnp.float32(np.flip(x)), goal)  # as far out as the goal: some rules keep the norm
    undecayed = dict.fromkeys({"wd", "weight_decay"} & entry.cases[first(entry)].keys(), 0.0)

    @quick_jit
    def run(peak):
        # Injected, since not every rule of optax takes a schedule.
        tx = injected(entry, lambda name: name == "lr", init, lr=lambda t: peak * (1 - t / steps),
                      **undecayed | entry.converging)

        def step(carry, _):
            params, state = carry
            grads = jax.grad(lambda p: sum(losses(p).values()))(params)
            updates, state = tx.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), None

        return losses(jax.lax.scan(step, (init, tx.init(init)), length=steps)[0][0])

    start, best = losses(init), {}
    for peak in (0.1, 1.0, 1e-2, 1e-3):
        best = {name: np.fmin(end / start[name], best.get(name, 1.0)) for name, end in run(peak).items()}
        if max(best.values()) < 0.01:
            return
    pytest.fail(f"shares of the losses left: {best}")
