"""Dropout whose randomness is an argument."""

import jax
import jax.numpy as jnp


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Returns `x` with each entry zeroed with probability `rate` and the others divided by 1 - rate.

    Without a key, or at rate 0, returns `x` itself. Source: Srivastava et al. 2014, "Dropout: a
    simple way to prevent neural networks from overfitting", section 10 (inverted form).
    """
    if key is None or rate == 0:
        return x
    kept = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(kept, x / (1 - rate), jnp.zeros((), x.dtype))


def split(key: jax.Array | None, count: int) -> tuple[jax.Array | None, ...]:
    """Returns `count` independent keys, or as many None where `key` is None."""
    return (None,) * count if key is None else tuple(jax.random.split(key, count))
