"""Where activations lie on the mesh that a function is traced for.

A model names the axes of its arrays at the borders of blocks and knows no mesh; `on_mesh` says, around the
function that is compiled, which mesh there is and which of its axes split what. Without it, and on one device,
nothing is added to the program. What depends on the platform that is traced for stands here too: `transposed`.
"""

import contextlib
import contextvars
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec


class Place(NamedTuple):
    """A mesh, and which of its axes split which axis of an activation."""

    mesh: Mesh | AbstractMesh
    rules: Mapping[str, tuple[str, ...]]

    def devices(self, axis: str | None) -> int:
        """How many parts the rules make of `axis`."""
        return math.prod(self.mesh.shape[name] for name in self.rules.get(axis, ()))

    def spec(self, shape: tuple[int, ...], axes: tuple[str | None, ...]) -> PartitionSpec:
        """Returns how an array with these axes is split; an axis that its devices do not divide is unconstrained."""
        entries = ((self.rules.get(axis) or None) if length % self.devices(axis) == 0 else PartitionSpec.UNCONSTRAINED
                   for axis, length in zip(axes, shape, strict=True))
        return PartitionSpec(*entries)


_PLACE: contextvars.ContextVar[Place | None] = contextvars.ContextVar("place", default=None)


def on_mesh(fn: Callable[..., Any], mesh: Mesh, rules: Mapping[str, tuple[str, ...]]) -> Callable[..., Any]:
    """Returns `fn`, traced with its activations split over `mesh` as `rules` (axis -> mesh axes) say.

    For `jax.jit(on_mesh(fn, ...))`: the mesh is in force while `fn` is traced. A mesh of one device returns `fn`,
    unless it lies on another platform than JAX would use, for which a program may be compiled but not run.
    """
    if mesh.size == 1 and mesh.devices.flat[0].platform == platform():
        return fn

    @functools.wraps(fn)
    def placed(*args: Any, **kwargs: Any) -> Any:
        before = _PLACE.set(Place(mesh, rules))
        try:
            # JAX's own context too, which its caches of traced functions go by.
            with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
                return fn(*args, **kwargs)
        finally:
            _PLACE.reset(before)

    return placed


@contextlib.contextmanager
def whole_batch() -> Iterator[tuple[str, ...] | None]:
    """Within it the axis "batch" is not split; yields the mesh axes that split it elsewhere, None without a mesh.

    For a function of one sequence, mapped over many by `jax.vmap(..., spmd_axis_name=axes)`: the axes then split the
    sequences, and not the tokens of one, which as rows (1 * T, D) are a "batch" as well.
    """
    place = _PLACE.get()
    if place is None:
        yield None
        return
    before = _PLACE.set(place._replace(rules={axis: names for axis, names in place.rules.items() if axis != "batch"}))
    try:
        yield place.rules["batch"]
    finally:
        _PLACE.reset(before)


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Returns `x`, split over the mesh in force along its named `axes` and whole along those that are None.

    An axis whose length the devices do not divide is left to the compiler.
    """
    place = _PLACE.get()
    if place is None:
        return x
    return jax.lax.with_sharding_constraint(x, NamedSharding(place.mesh, place.spec(x.shape, axes)))


def constrain_rows(x: jax.Array, last: str | None = None) -> jax.Array:
    """Returns `constrain` of rows as `rows` gives them, (B * T, N) or (B, T, N), with `last` for their last axis."""
    return constrain(x, "batch", last) if x.ndim == 2 else constrain(x, "batch", "time", last)


def constrain_like(tree: Any, specs: Any) -> Any:
    """Returns `tree` (gradients, say) split as its tree of `PartitionSpec` says, where a mesh is in force."""
    place = _PLACE.get()
    if place is None:
        return tree
    shardings = jax.tree.map(functools.partial(NamedSharding, place.mesh), specs)
    return jax.lax.with_sharding_constraint(tree, shardings)


def mesh_in_force() -> Place | None:
    """Returns the mesh that is traced for, with its rules; None where there is none."""
    return _PLACE.get()


def by_part(fn: Callable[..., jax.Array], *axes: str | None) -> Callable[..., jax.Array]:
    """Returns `fn(*arrays) -> array`, run by each device on its own part of arrays that all have these `axes`.

    For kernels, which the compiler cannot split. An axis of which one array has a length that the devices do not
    divide is whole on every device, as are those that are None.
    """
    def split(*arrays: jax.Array) -> jax.Array:
        place = _PLACE.get()
        if place is None:
            return fn(*arrays)
        lengths = zip(*(x.shape for x in arrays), strict=True)
        spec = PartitionSpec(*(None if any(n % place.devices(axis) for n in each) else place.rules.get(axis) or None
                               for axis, each in zip(axes, lengths, strict=True)))
        # Kernels do not say how their results vary over the mesh.
        return jax.shard_map(fn, in_specs=spec, out_specs=spec, check_vma=False)(*arrays)

    return split


def platform() -> str:
    """Returns what is traced for, "cpu", "gpu" or "tpu": where the mesh in force lies, else where JAX would run."""
    place = _PLACE.get()
    if place is not None:
        return place.mesh.devices.flat[0].platform
    default = jax.config.jax_default_device  # a device or the name of a platform
    return getattr(default, "platform", default) or jax.default_backend()


def native_bfloat16(x: jax.Array) -> bool:
    """Whether products of `x` may be taken in bfloat16 on a CPU: from jax 0.12 on, where the processor can."""
    return x.dtype == jnp.bfloat16 and platform() == "cpu" and jax.__version_info__ >= (0, 12)


def transposed(x: jax.Array) -> jax.Array:
    """Returns `x` with its last two axes exchanged, as a copy that no product undoes.

    In native bfloat16 it is made flat and shaped again. XLA gives what it transposes a layout of its own, and where the
    factors of a product have such a layout, or contract other axes than the last and the first, it turns both into
    float32 arrays (jax 0.12.0: 100 instead of 350 GFLOP/s on two cores with AMX).
    """
    x_T = x.swapaxes(-1, -2)
    if native_bfloat16(x):
        return jax.lax.optimization_barrier(x_T.reshape(-1)).reshape(x_T.shape)
    return jax.lax.optimization_barrier(x_T)


def splits_time() -> bool:
    """Whether the mesh in force splits sequences."""
    place = _PLACE.get()
    return place is not None and place.devices("time") > 1


def rows(x: jax.Array) -> jax.Array:
    """Returns (B, T, ...) as rows (B * T, ...); as it is where sequences are split, for a shard is no range of rows."""
    return x if splits_time() else x.reshape(-1, *x.shape[2:])
