"""The decoder: embedding, a stack of blocks, final norm, output projection.

Modules hold parameters and the configuration, no random state and no counters: a dropout key is an
argument of each call.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlm.model import parameter
from jaxlm.model.attention import Attention
from jaxlm.model.config import ModelConfig, RematPolicy
from jaxlm.model.dropout import dropout, split
from jaxlm.model.feed_forward import FeedForward
from jaxlm.model.norm import Norm
from jaxlm.params.activations import constrain, constrain_rows, rows


# What a block keeps for its backward pass beside its input, by the names that its branches give.
KEPT: dict[RematPolicy, tuple[str, ...]] = {
    "block": (),
    "attention": ("query", "key", "value", "attention"),
    "projections": ("query", "key", "value", "attention", "gate", "up"),
}


class Block(nnx.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)) (pre-norm; Xiong et al. 2020, 2002.04745)."""

    def __init__(self, config: ModelConfig, key: jax.Array, *, layers: int | None = None):
        attention_key, ff_key = jax.random.split(key)
        self.attention_norm = Norm(config.norm, config.width, "width", layers=layers)
        self.attention = Attention(config, attention_key, layers=layers)
        self.feed_forward_norm = Norm(config.norm, config.width, "width", layers=layers)
        self.feed_forward = FeedForward(config, ff_key, layers=layers)

    def __call__(self, x_NxD: jax.Array, *, batch: int, dropout_key: jax.Array | None) -> jax.Array:
        """Returns the residual stream (N, D) after the block, for N = batch * time (rows as in `hidden`)."""
        attention_key, ff_key = split(dropout_key, 2)
        x_NxD += self.attention(self.attention_norm(x_NxD), batch=batch, dropout_key=attention_key)
        x_NxD = constrain_rows(x_NxD)
        x_NxD += self.feed_forward(self.feed_forward_norm(x_NxD), dropout_key=ff_key)
        return constrain_rows(x_NxD)


class Embedding(nnx.Module):
    """The token table and, where positions are learned, the position table."""

    def __init__(self, config: ModelConfig, key: jax.Array):
        self.config = config
        token_key, position_key = jax.random.split(key)
        self.tokens = parameter.table(token_key, (config.vocabulary, config.width), ("vocab", "width"))
        if config.positions == "learned":
            shape = (config.sequence, config.width)
            self.positions = parameter.table(position_key, shape, ("time", "width"))

    def __call__(self, tokens_BxT: jax.Array) -> jax.Array:
        """Returns embeddings (B * T, D) in the compute dtype; NaN for a token id outside the vocabulary."""
        table_VxD = constrain(self.tokens[...], None, "table")
        x_BxTxD = jnp.take(table_VxD, constrain(tokens_BxT, "batch", "time"), axis=0, mode="fill", fill_value=jnp.nan)
        if self.config.positions == "learned":
            x_BxTxD += constrain(self.positions[...], None, None)[: tokens_BxT.shape[1]]
        return constrain_rows(rows(x_BxTxD).astype(self.config.compute.dtype))


class Head(nnx.Module):
    """An output projection of its own."""

    def __init__(self, config: ModelConfig, key: jax.Array):
        shape = (config.width, config.vocabulary)
        self.kernel = parameter.matrix(key, shape, ("width", "vocab"), kind="head")

    def __call__(self, x_NxD: jax.Array) -> jax.Array:
        """Returns float32 logits (N, V)."""
        logits_NxV = jnp.matmul(x_NxD, self.kernel[...].astype(x_NxD.dtype), preferred_element_type=jnp.float32)
        return constrain_rows(logits_NxV, "vocab")


