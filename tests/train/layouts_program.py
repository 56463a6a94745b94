"""Trains on eight forced devices as its one argument asks, and prints what it found as one line of JSON.

Run by `test_sharded.py`. The argument is a list of jobs, [what, optimizer, layout]; on standard error each job's
part begins with a line "job N", so that the compiler's warnings can be told apart.
"""

import functools
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxlm import optim
from jaxlm.model import ModelConfig
from jaxlm.parallel import MeshConfig
from jaxlm.params import replicated_bytes
from jaxlm.train import StepConfig, make_step
from jaxlm.train.state import abstract_state, init_state, state_shardings

# Grouped heads and rope, whose positions and merged axes must be right where sequences are split.
SHORT = ModelConfig(vocabulary=32, sequence=8, layers=1, width=16, heads=4, kv_heads=2, ff=32)
# Dropout and accumulation are on. Two calls of three updates each: what one call puts out goes into the next.
FULL = ModelConfig(vocabulary=32, sequence=8, layers=1, width=16, heads=4, ff=16, dropout=0.1, activation="gelu",
                   tied=True, positions="learned")
TOKENS = np.random.default_rng(0).integers(0, 32, (6, 2, 8, 9)).astype(np.int32)


def short(optimizer, layout):
    """Losses of three updates, and what the compiled program holds more than once."""
    step = _step(SHORT, optimizer, layout, accumulation=1)
    shapes = abstract_state(SHORT, step.tx, step.mesh)
    state = jax.device_put(_start(optimizer), state_shardings(SHORT, step.tx, step.mesh))
    rates = np.full(3, 1e-2, np.float32)
    rest = (_whole(step, True), TOKENS[:3, :1], rates, np.int32(3), np.float32(0.1), np.uint32(0))
    program = step.run_chunk.lower(state, *rest).compile()
    metrics = program(state, *rest)[3]
    return {"train_loss": metrics.train_loss.tolist(),
            "replicated": replicated_bytes(shapes, program.input_shardings[0][0], _parts(layout))}


def full(optimizer, layout):
    """Everything that a step and its diagnostics report, and where state lies before and after."""
    step = _step(FULL, optimizer, layout, accumulation=2, diagnostics=True)
    state, columns = init_state(FULL, step.tx, mesh=step.mesh, seed=0), []
    healthy, shardings = _whole(step, True), state_shardings(FULL, step.tx, step.mesh)
    found = {"init": [float(np.sum(np.abs(leaf), dtype=np.float64)) for leaf in jax.tree.leaves(state.params)],
             "split at init": _split(state), "kept at init": _kept(state, shardings)}
    for first in (0, 3):
        state, healthy, made, metrics = step.run_chunk(
            state, healthy, TOKENS[first:first + 3], np.full(3, 1e-2, np.float32), np.int32(3), np.float32(0.1),
            np.uint32(0))
        columns.append(jax.device_get(metrics))
    found |= {name: np.concatenate([getattr(c, name) for c in columns]).tolist() for name in metrics._fields[:-1]}
    found |= {name: np.concatenate([getattr(c.diagnostics, name) for c in columns]).ravel().tolist()
              for name in metrics.diagnostics._fields}
    shards = MeshConfig(**layout).batch_shards
    seen = step.diagnose(state.params, TOKENS[0, 0], TOKENS[0].reshape(-1, shards, 9), np.int32(6), np.uint32(0))
    found |= {name: column.tolist() for name, column in seen.probe._asdict().items()}
    return found | {
        "block_param_rms": seen.block_param_rms.tolist(), "sequence_grad_sq": float(seen.small_grad_sq),
        "split after two chunks": _split(state), "kept after two chunks": _kept(state, shardings),
        "devices": [device.id for device in step.mesh.devices.flat],
        "heldout": float(step.heldout_loss(state.params, TOKENS[0]))}


def bad(optimizer, layout):
    """A change of placement that the partitioner can only make by gathering the whole array."""
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(AxisType.Auto,) * 2)
    before, after = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("y", None, "x"), (None, ("x", "y"), None)))
    shape = jax.ShapeDtypeStruct((16, 16, 16), jnp.float32)
    move = jax.jit(lambda a, b: b + jax.lax.with_sharding_constraint(a + a, after), in_shardings=(before, after))
    move.lower(shape, shape).compile()
    return {}


def _step(model, optimizer, layout, **fields):
    return make_step(StepConfig(model=model, optimizer=getattr(optim, optimizer)(weight_decay=0.0), clip_norm=1.0,
                                z_loss=1e-3, mesh=MeshConfig(**layout), **fields))


@functools.cache
def _start(optimizer):
    """The fresh state on the host; one compilation for all layouts."""
    step = _step(SHORT, optimizer, {}, accumulation=1)
    return jax.device_get(init_state(SHORT, step.tx, mesh=step.mesh, seed=0))


def _whole(step, value):
    return jax.device_put(value, NamedSharding(step.mesh, PartitionSpec()))


def _parts(layout):
    return layout.get("fsdp", 1) * layout.get("tensor", 1) * layout.get("sequence", 1)


def _split(state):
    """{path: pieces} of every array with an axis; counters and rates have none."""
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf.size // leaf.addressable_shards[0].data.size
            for path, leaf in jax.tree_util.tree_leaves_with_path(state) if leaf.ndim > 0}


def _kept(state, shardings):
    return all(leaf.sharding.is_equivalent_to(sharding, leaf.ndim)
               for leaf, sharding in zip(jax.tree.leaves(state), jax.tree.leaves(shardings), strict=True))


def main():
    found = []
    for number, (what, optimizer, layout) in enumerate(json.loads(sys.argv[1])):
        print(f"job {number}", file=sys.stderr, flush=True)
        found.append({"short": short, "full": full, "bad": bad}[what](optimizer, layout))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
