"""The one pytree that a resume needs, how it is made, and where it lies on a mesh."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxlm import model, params
from jaxlm.config import require
from jaxlm.model.config import ModelConfig
from jaxlm.optim import OptimizerConfig, make_optimizer
from jaxlm.parallel import RULES, quick_options


class TrainState(NamedTuple):
    """Parameters (nested dict), optimizer state, and the number of updates made (int32)."""

    params: Any
    opt_state: Any
    step: jax.Array


def run_optimizer(
    model_config: ModelConfig, optimizer: OptimizerConfig, clip_norm: float | None
) -> optax.GradientTransformation:
    """Returns the optax chain for the model's parameters."""
    return make_optimizer(optimizer, model.param_infos(model_config), clip_norm=clip_norm)


def state_shardings(model_config: ModelConfig, tx: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """Returns the tree of shardings of the state; optimizer state lies where its parameter lies.

    Raises `ConfigError` where a mesh axis does not divide what it splits: heads, feed-forward width, vocabulary,
    or an axis of a parameter.
    """
    infos, tensor = model.param_infos(model_config), mesh.shape["tensor"]
    lengths = {"heads": model_config.heads, "kv_heads": model_config.kv_groups, "ff": model_config.ff_width,
               "vocabulary": model_config.vocabulary}
    for field, length in lengths.items():
        require(length % tensor == 0, "mesh.tensor", tensor, f"must divide model.{field} = {length}")
    specs = params.partition_specs(infos, RULES)
    params.check_divides(infos, specs, mesh)
    shapes = jax.tree.map(lambda info: jax.ShapeDtypeStruct(info.shape, jnp.float32), infos)
    shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs,
                             is_leaf=lambda x: isinstance(x, PartitionSpec))
    return TrainState(
        params=shardings,
        opt_state=params.state_shardings(tx, shapes, shardings, mesh),
        step=NamedSharding(mesh, PartitionSpec()),
    )


def init_state(
    model_config: ModelConfig, tx: optax.GradientTransformation, *, mesh: Mesh, seed: int
) -> TrainState:
    """Returns the fresh state, made where it will lie."""
    return _compiled_init(model_config, tx, mesh)(jnp.uint32(seed))


def start_from(
    parameters: Any, model_config: ModelConfig, tx: optax.GradientTransformation, *, mesh: Mesh
) -> TrainState:
    """Returns the state of a run that starts with `parameters`: a fresh optimizer state, no update made."""
    return _compiled_start(model_config, tx, mesh)(parameters)


def abstract_state(model_config: ModelConfig, tx: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """Returns the state as shapes, dtypes and shardings, without allocating it."""
    shapes = jax.eval_shape(functools.partial(_init_state, model_config, tx), jnp.uint32(0))
    return jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s),
                        shapes, state_shardings(model_config, tx, mesh))


@functools.lru_cache(maxsize=8)
def _compiled_init(
    model_config: ModelConfig, tx: optax.GradientTransformation, mesh: Mesh
) -> Callable[[jax.Array], TrainState]:
    # Kept, for a process that trains several runs of one shape would compile it for each.
    make = functools.partial(_init_state, model_config, tx)
    options = quick_options(mesh.devices.flat[0].platform)
    return jax.jit(make, out_shardings=state_shardings(model_config, tx, mesh), compiler_options=options)


@functools.lru_cache(maxsize=8)
def _compiled_start(
    model_config: ModelConfig, tx: optax.GradientTransformation, mesh: Mesh
) -> Callable[[Any], TrainState]:
    def make(tree: Any) -> TrainState:
        # Copies: an array that came back as it went in would be donated twice, as parameter and as state.
        return jax.tree.map(jnp.copy, TrainState(params=tree, opt_state=tx.init(tree), step=jnp.zeros((), jnp.int32)))

    return jax.jit(make, out_shardings=state_shardings(model_config, tx, mesh))


def _init_state(model_config: ModelConfig, tx: optax.GradientTransformation, seed: jax.Array) -> TrainState:
    tree = model.init(model_config, jax.random.key(seed))
    return TrainState(params=tree, opt_state=tx.init(tree), step=jnp.zeros((), jnp.int32))
