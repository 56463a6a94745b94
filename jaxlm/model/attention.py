"""Causal self-attention with grouped key/value heads."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from jaxlm.config import ConfigError
from jaxlm.model import causal, kernels, parameter, rope
from jaxlm.model.config import AttentionForm, ModelConfig
from jaxlm.model.dropout import dropout, split
from jaxlm.model.matmul import matmul
from jaxlm.model.norm import Norm
from jaxlm.params.activations import constrain, platform, splits_time


class Attention(nnx.Module):
    """softmax(q k^T / sqrt(K) + causal mask) v, between projections without biases.

    With `qk_norm`, queries and keys are normed over the K channels of each head, with one learnable
    scale for all heads of a layer, before RoPE (Henry et al. 2020, arXiv 2010.04245; Wortsman et al.
    2023, arXiv 2309.14322, find the per-head norm better than one over the whole width).

    `layers` stacks every parameter; a stacked module holds parameters only and is called a layer at
    a time.
    """

    def __init__(self, config: ModelConfig, key: jax.Array, *, layers: int | None = None):
        self.config = config
        width, inner, kv = config.width, config.query_width, config.kv_width
        query_key, key_key, value_key, output_key = jax.random.split(key, 4)
        self.query = parameter.matrix(query_key, (width, inner), ("width", "heads"), layers=layers)
        self.key = parameter.matrix(key_key, (width, kv), ("width", "kv"), layers=layers)
        self.value = parameter.matrix(value_key, (width, kv), ("width", "kv"), layers=layers)
        self.output = parameter.matrix(output_key, (inner, width), ("heads", "width"), layers=layers,
                                       gain=parameter.residual_gain(config.layers))
        if config.qk_norm:
            self.query_norm = Norm(config.norm, config.size_per_head, None, layers=layers)
            self.key_norm = Norm(config.norm, config.size_per_head, None, layers=layers)

    def __call__(self, x_NxD: jax.Array, *, batch: int, dropout_key: jax.Array | None) -> jax.Array:
        """Returns the branch's output (N, D) for N = batch * time rows, sequence after sequence."""
        config = self.config
        weights_key, branch_key = split(dropout_key, 2)
        q_BxTxHxK, k_BxTxGxK, v_BxTxGxK = self.project(x_NxD, batch=batch)
        y_BxTxHxK = attend(q_BxTxHxK, k_BxTxGxK, v_BxTxGxK, config=config, dropout_key=weights_key)
        y_NxI = checkpoint_name(y_BxTxHxK.reshape(*x_NxD.shape[:-1], config.query_width), "attention")
        y_NxD = matmul(y_NxI, self.output[...])
        return dropout(y_NxD, config.dropout, branch_key)

    def project(self, x_NxD: jax.Array, *, batch: int) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Returns queries (B, T, H, K), keys and values (B, T, G, K) as `attend` takes them."""
        config = self.config
        # Matrices of (tokens, width) outside, four axes only inside: the weight gradients then
        # contract one axis and need no transposed copies on a CPU.
        heads = (batch, -1, config.heads, config.size_per_head)
        groups = (batch, -1, config.kv_groups, config.size_per_head)
        q_BxTxHxK = checkpoint_name(matmul(x_NxD, self.query[...]), "query").reshape(heads)
        k_BxTxGxK = checkpoint_name(matmul(x_NxD, self.key[...]), "key").reshape(groups)
        v_BxTxGxK = checkpoint_name(matmul(x_NxD, self.value[...]), "value").reshape(groups)
        if config.qk_norm:
            q_BxTxHxK, k_BxTxGxK = self.query_norm(q_BxTxHxK), self.key_norm(k_BxTxGxK)
        if config.positions == "rope":
            q_BxTxHxK, k_BxTxGxK = rope.rotate(q_BxTxHxK), rope.rotate(k_BxTxGxK)
        return (constrain(q_BxTxHxK, "batch", "time", "heads", None), *map(_gathered, (k_BxTxGxK, v_BxTxGxK)))


def attend(q_BxTxHxK: jax.Array, k_BxTxGxK: jax.Array, v_BxTxGxK: jax.Array, *,
           config: ModelConfig, dropout_key: jax.Array | None) -> jax.Array:
    """Returns causal attention's output (B, T, H, K) as `plain` does, in the form that `config.compute` asks for.

    Only the plain form drops weights, and only it runs where sequences are split.
    Raises `ConfigError` where a form that is asked for by name cannot be had.
    """
    form, time = config.compute.attention, q_BxTxHxK.shape[1]
    if form == "auto":
        form = {"cpu": "blocked", "gpu": "cudnn", "tpu": "splash"}.get(platform(), "plain")
        if (config.dropout > 0 and dropout_key is not None) or obstacle(form, config, time):
            form = "plain"
    elif reason := obstacle(form, config, time):
        raise ConfigError(f"model.compute.attention = {form!r}: {reason}")
    if form == "plain":
        return plain(q_BxTxHxK, k_BxTxGxK, v_BxTxGxK, rate=config.dropout, dropout_key=dropout_key)
    attention = {"blocked": causal.blocked, "cudnn": kernels.cudnn, "splash": kernels.splash}[form]
    return attention(q_BxTxHxK, k_BxTxGxK, v_BxTxGxK)


def obstacle(form: AttentionForm, config: ModelConfig, time: int) -> str | None:
    """Returns the rule by which `form` is ruled out for sequences of `time` tokens on what is traced for, or None."""
    where, size, dtype = platform(), config.size_per_head, config.compute.dtype
    if form != "plain" and splits_time():
        return "must be 'auto' or 'plain' on a mesh that splits sequences"
    if form == "cudnn":
        multiple, largest = kernels.CUDNN_HEAD_MULTIPLE, kernels.CUDNN_LARGEST_HEAD
        if where != "gpu" or kernels.on_rocm() or dtype != "bfloat16" or size % multiple or size > largest:
            return (f"needs an NVIDIA GPU, bfloat16 and heads of a multiple of {multiple} up to {largest} channels, "
                    f"not {where}, {dtype} and {size}")
    if form == "splash" and (where != "tpu" or time % kernels.SPLASH_LEAST_BLOCK):
        return (f"needs a TPU and sequences of a multiple of {kernels.SPLASH_LEAST_BLOCK} tokens, "
                f"not {where} and {time}")
    return None


def plain(q_BxTxHxK: jax.Array, k_BxTxGxK: jax.Array, v_BxTxGxK: jax.Array, *,
          rate: float = 0.0, dropout_key: jax.Array | None = None) -> jax.Array:
    """Returns causal attention's output (B, T, H, K), in the dtype of the queries, from all scores at once.

    Query heads g * H/G .. (g + 1) * H/G - 1 read key/value head g. Scores are scaled by 1/sqrt(K);
    the softmax is float32. Masked weights are exactly 0, so outputs do not depend on later tokens
    in a single bit. Source: Vaswani et al. 2017, arXiv 1706.03762, equation 1.
    """
    batch, time, heads, size = q_BxTxHxK.shape
    groups = k_BxTxGxK.shape[2]
    shared = heads // groups
    scores_BxGxMxT = scores(q_BxTxHxK, k_BxTxGxK)  # on a mesh that splits sequences (R, T) for M
    scores_BxGxMxT = jnp.where(past_mask(time, shared), scores_BxGxMxT, jnp.finfo(jnp.float32).min)
    weights_BxGxMxT = jax.nn.softmax(scores_BxGxMxT, axis=-1).astype(q_BxTxHxK.dtype)
    weights_BxGxMxT = dropout(weights_BxGxMxT, rate, dropout_key)
    y_BxMxGxK = jnp.einsum("bg...t,btgk->b...gk", weights_BxGxMxT, v_BxTxGxK)
    y_BxRxTxGxK = y_BxMxGxK.reshape(batch, shared, time, groups, size)
    return y_BxRxTxGxK.transpose(0, 2, 3, 1, 4).reshape(batch, time, heads, size)


def scores(q_BxTxHxK: jax.Array, k_BxTxGxK: jax.Array) -> jax.Array:
    """Returns the float32 scores q k / sqrt(K) of all pairs, those of later keys too, (B, G, M, T).

    The R = H / G query heads of a group are laid one after the other along time, M = R * T rows, so
    that keys and values are not repeated and one product of matrices serves the group. On a mesh that
    splits sequences a shard is no range of those rows, and the two axes stay apart: (B, G, R, T, T).
    """
    batch, time, heads, size = q_BxTxHxK.shape
    groups = k_BxTxGxK.shape[2]
    shared = heads // groups
    q_BxTxGxRxK = (q_BxTxHxK * size**-0.5).reshape(batch, time, groups, shared, size)
    q_BxMxGxK = q_BxTxGxRxK.transpose(0, 3, 1, 2, 4)
    if not splits_time():
        q_BxMxGxK = q_BxMxGxK.reshape(batch, shared * time, groups, size)
    return jnp.einsum("b...gk,btgk->bg...t", q_BxMxGxK, k_BxTxGxK, preferred_element_type=jnp.float32)


def past_mask(time: int, shared: int) -> jax.Array:
    """Returns which key each row of `scores` may see, (M, T) for M = shared * time; (T, T) where R and T are apart."""
    past_TxT = jnp.tril(jnp.ones((time, time), bool))
    return past_TxT if splits_time() else jnp.tile(past_TxT, (shared, 1))


def _gathered(k_BxTxGxK: jax.Array) -> jax.Array:
    """Returns keys or values of the whole sequence on every device, made a shard at a time."""
    return constrain(constrain(k_BxTxGxK, "batch", "time", "heads", None), "batch", None, "heads", None)
