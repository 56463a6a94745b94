import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from jaxlm.config import ConfigError
from jaxlm.params import ParamInfo, check_divides, partition_specs, replicated_bytes, spec_like, state_shardings

ROOT = pathlib.Path(__file__).resolve().parents[2]

INFOS = {
    "table": ParamInfo(shape=(8, 4), axes=("vocab", "width"), kind="embedding"),
    "kernel": ParamInfo(shape=(2, 4, 6), axes=("layers", "width", "ff"), kind="matrix", stack_axes=1),
    "head": ParamInfo(shape=(4, 8), axes=("width", "vocab"), kind="head"),
    "scale": ParamInfo(shape=(4,), axes=(None,), kind="vector"),
}


def test_specs_follow_the_rules():
    specs = partition_specs(INFOS, {"width": "fsdp", "ff": "tensor"})
    assert specs == {"table": PartitionSpec(None, "fsdp"), "kernel": PartitionSpec(None, "fsdp", "tensor"),
                     "head": PartitionSpec("fsdp", None), "scale": PartitionSpec(None)}


def test_an_embedding_table_is_never_split_along_both_axes():
    specs = partition_specs(INFOS, {"width": "fsdp", "vocab": "tensor"})
    assert specs["table"] == PartitionSpec(None, ("tensor", "fsdp"))
    assert specs["head"] == PartitionSpec("fsdp", "tensor")


def test_an_axis_may_lie_over_several_mesh_axes():
    specs = partition_specs(INFOS, {"width": ("fsdp", "sequence"), "ff": ("tensor",)})
    assert specs["kernel"] == PartitionSpec(None, ("fsdp", "sequence"), "tensor")
    mesh = AbstractMesh((2, 1, 4), ("fsdp", "tensor", "sequence"))
    with pytest.raises(ConfigError, match=r"^mesh.fsdp \* mesh.sequence = 8: must divide the axis 'width' of head, "):
        check_divides(INFOS, specs, mesh)


def test_bytes_beyond_an_even_share_are_named():
    mesh = AbstractMesh((2, 3), ("x", "y"))
    shapes = {"a": jax.ShapeDtypeStruct((4, 6), jnp.float32), "b": jax.ShapeDtypeStruct((4, 6), jnp.bfloat16),
              "c": jax.ShapeDtypeStruct((4, 6), jnp.float32), "count": jax.ShapeDtypeStruct((), jnp.int32)}
    specs = {"a": PartitionSpec("x", "y"), "b": PartitionSpec(None, "y"), "c": PartitionSpec(),
             "count": PartitionSpec()}
    shardings = {name: NamedSharding(mesh, spec) for name, spec in specs.items()}
    assert replicated_bytes(shapes, shardings, 6) == {"b": (8 - 4) * 2, "c": (24 - 4) * 4}


def test_a_rule_of_none_leaves_the_axis_whole():
    specs = partition_specs(INFOS, {"width": None, "ff": "tensor"})
    assert specs["kernel"] == PartitionSpec(None, None, "tensor")


def test_two_axes_on_one_mesh_axis_are_refused():
    with pytest.raises(ConfigError, match="two axes of kernel .* lie on one mesh axis"):
        partition_specs(INFOS, {"width": "fsdp", "ff": "fsdp"})


# The inner path ends like the outer one: the longest ending must win.
PARAMS = {"a": {"w": jax.ShapeDtypeStruct((4, 6), jnp.float32)},
          "w": jax.ShapeDtypeStruct((6, 4), jnp.float32)}


def place(tx):
    """Returns the specs of the state of `tx`, by path."""
    mesh = Mesh(jax.devices()[:1], ("x",))
    shardings = {"a": {"w": NamedSharding(mesh, PartitionSpec("x"))},
                 "w": NamedSharding(mesh, PartitionSpec(None, "x"))}
    placed = state_shardings(tx, PARAMS, shardings, mesh)
    assert jax.tree.structure(placed) == jax.tree.structure(jax.eval_shape(tx.init, PARAMS))
    leaves = jax.tree_util.tree_leaves_with_path(placed)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf.spec for path, leaf in leaves}


@pytest.mark.parametrize("tx", [
    optax.adamw(1e-3),
    optax.inject_hyperparams(optax.adamw)(learning_rate=1e-3),
    optax.chain(optax.clip_by_global_norm(1.0),
                optax.masked(optax.adamw(1e-3), {"a": {"w": True}, "w": True})),
    optax.MultiSteps(optax.adamw(1e-3), 2).gradient_transformation(),
    optax.partition({"p": optax.adamw(1e-3), "q": optax.adam(1e-3)}, {"a": {"w": "p"}, "w": "q"}),
], ids=["adamw", "inject_hyperparams", "masked in chain", "MultiSteps", "partition"])
def test_moments_lie_like_their_parameters_and_the_rest_is_replicated(tx):
    specs = place(tx)
    for path, spec in specs.items():
        if path.endswith("a.w"):
            assert spec == PartitionSpec("x"), path
        elif path.endswith(".w"):
            assert spec == PartitionSpec(None, "x"), path
        else:
            assert spec == PartitionSpec(), path
    assert sum(path.endswith("a.w") for path in specs) >= 2