class Decoder(nnx.Module):
    """The whole model."""

    def __init__(self, config: ModelConfig, key: jax.Array):
        self.config = config
        # Fixed places in the split: an option that adds a parameter leaves the others' start alone.
        embedding_key, blocks_key, head_key = jax.random.split(key, 3)
        self.embedding = Embedding(config, embedding_key)
        self.blocks = Block(config, blocks_key, layers=config.layers)
        self.final_norm = Norm(config.norm, config.width, "width")
        if not config.tied:
            self.head = Head(config, head_key)

    def hidden(self, tokens_BxT: jax.Array, *, dropout_key: jax.Array | None) -> jax.Array:
        """Returns the residual stream after the final norm, (B * T, D) in the compute dtype.

        On a mesh that splits sequences rows keep their two axes, here and in all that follows: (B, T, D).
        """
        embedding_key, blocks_key = split(dropout_key, 2)
        x_NxD = dropout(self.embedding(tokens_BxT), self.config.dropout, embedding_key)
        x_NxD = self._run_blocks(x_NxD, tokens_BxT.shape[0], blocks_key)
        return self.final_norm(x_NxD)

    def unembed(self, x_NxD: jax.Array) -> jax.Array:
        """Returns float32 logits (N, V) of the hidden states (N, D)."""
        if not self.config.tied:
            return self.head(x_NxD)
        table_VxD = self.unembedding(x_NxD.dtype)
        logits_NxV = jnp.einsum("...d,vd->...v", x_NxD, table_VxD, preferred_element_type=jnp.float32)
        return constrain_rows(logits_NxV, "vocab")

    def unembedding(self, dtype: Any) -> jax.Array:
        """Returns the output projection's weights: the token table (V, D) where it is tied, else the head (D, V).

        On a mesh they are split along the vocabulary only.
        """
        if not self.config.tied:
            return constrain(self.head.kernel[...].astype(dtype), None, "vocab")
        # In two steps, for the partitioner would take the only one by way of the whole table.
        table_VxD = constrain(self.embedding.tokens[...].astype(dtype), None, "table")
        return constrain(table_VxD, "vocab", None)

    def _run_blocks(self, x_NxD: jax.Array, batch: int, dropout_key: jax.Array | None) -> jax.Array:
        graph, state = nnx.split(self.blocks)
        stacked = nnx.to_pure_dict(state)
        compute, layers = self.config.compute, self.config.layers

        def run(x_NxD: jax.Array, one_layer: dict[str, Any], layer: jax.Array | int) -> jax.Array:
            key = None if dropout_key is None else jax.random.fold_in(dropout_key, layer)
            return nnx.merge(graph, one_layer)(x_NxD, batch=batch, dropout_key=key)

        if compute.remat:
            # Inside a scan the loop itself keeps XLA from merging the two computations.
            policy = jax.checkpoint_policies.save_only_these_names(*KEPT[compute.remat_policy])
            run = jax.checkpoint(run, prevent_cse=not compute.scan_layers, policy=policy)
        if compute.scan_layers:
            return _scan(run, x_NxD, stacked, layers)
        for layer, one_layer in enumerate(_unstack(stacked, layers)):
            x_NxD = run(x_NxD, one_layer, layer)
        return x_NxD


def _scan(run: Callable[..., jax.Array], x_NxD: jax.Array, stacked: dict[str, Any], layers: int) -> jax.Array:
    def body(x_NxD: jax.Array, xs: tuple) -> tuple[jax.Array, None]:
        return run(x_NxD, *xs), None

    return jax.lax.scan(body, x_NxD, (stacked, jnp.arange(layers, dtype=jnp.int32)))[0]


def _unstack(stacked: dict[str, Any], layers: int) -> list[dict[str, Any]]:
    # lax.split, for its gradient is one concatenation, where that of indexing pads and adds each layer.
    leaves, structure = jax.tree.flatten(stacked)
    pieces = [jax.lax.split(leaf, (1,) * layers, axis=0) for leaf in leaves]
    return [structure.unflatten(piece[layer].squeeze(0) for piece in pieces) for layer in range(layers)]


@functools.lru_cache(maxsize=64)
def abstract(config: ModelConfig) -> tuple[nnx.GraphDef, nnx.State]:
    """Returns the graph of the model and its state of shapes with metadata; allocates nothing."""
    return nnx.split(nnx.eval_shape(lambda: Decoder(config, jax.random.key(0))))
