"""The model as pure functions of (configuration, parameters, inputs); the rest of jaxlm calls these."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlm.config import ConfigError, require
from jaxlm.model import decoder
from jaxlm.model.config import ModelConfig
from jaxlm.model.layer_statistics import Probe, probe_decoder

Params = dict[str, Any]


def init(config: ModelConfig, seed: int | jax.Array) -> Params:
    """Returns fresh float32 parameters, a nested dict of arrays; blocks are stacked over layers.

    Tables have standard deviation 1/sqrt(width), matrices 1/sqrt(fan in), times 1/sqrt(2 layers)
    where they write into the residual stream; gains are 1 (sources in `jaxlm.model.parameter`).
    A pure function of its arguments: the same bits under jit and without.

    Args:
      config: the model.
      seed: a whole number in [0, 2^32), or a typed key (`jax.random.key`). A number is made into a
        threefry key whatever JAX's default generator is.
    """
    is_key = isinstance(seed, jax.Array) and jnp.issubdtype(seed.dtype, jax.dtypes.prng_key)
    key = seed if is_key else jax.random.key(seed, impl="threefry2x32")
    return nnx.to_pure_dict(nnx.state(decoder.Decoder(config, key)))


def param_infos(config: ModelConfig, *, base: ModelConfig | None = None) -> dict[str, Any]:
    """Returns the tree of `ParamInfo` of the parameters' structure, without allocating anything.

    Args:
      config: the model.
      base: the model that transfer rules start from; every entry then carries width / base.width
        and layers / base.layers as its multipliers, which are 1 without it.
    """
    state = decoder.abstract(config)[1]
    infos = nnx.to_pure_dict(state, lambda variable: variable.get_metadata("info"))
    if base is None:
        return infos
    ratios = {"width_multiplier": config.width / base.width, "depth_multiplier": config.layers / base.layers}
    return jax.tree.map(lambda info: dataclasses.replace(info, **ratios), infos)


def hidden(config: ModelConfig, params: Params, tokens_BxT: jax.Array, *,
           dropout_key: jax.Array | None = None) -> jax.Array:
    """Returns the residual stream after the final norm, (B * T, D) in the compute dtype.

    Row b * T + t belongs to token t of sequence b. `unembed` makes logits of any rows of it, so a
    loss may be taken in pieces without holding all logits. Arguments and errors as in `apply`.
    Traced for a mesh that splits sequences (`params.activations`), rows keep two axes, (B, T, D): here,
    in `unembed` and in `apply`.
    """
    _check_tokens(config, tokens_BxT)
    return _bind(config, params).hidden(tokens_BxT, dropout_key=dropout_key if config.dropout > 0 else None)


def unembed(config: ModelConfig, params: Params, x_NxD: jax.Array) -> jax.Array:
    """Returns the float32 logits (N, V) of hidden states (N, D), by the head or the tied token table."""
    return _bind(config, params).unembed(x_NxD)


def unembedding(config: ModelConfig, params: Params) -> jax.Array:
    """Returns the weights of `unembed` in the compute dtype: the token table (V, D) if tied, else the head (D, V)."""
    return _bind(config, params).unembedding(config.compute.dtype)


def apply(config: ModelConfig, params: Params, tokens_BxT: jax.Array, *,
          dropout_key: jax.Array | None = None) -> jax.Array:
    """Returns the float32 logits of the next token as a matrix (B * T, V), row b * T + t for token t.

    Logits at t depend on tokens 0..t of their sequence only, to the bit.

    Args:
      config: the model; static under jit.
      params: as from `init`.
      tokens_BxT: whole numbers in [0, V); others give NaN. T may exceed `config.sequence` with
        rope, not with learned positions.
      dropout_key: turns dropout on where `config.dropout > 0`; one key per call.

    Raises:
      ConfigError: tokens of another rank or type or too long, or parameters of another model.
    """
    x_NxD = hidden(config, params, tokens_BxT, dropout_key=dropout_key)
    return unembed(config, params, x_NxD)


def probe(config: ModelConfig, params: Params, tokens_BxT: jax.Array) -> Probe:
    """Returns statistics of attention and residual stream by layer, without dropout; errors as in `apply`."""
    _check_tokens(config, tokens_BxT)
    return probe_decoder(_bind(config, params), tokens_BxT)


def _bind(config: ModelConfig, params: Params) -> decoder.Decoder:
    _check_params(config, params)
    return nnx.merge(decoder.abstract(config)[0], params)


def _check_tokens(config: ModelConfig, tokens_BxT: jax.Array) -> None:
    require(tokens_BxT.ndim == 2, "tokens.shape", tokens_BxT.shape, "must be (batch, time)")
    require(jnp.issubdtype(tokens_BxT.dtype, jnp.integer), "tokens.dtype", str(tokens_BxT.dtype),
            "must be a type of whole numbers")
    time = tokens_BxT.shape[1]
    require(config.positions == "rope" or time <= config.sequence, "tokens.shape", tokens_BxT.shape,
            f"time must not exceed model.sequence = {config.sequence} with learned positions")


def _check_params(config: ModelConfig, params: Params) -> None:
    expected = _shapes(param_infos(config))
    actual = _shapes(params)
    for name in sorted(expected.keys() | actual.keys()):
        if expected.get(name) != actual.get(name):
            found = f"has shape {actual[name]}" if name in actual else "is missing"
            rule = f"must have shape {expected[name]}" if name in expected else "this model has no such array"
            raise ConfigError(f"params.{name} {found}: {rule}")


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): tuple(leaf.shape)
            for path, leaf in leaves}
