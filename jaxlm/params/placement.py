"""Where parameters and optimizer state lie on a mesh."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import optax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec, Sharding

from jaxlm.config import ConfigError, require
from jaxlm.params.foreign import path_name
from jaxlm.params.info import ParamInfo


# Logical axis -> the mesh axes that split it, the first in the largest pieces; None or no entry for none.
Rules = Mapping[str, str | tuple[str, ...] | None]


def partition_specs(infos: Any, rules: Rules) -> Any:
    """Returns the tree of `PartitionSpec` that `rules` (logical axis -> mesh axes) give.

    A logical axis that the rules leave out is not split. An embedding table is split along its last ruled axis
    only, by the mesh axes of all its axes together: split along both, XLA gathers the whole table at every lookup.

    Raises `ConfigError` where the rules put two axes of one array on the same mesh axis.
    """
    return jax.tree_util.tree_map_with_path(lambda path, info: _spec(path, info, rules), infos)


def check_divides(infos: Any, specs: Any, mesh: Mesh | AbstractMesh) -> None:
    """Raises `ConfigError` naming the first axis of a parameter that its mesh axes do not divide."""
    def check(path: tuple, info: ParamInfo, spec: PartitionSpec) -> None:
        for length, axis, entry in zip(info.shape, info.axes, spec, strict=True):
            product = " * ".join(f"mesh.{name}" for name in _names(entry) if mesh.shape[name] > 1)
            require(length % _devices(entry, mesh) == 0, product, _devices(entry, mesh),
                    f"must divide the axis {axis!r} of {path_name(path)}, which has length {length}")

    jax.tree_util.tree_map_with_path(check, infos, specs)


def state_shardings(tx: optax.GradientTransformation, params: Any, shardings: Any, mesh: Mesh | AbstractMesh) -> Any:
    """Returns the tree of shardings that places the optimizer's state like the parameters.

    Use it as `out_shardings` of `jit(tx.init)`, which by itself replicates the state. An array of the
    state belongs to a parameter if its path ends in the parameter's path, whatever wraps the
    transformation; it is split as `spec_like` says. Everything else (counters, hyperparameters) is
    replicated.

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
                return _sharding_like(sharding, shape, leaf.shape)
        return replicated

    return jax.tree_util.tree_map_with_path(place, jax.eval_shape(tx.init, params))


def replicated_bytes(shapes: Any, shardings: Any, parts: int) -> dict[str, int]:
    """Returns {path: bytes} of what each device holds beyond an even share of the arrays of a tree.

    Empty where every array with an axis lies in `parts` pieces. Counters and other scalars are not looked at.

    Args:
      shapes: a tree of arrays or `jax.ShapeDtypeStruct`, such as a training state.
      shardings: the tree of shardings like it; of a compiled program, `compiled.input_shardings`.
      parts: the number of devices that hold one copy together.
    """
    found = {}
    for (path, leaf), sharding in zip(
            jax.tree_util.tree_leaves_with_path(shapes), jax.tree.leaves(shardings), strict=True):
        held, share = math.prod(sharding.shard_shape(leaf.shape)), -(-math.prod(leaf.shape) // parts)
        if leaf.ndim and held > share:
            found[path_name(path)] = (held - share) * leaf.dtype.itemsize
    return found


def spec_like(
    shape: tuple[int, ...], spec: PartitionSpec, other: tuple[int, ...], mesh: Mesh | AbstractMesh
) -> PartitionSpec:
    """Returns how an array of shape `other` is split that belongs to a parameter of `shape` split by `spec`.

    Each axis is split like the parameter's axis in the same place, if the devices divide it. So moments lie like
    their parameter; an [m, r] factor of an [m, n] parameter is split along m and, where it can be, along r, and its
    [n, n] factor along both sides. Axes that an array has beyond the parameter's come first.
    """
    extra = max(0, len(other) - len(shape))
    padded = (*spec, *(None,) * (len(shape) - len(spec)))
    kept = [axis if length % _devices(axis, mesh) == 0 else None
            for length, axis in zip(other[extra:], padded, strict=False)]
    return PartitionSpec(*(None,) * extra, *kept)


def _devices(axis: str | tuple[str, ...] | None, mesh: Mesh | AbstractMesh) -> int:
    """How many parts an entry of a `PartitionSpec` makes."""
    return math.prod(mesh.shape[name] for name in _names(axis))


def _names(axis: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (axis,) if isinstance(axis, str) else axis or ()


def _sharding_like(sharding: Sharding, shape: tuple[int, ...], other: tuple[int, ...]) -> Sharding:
    if shape == other or not isinstance(sharding, NamedSharding):
        return sharding
    return NamedSharding(sharding.mesh, spec_like(shape, sharding.spec, other, sharding.mesh))


def _spec(path: tuple, info: ParamInfo, rules: Rules) -> PartitionSpec:
    split = [() if axis is None else _names(rules.get(axis)) for axis in info.axes]
    used = [name for names in split for name in names]
    if len(set(used)) < len(used):
        raise ConfigError(f"rules = {dict(rules)!r}: two axes of {path_name(path)} {info.axes} lie on one mesh axis")
    if info.kind == "embedding" and used:
        last = max(position for position, names in enumerate(split) if names)
        split = [tuple(used) if position == last else () for position in range(len(split))]
    return PartitionSpec(*(names[0] if len(names) == 1 else names or None for names in split))
