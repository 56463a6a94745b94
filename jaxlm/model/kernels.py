"""Causal attention by a platform's own kernel, each device on its own sequences and heads.

Both return what `jaxlm.model.attention.plain` returns, without dropout, and keep no scores for the backward pass.
"""

import functools

import jax

from jaxlm.params.activations import by_part

# What cuDNN takes on every GPU that has bfloat16; the newest take heads up to 256.
CUDNN_HEAD_MULTIPLE, CUDNN_LARGEST_HEAD = 8, 128
# Queries and keys of a block of splash attention fill whole registers of the TPU.
SPLASH_LEAST_BLOCK = 128
SPLASH_BLOCKS = (512, 256, SPLASH_LEAST_BLOCK)


def on_rocm() -> bool:
    """Whether the GPUs here are AMD's, which JAX calls "gpu" too and for which there is no cuDNN."""
    return jax.default_backend() == "gpu" and "rocm" in jax.devices()[0].client.platform_version.lower()


def cudnn(q_BxTxHxK: jax.Array, k_BxTxGxK: jax.Array, v_BxTxGxK: jax.Array) -> jax.Array:
    """Returns attention (B, T, H, K) by cuDNN's kernel, on NVIDIA GPUs and of 16 bits only."""
    kernel = functools.partial(jax.nn.dot_product_attention, is_causal=True, implementation="cudnn")
    return by_part(kernel, "batch", None, "heads", None)(q_BxTxHxK, k_BxTxGxK, v_BxTxGxK)


def splash(q_BxTxHxK: jax.Array, k_BxTxGxK: jax.Array, v_BxTxGxK: jax.Array, *, interpret: bool = False) -> jax.Array:
    """Returns attention (B, T, H, K) by the TPU kernel that passes over blocks of keys that are masked as a whole.

    `interpret` runs the kernel without a TPU, slowly. T must be a multiple of 128.
    """
    kernel = functools.partial(_splash, interpret=interpret)
    scaled_BxTxHxK = q_BxTxHxK * q_BxTxHxK.shape[-1] ** -0.5
    return by_part(kernel, "batch", None, "heads", None)(scaled_BxTxHxK, k_BxTxGxK, v_BxTxGxK)


def _splash(q_BxTxHxK: jax.Array, k_BxTxGxK: jax.Array, v_BxTxGxK: jax.Array, *, interpret: bool) -> jax.Array:
    # Here, for the kernel language is of no use on another platform and takes a while to import.
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel, splash_attention_mask

    time, heads = q_BxTxHxK.shape[1:3]
    block = next(length for length in SPLASH_BLOCKS if time % length == 0)
    sizes = splash_attention_kernel.BlockSizes(
        block_q=block, block_kv=block, block_q_dkv=block, block_kv_dkv=block, block_q_dq=block, block_kv_dq=block)
    causal = splash_attention_mask.MultiHeadMask([splash_attention_mask.CausalMask((time, time))] * heads)
    kernel = splash_attention_kernel.make_splash_mha(
        causal, block_sizes=sizes, head_shards=1, q_seq_shards=1, interpret=interpret)
    y_BxHxTxK = jax.vmap(kernel)(*(x.transpose(0, 2, 1, 3) for x in (q_BxTxHxK, k_BxTxGxK, v_BxTxGxK)))
    return y_BxHxTxK.transpose(0, 2, 1, 3)
