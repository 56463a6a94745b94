"""StableMax: cross-entropy in which a rational function stands for the exponential."""

import jax
import jax.numpy as jnp


def stablemax_log_probs(logits: jax.Array) -> jax.Array:
    """Returns log(s(x_i) / sum_j s(x_j)) over the last axis, in float32 (or float64), with

        s(x) = x + 1 for x >= 0,  1 / (1 - x) for x < 0;   log s(x) = sign(x) log(1 + |x|).

    A logit must grow without bound, not just past float32's range of exp, for another's share to become 0: a
    fitted example's loss keeps a gradient. Prieto et al. 2025 (2501.04697, section 4). Their release computes
    in float64; taking logarithms before the sum keeps float32 within its rounding.
    """
    x = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    # Each side sees only its own values: the gradient at 0 is 1 from the right.
    positive = x >= 0
    log_s = jnp.where(positive, jnp.log1p(jnp.where(positive, x, 0)), -jnp.log1p(-jnp.where(positive, 0, x)))
    return log_s - jax.nn.logsumexp(log_s, axis=-1, keepdims=True)


def stablemax_cross_entropy(logits_NxV: jax.Array, targets_N: jax.Array) -> jax.Array:
    """Returns mean_n(-log p_n[target_n]) under StableMax, a float32 scalar in nats.

    Args:
      logits_NxV: (N, V) of any float type; computed in float32.
      targets_N: (N,) whole numbers in [0, V); others give NaN.
    """
    log_probs = stablemax_log_probs(logits_NxV)
    targets_N = targets_N.astype(jnp.int32)
    targets_N = jnp.where(targets_N < 0, logits_NxV.shape[-1], targets_N)  # an index of -1 would be the last
    picked = jnp.take_along_axis(log_probs, targets_N[:, None], axis=-1, mode="fill", fill_value=jnp.nan)
    return -jnp.mean(picked)
