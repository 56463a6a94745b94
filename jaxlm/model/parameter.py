"""Where every parameter is made: its initial value and its `ParamInfo`, side by side."""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlm.params.info import Kind, ParamInfo


def table(key: jax.Array, shape: tuple[int, int], axes: tuple[str | None, ...]) -> nnx.Param:
    """Returns an embedding table (entries, width) whose rows have expected squared norm 1.

    Normal with standard deviation 1 / sqrt(width), as in nanodo; a tied head then starts with logits
    of unit variance. `fan_in` is 1, for one row is read, not summed.
    """
    info = ParamInfo(shape=shape, axes=axes, kind="embedding")
    return _normal(key, shape[1] ** -0.5, info)


def matrix(key: jax.Array, shape: tuple[int, int], axes: tuple[str | None, ...], *,
           layers: int | None = None, kind: Kind = "matrix", gain: float = 1.0) -> nnx.Param:
    """Returns a linear map (in, out), stacked to (layers, in, out) where `layers` is given.

    Normal with standard deviation gain / sqrt(in): outputs have the variance of the inputs times
    gain squared (LeCun et al. 1998, "Efficient BackProp", section 4.6).
    """
    info = ParamInfo(kind=kind, fan_in=shape[0], **_stacked(shape, axes, layers))
    return _normal(key, gain * shape[0] ** -0.5, info)


def scale(length: int, axis: str | None, *, layers: int | None = None) -> nnx.Param:
    """Returns the gain of a norm: ones (length,), stacked to (layers, length) where `layers` is given."""
    info = ParamInfo(kind="vector", **_stacked((length,), (axis,), layers))
    return nnx.Param(jnp.ones(info.shape, jnp.float32), info=info)


def residual_gain(layers: int) -> float:
    """Returns 1 / sqrt(2 * layers), for maps that write into the residual stream.

    The variance that the two branches of each of `layers` blocks add then does not grow with depth
    (Radford et al. 2019, GPT-2, section 2.3).
    """
    return (2 * layers) ** -0.5


def _normal(key: jax.Array, deviation: float, info: ParamInfo) -> nnx.Param:
    # The barrier keeps XLA from merging the factor into those of the normal deviate, which would give
    # other last bits under jit than without.
    deviate = jax.lax.optimization_barrier(jax.random.normal(key, info.shape, jnp.float32))
    return nnx.Param(deviation * deviate, info=info)


def _stacked(shape: tuple[int, ...], axes: tuple[str | None, ...], layers: int | None) -> dict:
    if layers is None:
        return {"shape": shape, "axes": axes}
    return {"shape": (layers, *shape), "axes": ("layers", *axes), "stack_axes": 1}
