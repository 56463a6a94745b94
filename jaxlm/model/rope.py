"""Rotary position embedding."""

import jax
import jax.numpy as jnp

THETA = 1e4


def rotate(x_BxTxHxK: jax.Array) -> jax.Array:
    """Returns the heads rotated by angles proportional to their position in the sequence.

    Channels i and i + K/2 form a pair (first and second half, not neighbours: the pairing of
    Llama-like code), rotated at position t by t * theta^(-2i/K) with theta = 1e4. Scores of rotated
    queries and keys depend on the difference of their positions only. Angles and products are in
    float32; the result has the dtype of the input.

    Source: Su et al. 2021, arXiv 2104.09864, section 3.2.2; deviation: the paper pairs neighbours,
    which is the same up to a fixed permutation of channels.
    """
    time, half = x_BxTxHxK.shape[1], x_BxTxHxK.shape[3] // 2
    frequencies = THETA ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles_Tx1xK = jnp.arange(time, dtype=jnp.float32)[:, None, None] * frequencies
    cos, sin = jnp.cos(angles_Tx1xK), jnp.sin(angles_Tx1xK)
    first, second = jnp.split(x_BxTxHxK.astype(jnp.float32), 2, axis=-1)
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x_BxTxHxK.dtype)
