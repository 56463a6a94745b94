"""A seeded Markov source whose entropy rate is known: the truth for a fitted irreducible loss."""

import bisect
import dataclasses
from typing import ClassVar

import numpy as np

from jaxlm.config import ConfigError, require

# Share of the uniform distribution in every row: each context reaches each other one, so that the
# stationary distribution is unique and power iteration converges geometrically.
_FLOOR = 0.01
_MAX_ENTRIES = 2**24
_MAX_ITERATIONS = 10_000
# Streams of the seed: the transition matrix, then one independent sample path per split.
_MATRIX, _TRAIN, _HELDOUT = 0, 1, 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Synthetic:
    """Tokens of a Markov chain of `order` over `vocabulary` tokens, `tokens` of them in both splits.

    The row of a context c (the last `order` tokens) is .01 uniform + .99 q, where q(x) is proportional
    to E_cx ** sharpness / (x + 1), E_cx standard exponential. So tokens are roughly Zipfian and rare
    contexts take long to learn; a larger `sharpness` makes rows more peaked and the entropy lower.
    The held-out split is an independent path of the same chain.
    """

    kind: ClassVar[str] = "synthetic"

    vocabulary: int = 64
    order: int = 2
    sharpness: float = 4.0
    seed: int = 0
    tokens: int = 4_000_000

    def __post_init__(self) -> None:
        require(self.vocabulary >= 2, "vocabulary", self.vocabulary, "must be at least 2")
        require(self.order >= 1, "order", self.order, "must be at least 1")
        # Compared by exponent first: a large order must not compute a huge power.
        fits = self.order < 24 and self.vocabulary ** (self.order + 1) <= _MAX_ENTRIES
        require(fits, "order", self.order,
                f"vocabulary ** (order + 1) must be at most {_MAX_ENTRIES}, vocabulary is {self.vocabulary}")
        require(self.sharpness >= 0, "sharpness", self.sharpness, "must be at least 0")
        require(self.seed >= 0, "seed", self.seed, "must be at least 0")
        require(self.tokens >= 2, "tokens", self.tokens, "must be at least 2")

    @property
    def name(self) -> str:
        return f"synthetic Markov chain of order {self.order}, {self.vocabulary} tokens, seed {self.seed}"

    @property
    def note(self) -> str:
        return f"entropy rate {entropy_rate(self):.6f} nats per token"

    def fingerprint(self) -> dict[str, str]:
        """Returns nothing: the configuration says it all."""
        return {}

    def split_tokens(self, heldout_fraction: float) -> tuple[np.ndarray, np.ndarray]:
        """Returns the (training, held-out) tokens, two independent paths, as 1-D integer arrays."""
        held = round(self.tokens * heldout_fraction)
        return (sample(self, self.tokens - held, stream=_TRAIN), sample(self, held, stream=_HELDOUT))


def transition_matrix(source: Synthetic) -> np.ndarray:
    """Returns float64 [vocabulary ** order, vocabulary]: row c is the law of the token after context c.

    A context is the last `order` tokens as a number in base `vocabulary`, the oldest token first.
    """
    rng = np.random.default_rng([source.seed, _MATRIX])
    contexts = source.vocabulary**source.order
    # Only uniform draws are used: they are the same in every NumPy, unlike its gamma variates.
    exponential_CV = -np.log1p(-rng.random((contexts, source.vocabulary)))
    weights_CV = exponential_CV**source.sharpness / np.arange(1, source.vocabulary + 1)
    rows_CV = weights_CV / weights_CV.sum(axis=1, keepdims=True)
    return (1 - _FLOOR) * rows_CV + _FLOOR / source.vocabulary


def stationary(matrix_CV: np.ndarray, *, tolerance: float = 1e-14) -> np.ndarray:
    """Returns the stationary law of contexts, float64 [C], by power iteration to `tolerance` in l1.

    Raises `ConfigError` for a chain that mixes too slowly for that.
    """
    contexts, vocabulary = matrix_CV.shape
    law_C = np.full(contexts, 1 / contexts)
    for _ in range(_MAX_ITERATIONS):
        # A context (a, rest) followed by x becomes (rest, x): sum over the oldest token a.
        following_C = (law_C[:, None] * matrix_CV).reshape(vocabulary, contexts).sum(axis=0)
        following_C /= following_C.sum()
        if np.abs(following_C - law_C).sum() < tolerance:
            return following_C
        law_C = following_C
    raise ConfigError(f"order: the chain of {contexts} contexts is not stationary after {_MAX_ITERATIONS} "
                      "steps; lower order or sharpness")


def entropy_rate(source: Synthetic, *, sequence: int | None = None) -> float:
    """Returns the entropy rate in nats per token, exact up to float64: no model's loss is lower.

    With `sequence` = T, the lowest mean loss over windows of T predictions, which is a little higher:
    prediction j of a window sees only j tokens, fewer than the order of the chain at the start.

    >>> bool(0 < entropy_rate(Synthetic(vocabulary=8, order=1)) < np.log(8))
    True
    """
    matrix_CV = transition_matrix(source)
    joint_CV = stationary(matrix_CV)[:, None] * matrix_CV
    if sequence is None:
        return _conditional_entropy(joint_CV, source, context=source.order)
    require(sequence >= 1, "sequence", sequence, "must be at least 1")
    short = min(source.order - 1, sequence)
    total = sum(_conditional_entropy(joint_CV, source, context=j) for j in range(1, short + 1))
    total += (sequence - short) * _conditional_entropy(joint_CV, source, context=source.order)
    return total / sequence


def sample(source: Synthetic, tokens: int, *, stream: int = _TRAIN) -> np.ndarray:
    """Returns a path of `tokens` tokens, started from the stationary law; uint32 [tokens]."""
    matrix_CV = transition_matrix(source)
    contexts, vocabulary = matrix_CV.shape
    rng = np.random.default_rng([source.seed, stream])
    law = np.cumsum(stationary(matrix_CV))
    context = min(int(np.searchsorted(law, rng.random(), side="right")), contexts - 1)
    path = [(context // vocabulary**i) % vocabulary for i in reversed(range(source.order))]
    cumulative_CV = np.cumsum(matrix_CV, axis=1)
    cumulative_CV[:, -1] = 1.0  # above every draw, in spite of rounding
    # The chain is sequential: bisecting a flat view costs less than any NumPy call per token.
    flat = memoryview(cumulative_CV.reshape(-1))
    while len(path) < tokens:
        for draw in rng.random(min(tokens - len(path), 2**16)).tolist():
            row = context * vocabulary
            place = bisect.bisect_right(flat, draw, row, row + vocabulary)
            path.append(place - row)
            context = place % contexts
    return np.asarray(path[:tokens], np.uint32)


def _conditional_entropy(joint_CV: np.ndarray, source: Synthetic, *, context: int) -> float:
    # Law of (last `context` tokens, next): the older tokens of the full context are summed out.
    joint = joint_CV.reshape(-1, source.vocabulary**context, source.vocabulary).sum(axis=0)
    return float(-np.sum(joint * np.log(joint / joint.sum(axis=1, keepdims=True))))
