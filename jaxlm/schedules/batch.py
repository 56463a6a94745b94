"""Batch-size ramps and their token clocks: what the batch is, and how many tokens were seen, at every update.

Once the batch changes, a rate must be a function of tokens rather than of updates. Token counts pass 2**31 early, so
the clock here counts grains, a grain being `multiple * sequence` tokens: every batch is a whole number of them, the
clock is exact in int32, and 2**31 - 1 grains are 10^13 tokens from 4,657 tokens a grain on. What is not traced is
computed in Python integers, of any size.
"""

import bisect
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxlm.config import require
from jaxlm.schedules.steps import MAX_UPDATES, Schedule, as_step


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchRamp:
    """A batch that changes at given token counts: `batches[i]` from the first update that begins at `tokens[i]` on.

    Attributes:
      batches: sequences per update, each a multiple of `multiple`.
      tokens: tokens seen from which each batch holds; the first 0, ascending.
      sequence: tokens per sequence.
      multiple: sequences that every batch must be divisible by: the shards of the mesh times the micro-batches.

    >>> ramp = BatchRamp(batches=(2, 4), tokens=(0, 50), sequence=10, multiple=2)
    >>> [int(ramp.batch(t)) for t in range(5)], [ramp.tokens_before(t) for t in range(5)]
    ([2, 2, 2, 4, 4], [0, 20, 40, 60, 100])
    >>> ramp.updates(100), ramp.updates(101)
    (4, 5)
    """

    batches: tuple[int, ...]
    tokens: tuple[int, ...]
    sequence: int
    multiple: int = 1

    def __post_init__(self) -> None:
        for name in ("sequence", "multiple"):
            value = getattr(self, name)
            require(isinstance(value, int) and 1 <= value, name, value, "must be a whole number of at least 1")
        for i, batch in enumerate(self.batches):
            require(isinstance(batch, int) and batch >= 1 and batch % self.multiple == 0, f"batches[{i}]", batch,
                    f"must be a positive multiple of multiple = {self.multiple}")
        require(len(self.batches) == len(self.tokens) and self.tokens[:1] == (0,), "tokens", self.tokens,
                f"must be 0, then one count for each further of {len(self.batches)} batches")
        require(all(a < b for a, b in zip(self.tokens, self.tokens[1:], strict=False)), "tokens", self.tokens,
                "must ascend")

    @property
    def grain(self) -> int:
        """Tokens per tick of the clock, multiple * sequence."""
        return self.multiple * self.sequence

    def batch_at(self, tokens: int) -> int:
        """Returns the batch in sequences of an update that begins after `tokens` tokens."""
        return self.batches[bisect.bisect_right(self.tokens, tokens) - 1]

    def tokens_before(self, t: int) -> int:
        """Returns the tokens seen before update `t`, exactly."""
        i = bisect.bisect_right(self._stages[0], t) - 1
        first, grains, per_update = (column[i] for column in self._stages)
        return (grains + (t - first) * per_update) * self.grain

    def updates(self, tokens: int) -> int:
        """Returns the number of updates until at least `tokens` tokens are seen: the integral of dn / B(n)."""
        grains = -(-tokens // self.grain)
        i = max(bisect.bisect_left(self._stages[1], grains) - 1, 0)
        first, before, per_update = (column[i] for column in self._stages)
        return first - (before - grains) // per_update

    def batch(self, t: Any) -> jax.Array:
        """Returns the batch in sequences of update `t`, int32; `t` integers of any shape, traced or not."""
        firsts, _, per_update = self._reachable
        batches = jnp.asarray([self.multiple * count for count in per_update], jnp.int32)
        return batches[_stage(firsts, as_step(t))]

    def grains(self, t: Any) -> jax.Array:
        """Returns the grains seen before update `t`, int32, exact; stands still where 2**31 - 1 would be passed."""
        firsts, before, per_update = self._reachable
        step = as_step(t)
        i = _stage(firsts, step)
        fits = [(MAX_UPDATES - b) // count for b, count in zip(before, per_update, strict=True)]
        first, seen, count, most = (jnp.asarray(column, jnp.int32)[i] for column in (firsts, before, per_update, fits))
        return seen + jnp.minimum(step - first, most) * count

    def in_grains(self, tokens: int) -> int:
        """Returns `tokens` in grains, rounded to the nearest; the unit of schedules for `by_tokens`.

        Raises `ConfigError` where the clock does not reach that far.
        """
        grains = (2 * tokens + self.grain) // (2 * self.grain)
        require(0 <= grains <= MAX_UPDATES, "tokens", tokens,
                f"must lie in 0..{MAX_UPDATES * self.grain}, 2^31-1 times multiple * sequence = {self.grain}")
        return grains

    @functools.cached_property
    def _stages(self) -> tuple[list[int], list[int], list[int]]:
        """First update, grains before it and grains per update of each batch that an update takes."""
        firsts, before, per_update = [0], [0], [self.batches[0] // self.multiple]
        for tokens in self.tokens[1:]:
            # The last update of a batch begins below the count and ends at or above it.
            count = max(-(-(tokens - before[-1] * self.grain) // (per_update[-1] * self.grain)), 0)
            grains = before[-1] + count * per_update[-1]
            new = self.batch_at(grains * self.grain) // self.multiple
            if count == 0:  # the update before passed this count too
                per_update[-1] = new
            else:
                firsts.append(firsts[-1] + count)
                before.append(grains)
                per_update.append(new)
        return firsts, before, per_update

    @property
    def _reachable(self) -> tuple[list[int], list[int], list[int]]:
        """The stages that begin at an int32 update, their clocks held at 2**31 - 1."""
        firsts, before, per_update = self._stages
        count = bisect.bisect_right(firsts, MAX_UPDATES)
        return firsts[:count], [min(grains, MAX_UPDATES) for grains in before[:count]], per_update[:count]


def linear_ramp(*, start: int, end: int, tokens: int, sequence: int, multiple: int = 1) -> BatchRamp:
    """Returns the ramp B(n) = start + (end - start) min(1, n/tokens), n tokens so far, to the nearest multiple.

    Args:
      start: batch of the first update in sequences, a positive multiple of `multiple`.
      end: batch from `tokens` tokens on, a multiple of `multiple` and not below `start`.
      tokens: tokens over which the batch grows, >= 1.
      sequence: tokens per sequence.
      multiple: sequences that every batch must be divisible by.

    Raises:
      ConfigError: naming field, value and rule.

    Source: Brown et al. 2020, GPT-3, arXiv 2005.14165, appendix B: from 32k tokens over the first 4 to 12 billion.

    >>> ramp = linear_ramp(start=2, end=8, tokens=600, sequence=10, multiple=2)
    >>> ramp.batches, ramp.tokens
    ((2, 4, 6, 8), (0, 100, 300, 500))
    """
    _check_ramp(start=start, end=end, multiple=multiple)
    require(isinstance(tokens, int) and tokens >= 1, "tokens", tokens, "must be a whole number of at least 1")
    batches = tuple(range(start, end + 1, multiple))
    # Batch b is nearest from where the line passes b - multiple/2.
    passed = (-(-(2 * (b - start) - multiple) * tokens // (2 * (end - start))) for b in batches[1:])
    return BatchRamp(batches=batches, tokens=(0, *passed), sequence=sequence, multiple=multiple)


def doubling_ramp(*, start: int, at: tuple[int, ...], sequence: int, multiple: int = 1) -> BatchRamp:
    """Returns the staircase that doubles the batch at each of the token counts `at`.

    At a fixed rate each step halves the noise of SGD, as halving the rate would; a rate that grows by 2 (SGD) or
    sqrt 2 (Adam) with each keeps it: `lambda t: schedule(t) * (ramp.batch(t) / start) ** 0.5`.

    Raises `ConfigError` unless `start` is a multiple of `multiple` and `at` ascends from above 0.

    >>> doubling_ramp(start=8, at=(1000, 5000), sequence=10).batches
    (8, 16, 32)
    """
    _check_ramp(start=start, end=start, multiple=multiple)
    batches = tuple(start * 2**k for k in range(len(at) + 1))
    return BatchRamp(batches=batches, tokens=(0, *at), sequence=sequence, multiple=multiple)


def by_tokens(schedule: Schedule, ramp: BatchRamp) -> Schedule:
    """Returns the schedule of updates that reads `schedule`, a schedule of grains, at the tokens seen so far.

    Lengths in `schedule` are in grains: `ramp.in_grains(tokens)`. Its warm-up convention counts grains too: a
    (t+1)/W of 1/W at the first update is one grain's share, not one update's.

    >>> from jaxlm.schedules.linear import linear
    >>> ramp = BatchRamp(batches=(1, 2), tokens=(0, 20), sequence=10)
    >>> schedule = by_tokens(linear(ramp.in_grains(80)), ramp)
    >>> [float(schedule(t)) for t in range(ramp.updates(80))]
    [1.0, 0.875, 0.75, 0.5, 0.25]
    """
    return lambda t: schedule(ramp.grains(t))


def _check_ramp(*, start: int, end: int, multiple: int) -> None:
    require(isinstance(multiple, int) and multiple >= 1, "multiple", multiple, "must be a whole number of at least 1")
    for name, batch in (("start", start), ("end", end)):
        require(isinstance(batch, int) and batch >= 1 and batch % multiple == 0, name, batch,
                f"must be a positive multiple of multiple = {multiple}")
    require(start <= end, "end", end, f"must not be below start = {start}")


def _stage(firsts: list[int], step: jax.Array) -> jax.Array:
    return jnp.searchsorted(jnp.asarray(firsts, jnp.int32), step, side="right") - 1
