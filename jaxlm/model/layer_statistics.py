"""What attention and the residual stream look like inside the model, layer by layer, on one batch."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.scipy.special import entr

from jaxlm.model.attention import past_mask, scores
from jaxlm.model.decoder import Decoder


class Probe(NamedTuple):
    """Float32 arrays [L], one value a layer; formulas and sources in `jaxlm.train.diagnostics`.

    Attributes:
      attention_logit_max: the largest |score| of a query and a key that it may see, scale included.
      attention_entropy: of the attention weights as a share of the most possible, 0 to 1, averaged
        over batch and queries that see at least two keys, of the head where it is smallest.
      residual_rms: root mean square of the residual stream after the block.
      residual_kurtosis: excess kurtosis of the same, over the channels of a token, mean over tokens.
    """

    attention_logit_max: jax.Array
    attention_entropy: jax.Array
    residual_rms: jax.Array
    residual_kurtosis: jax.Array


def probe_decoder(decoder: Decoder, tokens_BxT: jax.Array) -> Probe:
    """Returns the `Probe` of a forward pass without dropout; runs the layers by `lax.scan`."""
    graph, state = nnx.split(decoder.blocks)
    batch = tokens_BxT.shape[0]

    def layer(x_NxD: jax.Array, one_layer: dict) -> tuple[jax.Array, Probe]:
        block = nnx.merge(graph, one_layer)
        # The block makes the same queries once more, which XLA sees, and scores of its own.
        q_BxTxHxK, k_BxTxGxK, _ = block.attention.project(block.attention_norm(x_NxD), batch=batch)
        scores_BxGxMxT = scores(q_BxTxHxK, k_BxTxGxK)
        x_NxD = block(x_NxD, batch=batch, dropout_key=None)
        return x_NxD, Probe(*attention_statistics(scores_BxGxMxT), *residual_statistics(x_NxD))

    return jax.lax.scan(layer, decoder.embedding(tokens_BxT), nnx.to_pure_dict(state))[1]


def attention_statistics(scores_BxGxMxT: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns (largest causal |score|, smallest mean entropy of a head) of scores as `scores` makes them.

    M = R * T rows hold the R query heads of a group one after the other. The entropy of a query that
    sees n keys is divided by log n; NaN for sequences of one token.
    """
    batch, groups, *rows, time = scores_BxGxMxT.shape
    past_MxT = past_mask(time, math.prod(rows) // time)
    largest = jnp.max(jnp.abs(scores_BxGxMxT), where=past_MxT, initial=0.0)
    weights_BxGxMxT = jax.nn.softmax(scores_BxGxMxT, axis=-1, where=past_MxT)
    entropy_BxGxRxT = jnp.sum(entr(weights_BxGxMxT), axis=-1).reshape(batch, groups, -1, time)
    share_BxGxRxT = entropy_BxGxRxT[..., 1:] / jnp.log(jnp.arange(2, time + 1, dtype=jnp.float32))
    return largest, jnp.min(jnp.mean(share_BxGxRxT, axis=(0, 3)))


def residual_statistics(x_NxD: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns (root mean square, mean over rows of the excess kurtosis over channels), in float32."""
    x_NxD = x_NxD.astype(jnp.float32)
    centred_NxD = x_NxD - jnp.mean(x_NxD, axis=-1, keepdims=True)
    variance_N = jnp.mean(centred_NxD**2, axis=-1)
    kurtosis_N = jnp.mean(centred_NxD**4, axis=-1) / variance_N**2 - 3
    return jnp.sqrt(jnp.mean(x_NxD**2)), jnp.mean(kurtosis_N)
