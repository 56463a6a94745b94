"""The configuration of the decoder-only transformer."""

import dataclasses
import typing
from typing import Any, Literal

from jaxlm import config

Norm = Literal["rmsnorm", "layernorm"]
Positions = Literal["rope", "learned"]
Activation = Literal["swiglu", "gelu"]
Dtype = Literal["float32", "bfloat16"]
AttentionForm = Literal["auto", "plain", "blocked", "cudnn", "splash"]
RematPolicy = Literal["block", "attention", "projections"]


# Above the classes, for the default of `ModelConfig.compute` is made while its class is.
def _check_size(field: str, value: Any) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    config.require(whole and value >= 1, field, value, "must be a whole number of at least 1")


def _check_bool(field: str, value: Any) -> None:
    config.require(isinstance(value, bool), field, value, "must be true or false")


def _check_choice(field: str, value: Any, choices: Any) -> None:
    names = typing.get_args(choices)
    config.require(value in names, field, value, f"must be one of {', '.join(map(repr, names))}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """How the model is computed; no field changes the function beyond rounding.

    Attributes:
      scan_layers: run the layers by `lax.scan` (one compiled body, so short compilations of deep
        models) instead of unrolled (faster steps on a CPU). Parameters are stacked either way.
      remat: compute again in the backward pass what `remat_policy` does not name. On a CPU only with `scan_layers`,
        for XLA computes what an unrolled program has ready at once and keeps it.
      remat_policy: what is kept with `remat`: block, the input of each layer only; attention, the queries, keys,
        values and output of attention too; projections, every product with a weight matrix that is read again.
      dtype: of the activations and matrix products. Parameters, norms, softmax and logits are
        float32 always.
      attention: plain for all scores at once, blocked (`jaxlm.model.causal`), or the kernel of a platform,
        cudnn or splash (`jaxlm.model.kernels`). auto takes blocked on a CPU, cudnn on a GPU and splash on a TPU
        where the shape allows, else plain; plain too where weights are dropped or sequences are split.
      loss_chunks: how many parts the rows of logits are made in, one after the other, by
        `jaxlm.losses.cut_cross_entropy`; 1 for all at once. None for `losses.default_chunks`.
    """

    scan_layers: bool = False
    remat: bool = False
    dtype: Dtype = "float32"
    attention: AttentionForm = "auto"
    loss_chunks: int | None = None
    remat_policy: RematPolicy = "block"

    def __post_init__(self) -> None:
        _check_bool("model.compute.scan_layers", self.scan_layers)
        _check_bool("model.compute.remat", self.remat)
        _check_choice("model.compute.dtype", self.dtype, Dtype)
        _check_choice("model.compute.attention", self.attention, AttentionForm)
        if self.loss_chunks is not None:
            _check_size("model.compute.loss_chunks", self.loss_chunks)
        _check_choice("model.compute.remat_policy", self.remat_policy, RematPolicy)
        config.require(self.remat or self.remat_policy == "block", "model.compute.remat_policy", self.remat_policy,
                       "must be 'block', the default, with remat = False")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A pre-norm decoder-only transformer without biases, with a final norm.

    The defaults for norm, positions and activation are those of Llama (Touvron et al. 2023,
    arXiv 2302.13971, section 2.2).

    Attributes:
      vocabulary: the number of token ids, V.
      sequence: the longest sequence in tokens; the length of the table of learned positions.
      layers: the number of blocks, L.
      width: the size of the residual stream, D.
      heads: query heads, H.
      kv_heads: key/value heads, G, each shared by H / G query heads (Ainslie et al. 2023, arXiv
        2305.13245); None for one per query head.
      head_size: K; None for width / heads.
      ff: the feed-forward width, F; None for 4 * width with gelu (Vaswani et al. 2017, arXiv
        1706.03762) and 8/3 * width, rounded up to a multiple of 8, with swiglu, whose three
        matrices then hold as many parameters (Shazeer 2020, arXiv 2002.05202).
      norm: rmsnorm (Zhang & Sennrich 2019, arXiv 1910.07467) or layernorm (Ba et al. 2016, arXiv
        1607.06450), either with a scale only.
      positions: rope (Su et al. 2021, arXiv 2104.09864) or a learned table.
      activation: swiglu or gelu in its tanh form (Hendrycks & Gimpel 2016, arXiv 1606.08415).
      tied: use the token table as output projection too (Press & Wolf 2017, arXiv 1608.05859).
      qk_norm: norm queries and keys of each head (see `jaxlm.model.attention`).
      dropout: probability of dropping an entry of the embeddings, the attention weights and the
        residual branches while training; 0 is right where tokens do not repeat.
      compute: how it is computed.
    """

    vocabulary: int
    sequence: int
    layers: int
    width: int
    heads: int
    kv_heads: int | None = None
    head_size: int | None = None
    ff: int | None = None
    norm: Norm = "rmsnorm"
    positions: Positions = "rope"
    activation: Activation = "swiglu"
    tied: bool = False
    qk_norm: bool = False
    dropout: float = 0.0
    compute: ComputeConfig = ComputeConfig()

    def __post_init__(self) -> None:
        for name in ("vocabulary", "sequence", "layers", "width", "heads"):
            _check_size(f"model.{name}", getattr(self, name))
        for name in ("kv_heads", "head_size", "ff"):
            if getattr(self, name) is not None:
                _check_size(f"model.{name}", getattr(self, name))
        for name, choices in (("norm", Norm), ("positions", Positions), ("activation", Activation)):
            _check_choice(f"model.{name}", getattr(self, name), choices)
        _check_bool("model.tied", self.tied)
        _check_bool("model.qk_norm", self.qk_norm)
        self._check_heads()
        number = isinstance(self.dropout, (int, float)) and not isinstance(self.dropout, bool)
        config.require(number and 0 <= self.dropout < 1, "model.dropout", self.dropout, "must lie in [0, 1)")
        config.require(isinstance(self.compute, ComputeConfig), "model.compute", self.compute,
                       "must be a ComputeConfig")
        config.require(self.dropout == 0 or self.compute.attention in ("auto", "plain"), "model.compute.attention",
                       self.compute.attention, f"must be 'auto' or 'plain' with dropout = {self.dropout}")

    def _check_heads(self) -> None:
        config.require(self.head_size is not None or self.width % self.heads == 0, "model.width", self.width,
                       f"must be divisible by heads = {self.heads} where head_size is not given")
        config.require(self.heads % self.kv_groups == 0, "model.heads", self.heads,
                       f"must be divisible by kv_heads = {self.kv_groups}")
        # RoPE rotates pairs of channels.
        config.require(self.positions != "rope" or self.size_per_head % 2 == 0, "model.head_size",
                       self.size_per_head, "must be even with positions = 'rope'")

    @property
    def kv_groups(self) -> int:
        """The number of key/value heads, G."""
        return self.heads if self.kv_heads is None else self.kv_heads

    @property
    def size_per_head(self) -> int:
        """The number of channels of one head, K."""
        return self.width // self.heads if self.head_size is None else self.head_size

    @property
    def query_width(self) -> int:
        """The width of all query heads together, H * K."""
        return self.heads * self.size_per_head

    @property
    def kv_width(self) -> int:
        """The width of all key (or value) heads together, G * K."""
        return self.kv_groups * self.size_per_head

    @property
    def ff_width(self) -> int:
        """The feed-forward width, F."""
        if self.ff is not None:
            return self.ff
        if self.activation == "gelu":
            return 4 * self.width
        return 8 * -(-self.width // 3)  # ceil(8/3 width / 8) * 8
