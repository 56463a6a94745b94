"""Follows every optimizer of the table on eight forced devices and prints, as one line of JSON, what it found.

On standard error a line "entry NAME" parts what the compiler says of one from what it says of the next. Run by `test_suite_sharded.py` with XLA_FLAGS and PYTHONPATH set.
"""

import dataclasses
import json
import sys
import traceback

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from problem import quick_jit, synthetic
from table import TABLE

from jaxlm.optim.memory import state_bytes
from jaxlm.params import state_shardings

STEPS = 10
SHAPES = {"bias": (12,), "stk": (2, 10, 6), "wide": (8, 20)}
# bias and wide lie across the axes of the mesh, stk along its stack.
SPLIT = {"bias": ("y",), "stk": ("x", None, None), "wide": ("x", "y")}


def main():
    jax.config.update("jax_disable_most_optimizations", True)
    problem, found = synthetic(seed=2, steps=STEPS, shapes=SHAPES), {}
    names = sys.argv[1:]
    for entry in TABLE:
        if names and entry.name not in names:
            continue
        print(f"entry {entry.name}", file=sys.stderr, flush=True)
        try:
            found[entry.name] = examine(entry, problem)
        except Exception:
            found[entry.name] = {"error": traceback.format_exc(limit=-8)}
    print(json.dumps(found))


def examine(entry, problem):
    hp = entry.cases[next(iter(entry.cases))]
    tx = entry.build(hp, dataclasses.replace(problem, dims=entry.dims).infos, {})
    mesh = jax.make_mesh((2, 4), ("x", "y"), axis_types=(AxisType.Auto,) * 2)
    shardings = {name: NamedSharding(mesh, PartitionSpec(*split)) for name, split in SPLIT.items()}
    params = jax.device_put(jax.tree.map(jnp.asarray, problem.init), shardings)
    expected = state_shardings(tx, params, shardings, mesh)
    state = quick_jit(tx.init)(params)
    found = {"misplaced at init": misplaced(state, expected), "bytes": compare_bytes(tx, params, shardings, state)}
    after, state = follow(tx, params, state, problem.grads, shardings)
    found["misplaced after an update"] = misplaced(state, expected)
    alone = jax.device_put(problem.init, jax.devices()[0])
    wanted, _ = follow(tx, alone, tx.init(alone), problem.grads, jax.devices()[0])
    found["off"] = {name: float(np.abs(after[name] - wanted[name]).max()) for name in wanted}
    found["explicit"] = explicit(tx, problem, wanted)
    return found


def follow(tx, params, state, grads, shardings):
    @quick_jit
    def step(grads, state, params):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    seen = []
    for t in range(STEPS):
        params, state = step(jax.device_put({name: g[t] for name, g in grads.items()}, shardings), state, params)
        seen.append(jax.device_get(params))
    return jax.tree.map(lambda *x: np.stack(x), *seen), state


def misplaced(state, expected):
    """Which arrays of the state lie otherwise than expected."""
    return [f"{jax.tree_util.keystr(path)} {leaf.shape}: {leaf.sharding.spec}, not {want.spec}"
            for (path, leaf), want in zip(jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(expected), strict=True)
            if leaf.ndim and not leaf.sharding.is_equivalent_to(want, leaf.ndim)]


def compare_bytes(tx, params, shardings, state):
    leaves = jax.tree.leaves(state)
    held = [sum(shard.data.nbytes for leaf in leaves for shard in leaf.addressable_shards if shard.device == device)
            for device in jax.devices()]
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    real = {"total": sum(leaf.nbytes for leaf in leaves), "per_device": max(held), "elements": sum(leaf.size for leaf in leaves)}
    return {"computed": dataclasses.asdict(state_bytes(tx, shapes, shardings)), "real": real}


def explicit(tx, problem, wanted):
    """How far an update on an Explicit mesh is off, or how it was refused."""
    mesh = jax.make_mesh((2, 4), ("x", "y"), axis_types=(AxisType.Explicit,) * 2)
    with jax.set_mesh(mesh):
        shardings = {name: NamedSharding(mesh, PartitionSpec(*split)) for name, split in SPLIT.items()}
        params = jax.device_put(jax.tree.map(jnp.asarray, problem.init), shardings)

        @quick_jit
        def run(params, grads):
            state = tx.init(params)
            updates, state = tx.update(grads, state, params)
            return optax.apply_updates(params, updates)

        try:
            after = run(params, jax.device_put({name: g[0] for name, g in problem.grads.items()}, shardings))
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return {name: float(np.abs(jax.device_get(after[name]) - wanted[name][0]).max()) for name in wanted}


if __name__ == "__main__":
    main()
