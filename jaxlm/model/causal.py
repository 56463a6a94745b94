"""Causal attention in blocks of queries, with a backward pass of its own: the form for CPUs.

A block's keys end where its queries end, so most of the masked half is neither computed nor kept. Products of
matrices stay large, and none of them transposes a large operand, which XLA does on one core.
"""

import functools

import jax
import jax.numpy as jnp

from jaxlm.params.activations import native_bfloat16, transposed

# 2, 4 and 8 blocks take the same time at 256 tokens; fewer keep the program short.
MOST_BLOCKS, LEAST_QUERIES = 4, 64


def blocked(q_BxTxHxK: jax.Array, k_BxTxGxK: jax.Array, v_BxTxGxK: jax.Array, *,
            blocks: int | None = None) -> jax.Array:
    """Returns what `jaxlm.model.attention.plain` returns, without dropout; scores and softmax are float32.

    Args:
      q_BxTxHxK: queries; heads g * H/G .. (g + 1) * H/G - 1 read key/value head g.
      k_BxTxGxK: keys.
      v_BxTxGxK: values.
      blocks: how many blocks of queries, of lengths that differ by one at most; None for as many as leave each at
        least 64 queries, 4 at most and 1 at least.
    """
    batch, time, heads, size = q_BxTxHxK.shape
    groups = k_BxTxGxK.shape[2]
    q_BxTxGxRxK = (q_BxTxHxK * size**-0.5).reshape(batch, time, groups, heads // groups, size)
    k_BxGxTxK, v_BxGxTxK = (x.transpose(0, 2, 1, 3) for x in (k_BxTxGxK, v_BxTxGxK))
    if blocks is None:
        blocks = max(1, min(MOST_BLOCKS, time // LEAST_QUERIES))
    y_BxGxRxTxK = _blocked(blocks, q_BxTxGxRxK.transpose(0, 2, 3, 1, 4), k_BxGxTxK, v_BxGxTxK)
    return y_BxGxRxTxK.transpose(0, 3, 1, 2, 4).reshape(batch, time, heads, size)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _blocked(blocks: int, q_BxGxRxTxK: jax.Array, k_BxGxTxK: jax.Array, v_BxGxTxK: jax.Array) -> jax.Array:
    return _forward(blocks, q_BxGxRxTxK, k_BxGxTxK, v_BxGxTxK)[0]


def _forward(blocks: int, q_BxGxRxTxK: jax.Array, k_BxGxTxK: jax.Array, v_BxGxTxK: jax.Array) -> tuple:
    """Returns the output (B, G, R, T, K) and what `_backward` needs, the weights of every block among it."""
    shared, time = q_BxGxRxTxK.shape[2:4]
    outputs, weights = [], []
    for start, end in _bounds(time, blocks):
        scores_BxGxMxS = jnp.einsum("bgmk,bgsk->bgms", _rows(q_BxGxRxTxK, start, end), k_BxGxTxK[:, :, :end],
                                    preferred_element_type=jnp.float32)
        past_MxS = jnp.tile(jnp.tril(jnp.ones((end - start, end), bool), start), (shared, 1))
        scores_BxGxMxS = jnp.where(past_MxS, scores_BxGxMxS, jnp.finfo(jnp.float32).min)
        weights_BxGxMxS = jax.nn.softmax(scores_BxGxMxS, axis=-1).astype(q_BxGxRxTxK.dtype)
        y_BxGxMxK = jnp.einsum("bgms,bgsk->bgmk", weights_BxGxMxS, v_BxGxTxK[:, :, :end])
        weights.append(weights_BxGxMxS)
        outputs.append(y_BxGxMxK.reshape(*q_BxGxRxTxK.shape[:3], end - start, -1))
    y_BxGxRxTxK = jnp.concatenate(outputs, axis=3)
    return y_BxGxRxTxK, (q_BxGxRxTxK, k_BxGxTxK, v_BxGxTxK, y_BxGxRxTxK, weights)


def _backward(blocks: int, saved: tuple, dy_BxGxRxTxK: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the gradients of queries, keys and values.

    With weights p and dp = dy v^T, the scores' gradient is ds = p (dp - rowsum(p dp)), and rowsum(p dp) =
    rowsum(dy y) (Dao et al. 2022, arXiv 2205.14135, appendix B.2).
    """
    q_BxGxRxTxK, k_BxGxTxK, v_BxGxTxK, y_BxGxRxTxK, weights = saved
    dtype, time = q_BxGxRxTxK.dtype, q_BxGxRxTxK.shape[3]
    sums_BxGxRxTx1 = jnp.sum(dy_BxGxRxTxK.astype(jnp.float32) * y_BxGxRxTxK.astype(jnp.float32), -1, keepdims=True)
    dq, dk_BxGxKxT, dv_BxGxKxT = [], 0.0, 0.0
    for (start, end), weights_BxGxMxS in zip(_bounds(time, blocks), weights, strict=True):
        q_BxGxMxK, dy_BxGxMxK, sums_BxGxMx1 = (_rows(x, start, end)
                                               for x in (q_BxGxRxTxK, dy_BxGxRxTxK, sums_BxGxRxTx1))
        dp_BxGxMxS = jnp.einsum("bgmk,bgsk->bgms", dy_BxGxMxK, v_BxGxTxK[:, :, :end],
                                preferred_element_type=jnp.float32)
        ds_BxGxMxS = (weights_BxGxMxS * (dp_BxGxMxS - sums_BxGxMx1)).astype(dtype)
        dq_BxGxMxK = jnp.einsum("bgms,bgsk->bgmk", ds_BxGxMxS, k_BxGxTxK[:, :, :end])
        dq.append(dq_BxGxMxK.reshape(*q_BxGxRxTxK.shape[:3], end - start, -1))
        dk_BxGxKxT += _transposed_product(q_BxGxMxK, ds_BxGxMxS, time)
        dv_BxGxKxT += _transposed_product(dy_BxGxMxK, weights_BxGxMxS, time)
    dk_BxGxTxK, dv_BxGxTxK = (x.swapaxes(2, 3).astype(dtype) for x in (dk_BxGxKxT, dv_BxGxKxT))
    return jnp.concatenate(dq, axis=3), dk_BxGxTxK, dv_BxGxTxK


_blocked.defvjp(_forward, _backward)


def _bounds(time: int, blocks: int) -> list[tuple[int, int]]:
    """Returns the first query of each block and the one past its last."""
    ends = [time * block // blocks for block in range(blocks + 1)]
    return list(zip(ends[:-1], ends[1:], strict=True))


def _rows(x_BxGxRxTxK: jax.Array, start: int, end: int) -> jax.Array:
    """Returns tokens start..end-1 of all R heads of a group as rows one after the other, (B, G, M, K)."""
    batch, groups, _, _, size = x_BxGxRxTxK.shape
    return x_BxGxRxTxK[:, :, :, start:end].reshape(batch, groups, -1, size)


def _transposed_product(x_BxGxMxK: jax.Array, w_BxGxMxS: jax.Array, time: int) -> jax.Array:
    """Returns x^T w in float32, (B, G, K, T), 0 past the keys S of the block: x is the small one to transpose."""
    x_BxGxKxM = transposed(x_BxGxMxK) if native_bfloat16(x_BxGxMxK) else x_BxGxMxK.swapaxes(2, 3)
    product_BxGxKxS = jnp.einsum("bgkm,bgms->bgks", x_BxGxKxM, w_BxGxMxS, preferred_element_type=jnp.float32)
    return jnp.pad(product_BxGxKxS, ((0, 0), (0, 0), (0, 0), (0, time - product_BxGxKxS.shape[-1])))
