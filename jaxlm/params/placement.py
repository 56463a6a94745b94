"""Where parameters and optimizer state lie on a mesh."""

from collections.abc import Mapping
from typing import Any

import jax
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from jaxlm.config import ConfigError
from jaxlm.params.info import ParamInfo


def partition_specs(infos: Any, rules: Mapping[str, str | None]) -> Any:
    """Returns the tree of `PartitionSpec` that `rules` (logical axis -> mesh axis) give.

    A logical axis that the rules leave out is not split. An embedding table is split along its first
    ruled axis only: split along both, XLA gathers the whole table at every lookup.

    Raises `ConfigError` where the rules put two axes of one array on the same mesh axis.
    """
    return jax.tree_util.tree_map_with_path(lambda path, info: _spec(path, info, rules), infos)


def state_shardings(tx: optax.GradientTransformation, params: Any, shardings: Any, mesh: Mesh) -> Any:
    """Returns the tree of shardings that places the optimizer's state like the parameters.

    Use it as `out_shardings` of `jit(tx.init)`, which by itself replicates the state. An array of the
    state belongs to a parameter if its path ends in the parameter's path, whatever wraps the
    transformation; it takes that parameter's sharding if it has its shape too. Everything else
    (counters, hyperparameters, factors of other shapes) is replicated.

    Args:
      tx: any optax transformation.
      params: the parameters, or their shapes (`jax.ShapeDtypeStruct`); nothing is allocated.
      shardings: a tree like `params` of `jax.sharding.Sharding`.
      mesh: the mesh that the rest is replicated on.
    """
    named = {path: (leaf.shape, sharding) for (path, leaf), sharding in zip(
        jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(shardings), strict=True)}
    replicated = NamedSharding(mesh, PartitionSpec())

    def place(path: tuple, leaf: jax.ShapeDtypeStruct) -> Sharding:
        # From the longest ending to the empty one, the path of a single-array tree.
        for start in range(len(path) + 1):
            shape, sharding = named.get(path[start:], (None, replicated))
            if shape is not None:
                return sharding if shape == leaf.shape else replicated
        return replicated

    return jax.tree_util.tree_map_with_path(place, jax.eval_shape(tx.init, params))


def _spec(path: tuple, info: ParamInfo, rules: Mapping[str, str | None]) -> PartitionSpec:
    split: list[str | None] = [None if axis is None else rules.get(axis) for axis in info.axes]
    ruled = [position for position, axis in enumerate(split) if axis is not None]
    if info.kind == "embedding":
        split = [axis if position in ruled[:1] else None for position, axis in enumerate(split)]
    used = [axis for axis in split if axis is not None]
    if len(set(used)) < len(used):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        raise ConfigError(f"rules = {dict(rules)!r}: two axes of {name} {info.axes} lie on one mesh axis")
    return PartitionSpec(*split)
