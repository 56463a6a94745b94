"""Normalisation with a learnable scale and no bias."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlm.model import parameter
from jaxlm.model.config import Norm as NormName

# As in the released code of Llama-like models and of Flax's LayerNorm.
EPSILON = 1e-6


class Norm(nnx.Module):
    """Norm over the last axis: y = scale * (x - m) / sqrt(mean((x - m)^2) + epsilon).

    m is the mean for layernorm (Ba et al. 2016, arXiv 1607.06450) and 0 for rmsnorm (Zhang &
    Sennrich 2019, arXiv 1910.07467). Computed in float32, returned in the dtype of the input.
    """

    def __init__(self, name: NormName, length: int, axis: str | None, *, layers: int | None = None):
        self.name = name
        self.scale = parameter.scale(length, axis, layers=layers)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the normed `x`, of its shape (..., length)."""
        return _norm(self.name, x, self.scale[...])


@functools.partial(jax.checkpoint, static_argnums=0)  # else XLA keeps five arrays of the size of x for the gradient
def _norm(name: NormName, x: jax.Array, scale: jax.Array) -> jax.Array:
    y = x.astype(jnp.float32)
    if name == "layernorm":
        y = y - jnp.mean(y, axis=-1, keepdims=True)
    y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + EPSILON)
    return (y * scale).astype(x.dtype)
