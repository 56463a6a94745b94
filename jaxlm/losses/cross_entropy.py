"""Cross-entropy of next-token predictions, with PaLM's z-loss."""

import jax
import jax.numpy as jnp


def cross_entropy(logits_NxV: jax.Array, targets_N: jax.Array, *,
                  z_loss: float | jax.Array = 0.0) -> tuple[jax.Array, jax.Array]:
    """Returns (cross-entropy, z penalty), two float32 scalars; train on their sum.

    With log Z_n = logsumexp(logits_n):

        cross-entropy = mean_n(log Z_n - logits_n[target_n])      in nats per token
        z penalty     = z_loss * mean_n((log Z_n)^2)

    The first is what is recorded and compared between runs; the second only keeps log Z near 0. Its
    gradient with respect to logits_n is 2 z_loss log Z_n softmax(logits_n) / N.

    Args:
      logits_NxV: (N, V) of any float type; computed in float32. N may be several axes.
      targets_N: (N,) whole numbers in [0, V); others give NaN.
      z_loss: the weight; PaLM uses 1e-4.

    Sources: Chowdhery et al. 2022 (PaLM), arXiv 2204.02311, section 5; Wortsman et al. 2023, arXiv
    2309.14322, section 3.1.
    """
    logits_NxV = logits_NxV.astype(jnp.float32)
    log_z_N = jax.nn.logsumexp(logits_NxV, axis=-1)
    targets_N = targets_N.astype(jnp.int32)
    targets_N = jnp.where(targets_N < 0, logits_NxV.shape[-1], targets_N)  # an index of -1 would be the last
    picked = jnp.take_along_axis(logits_NxV, targets_N[..., None], axis=-1, mode="fill", fill_value=jnp.nan)
    return jnp.mean(log_z_N - picked[..., 0]), z_loss * jnp.mean(jnp.square(log_z_N))
