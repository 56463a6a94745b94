"""Two wrappers that bring any optax transformation up to this library's contract.

`float32_state`: moments in float32 however the parameters are stored. optax makes the second moment in the
parameter's type, and in bfloat16 an average with b2 = 0.999 stands still: its steps are below the type's
resolution of 2^-8.
`placed_like_params`: state that lies on the mesh like its parameters, also out of a bare `jit(tx.init)`, which
by itself replicates zeros; and that stays there through every update.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AxisType, NamedSharding

from jaxlm.params.placement import spec_like


def contract(tx: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Returns `tx` within both wrappers: float32 state, placed like the parameters."""
    return placed_like_params(float32_state(tx))


def float32_state(tx: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Returns `tx` computing in float32 where gradients and parameters are narrower.

    Its state is that of float32 parameters; updates come back in the gradients' types. float32 and float64
    pass unchanged.
    """
    inner = optax.with_extra_args_support(tx)

    def init(params: Any) -> Any:
        return inner.init(widen(params))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        wide = None if params is None else widen(params)
        new, state = inner.update(widen(updates), state, wide, **extra)
        return jax.tree.map(lambda u, g: u.astype(g.dtype), new, updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def widen(tree: Any) -> Any:
    """Returns `tree` with floating-point arrays narrower than float32 in float32."""
    def wide(x: Any) -> Any:
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return x
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return jax.tree.map(wide, tree)


def placed_like_params(tx: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Returns `tx` with every array of its state split over the mesh like the parameter it belongs to.

    An array belongs to the parameter whose path ends its own; axes are matched as in `params.spec_like`. Under
    jit on Auto meshes the placement follows from the parameters by propagation and costs nothing at run time;
    on Explicit meshes types carry it and nothing is done here.
    """
    inner = optax.with_extra_args_support(tx)

    def init(params: Any) -> Any:
        named = {tuple(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}

        def place(path: tuple, leaf: Any) -> Any:
            for start in range(len(path) + 1):
                if path[start:] in named:
                    return _place(leaf, named[path[start:]])
            return leaf

        return jax.tree_util.tree_map_with_path(place, inner.init(params))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        new, after = inner.update(updates, state, params, **extra)
        return new, jax.tree.map(lambda a, b: tie(a, b) if isinstance(a, jax.core.Tracer) else a, after, state)

    return optax.GradientTransformationExtraArgs(init, update)


def is_explicit(x: Any) -> bool:
    """Returns whether `x` is split over an axis of a mesh whose axes are Explicit."""
    sharding = getattr(jax.typeof(x), "sharding", None)
    mesh = getattr(sharding, "mesh", None)
    if mesh is None or mesh.empty:
        return False
    return AxisType.Explicit in mesh.axis_types and any(axis is not None for axis in sharding.spec)


def _place(leaf: Any, param: Any) -> Any:
    if not isinstance(leaf, jax.Array) or leaf.ndim == 0:
        return leaf
    if isinstance(leaf, jax.core.Tracer):
        return tie(leaf, param)
    sharding = getattr(param, "sharding", None)
    if isinstance(param, jax.core.Tracer) or not isinstance(sharding, NamedSharding):
        return leaf
    spec = spec_like(param.shape, sharding.spec, leaf.shape, sharding.mesh)
    return jax.device_put(leaf, NamedSharding(sharding.mesh, spec))


def tie(x: jax.Array, like: jax.Array) -> jax.Array:
    """Returns `x`, to which the partitioner gives the placement of `like` axis by axis.

    Both branches of the choice are `x`: XLA drops it, and the reduction before it, once placements are
    decided. (`jax.experimental.shard_alike` did this until jax 0.12 removed it.)
    """
    if x.ndim == 0 or like.ndim == 0 or is_explicit(like) or is_explicit(x):
        return x
    proxy = like.reshape((1,) * max(0, x.ndim - like.ndim) + like.shape)
    proxy = jnp.max(proxy, axis=tuple(range(x.ndim, like.ndim))) if like.ndim > x.ndim else proxy
    if all(own == 1 for own in proxy.shape):
        return x
    for axis, (own, length) in enumerate(zip(proxy.shape, x.shape, strict=True)):
        if own > length:
            proxy = jax.lax.slice_in_dim(proxy, 0, length, axis=axis)
        elif 1 < own < length:
            proxy = jnp.pad(proxy, [(0, length - own if axis == other else 0) for other in range(x.ndim)])
    return jnp.where(jnp.broadcast_to(proxy != 0, x.shape), x, x)