def test_factors_are_split_as_the_axis_of_their_parameter_in_the_same_place():
    # a.w is [4, 6] split along its first axis, w is [6, 4] split along its second.
    specs = place(optax.adafactor(1e-3, min_dim_size_to_factor=2))
    rows, columns = specs["0.v_row.a.w"], specs["0.v_col.a.w"]
    assert (rows, columns) == (PartitionSpec("x"), PartitionSpec("x"))
    assert (specs["0.v_row.w"], specs["0.v_col.w"]) == (PartitionSpec(None), PartitionSpec(None))


@pytest.mark.parametrize(("other", "expected"), [
    ((8, 4, 6), ("x", None, "y")), ((8, 4, 3), ("x", None, "y")), ((8, 4, 2), ("x", None, None)),
    ((8, 2, 6), ("x", None, "y")), ((16, 4, 6), ("x", None, "y")), ((8,), ("x",)), ((3,), (None,)),
    ((2, 8, 4, 6), (None, "x", None, "y"))])
def test_an_axis_is_split_where_the_devices_divide_it(other, expected):
    mesh = AbstractMesh((2, 3), ("x", "y"))
    assert spec_like((8, 4, 6), PartitionSpec("x", None, "y"), other, mesh) == PartitionSpec(*expected)


def test_an_axis_over_two_mesh_axes_needs_both_to_divide():
    mesh = AbstractMesh((2, 3), ("x", "y"))
    specs = [spec_like((12, 4), PartitionSpec(("x", "y")), (rank, 4), mesh) for rank in (6, 4)]
    assert specs == [PartitionSpec(("x", "y"), None), PartitionSpec(None, None)]


SHARDED_TRAINING = """
import json, jax, jax.numpy as jnp, numpy as np, optax
from jax.sharding import AxisType, NamedSharding
from jaxlm import losses, model, params as P

config = model.ModelConfig(vocabulary=32, sequence=8, layers=2, width=16, heads=4, kv_heads=2, ff=32,
                           qk_norm=True)
mesh = jax.make_mesh((2, 2, 2), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
rules = {"width": "fsdp", "heads": "tensor", "kv": "tensor", "ff": "tensor", "vocab": "tensor"}
specs = P.partition_specs(model.param_infos(config), rules)
shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)
tx = optax.adamw(1e-2)
single = jax.jit(lambda: model.init(config, 0))()
params = jax.jit(lambda: model.init(config, 0), out_shardings=shardings)()
placed = P.state_shardings(tx, params, shardings, mesh)
state = jax.jit(tx.init, out_shardings=placed)(params)
tokens = np.random.default_rng(0).integers(0, 32, (4, 9))

def loss(params):
    return losses.cross_entropy(model.apply(config, params, tokens[:, :-1]), tokens[:, 1:].reshape(-1))[0]

def update(params, state):
    value, gradient = jax.value_and_grad(loss)(params)
    updates, state = tx.update(gradient, state, params)
    return optax.apply_updates(params, updates), state, value

def kept(tree, shardings):
    leaves = zip(jax.tree.leaves(tree), jax.tree.leaves(shardings), strict=True)
    return all(leaf.sharding.is_equivalent_to(sharding, leaf.ndim) for leaf, sharding in leaves)

def split(tree):
    return sum(not leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(tree))

result = {"same start": all(map(np.array_equal, jax.tree.leaves(params), jax.tree.leaves(single))),
          "init kept": kept(state, placed), "split parameters": split(params), "split state": split(state)}
after, state, value = jax.jit(update, out_shardings=(shardings, placed, None))(params, state)
result["update kept"] = kept((after, state), (shardings, placed))
result["losses"] = [float(value), float(jax.jit(loss)(single))]
print(json.dumps(result))
"""


# The second flag makes compilations a few times shorter.
FLAGS = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"


@pytest.fixture(scope="module")
def sharded():
    """The result of one AdamW update on 8 fake CPU devices, (data, fsdp, tensor) = (2, 2, 2)."""
    environment = os.environ | {"XLA_FLAGS": FLAGS, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", SHARDED_TRAINING], cwd=ROOT, env=environment,
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.slow
def test_sharded_init_gives_the_same_parameters(sharded):
    assert sharded["same start"]


@pytest.mark.slow
def test_adamw_state_is_split_by_jit_init(sharded):
    assert sharded["init kept"]
    # Both moments of every split parameter: all but the two qk-norm scales.
    assert sharded["split parameters"] == 12 and sharded["split state"] == 24


@pytest.mark.slow
def test_sharding_survives_an_update(sharded):
    assert sharded["update kept"]


@pytest.mark.slow
def test_sharded_loss_equals_the_loss_on_one_device(sharded):
    # The same sums in another order, in float32.
    assert sharded["losses"][0] == pytest.approx(sharded["losses"][1], rel=1e-6)
