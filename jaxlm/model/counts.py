"""Closed forms for the numbers of parameters and of floating-point operations."""

import dataclasses

from jaxlm.model.config import ModelConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParameterCounts:
    """Numbers of parameters by part.

    Attributes:
      embedding: the token table, tied or not.
      positions: the learned position table; 0 with rope.
      attention: query, key, value and output projections of all layers.
      feed_forward: the matrices of the feed-forward branches of all layers.
      norms: all gains, those of the final norm and of qk-norm included.
      head: the output projection where it is not tied, else 0.
    """

    embedding: int
    positions: int
    attention: int
    feed_forward: int
    norms: int
    head: int

    @property
    def total(self) -> int:
        """Every parameter, a tied table once."""
        return self.non_embedding + self.embedding + self.positions + self.head

    @property
    def non_embedding(self) -> int:
        """Without tables of tokens and positions and without the head: N of Kaplan et al. 2020,
        arXiv 2001.08361, section 2.1, norms included."""
        return self.attention + self.feed_forward + self.norms

    @property
    def with_head(self) -> int:
        """`non_embedding` plus vocabulary * width for the output projection, tied or not.

        The parameters that take part in a matrix product, with norms (the count of Porian et al.
        2024, arXiv 2406.19146).
        """
        return self.non_embedding + self.embedding


def parameter_counts(config: ModelConfig) -> ParameterCounts:
    """Returns the numbers of parameters of `config`, equal to those of the tree that `init` makes."""
    layers, width = config.layers, config.width
    attention = 2 * width * (config.query_width + config.kv_width)
    matrices = 3 if config.activation == "swiglu" else 2
    qk_norm = 2 * config.size_per_head if config.qk_norm else 0
    return ParameterCounts(
        embedding=config.vocabulary * width,
        positions=config.sequence * width if config.positions == "learned" else 0,
        attention=layers * attention,
        feed_forward=layers * matrices * width * config.ff_width,
        norms=layers * (2 * width + qk_norm) + width,
        head=0 if config.tied else config.vocabulary * width,
    )


def flops_per_token(config: ModelConfig, sequence: int | None = None) -> dict[str, int]:
    """Returns the floating-point operations of training on one token, by part.

    Forward times 3, for the backward pass multiplies by the weights and by the activations; a
    multiply-add is 2. Attention scores are counted in full, over all `sequence` keys: the masked half
    is not taken off. Norms, softmax, activations, the optimizer and recomputation by remat are not
    counted; an embedding is looked up and costs 0. Convention as in Chowdhery et al. 2022 (PaLM),
    arXiv 2204.02311, appendix B, with the head counted apart.

    Args:
      config: the model.
      sequence: tokens per sequence; None for `config.sequence`.

    Returns:
      "attention" (projections and scores), "feed_forward", "head", "embedding"; their sum is the whole.
    """
    time = config.sequence if sequence is None else sequence
    counts = parameter_counts(config)
    # q k^T and weights v: each 2 T K operations per head and token.
    scores = config.layers * 4 * time * config.query_width
    forward = {
        "attention": 2 * counts.attention + scores,
        "feed_forward": 2 * counts.feed_forward,
        "head": 2 * config.vocabulary * config.width,
        "embedding": 0,
    }
    return {part: 3 * flops for part, flops in forward.items()}
