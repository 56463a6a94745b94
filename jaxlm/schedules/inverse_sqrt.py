"""Inverse square root decay, which needs no length of the run."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxlm.config import require
from jaxlm.schedules.cooldown import CooldownShape, check_cooldown
from jaxlm.schedules.pieces import with_cooldown
from jaxlm.schedules.steps import MAX_UPDATES, Schedule, as_step, check_peak_lr, check_run
from jaxlm.schedules.warmup import Warmed, Warmup, as_warmup


def inverse_sqrt(*, peak_lr: float = 1.0, warmup: int | Warmup = 0, start: int | None = None,
                 timescale: float | None = None, floor: float = 0.0) -> Schedule:
    """Returns warm-up, then decay with the inverse square root of the update, for ever.

    rate(t) = peak_lr * w(t) * max(floor, 1/sqrt(1 + max(t - start, 0)/timescale)), w the warm-up fraction

        convention  start      timescale            rate after the warm-up
        nanodo      W          W + 1                sqrt((W+1)/(t+1)): the default
        levanter    timescale  10,000               sqrt(timescale/t), flat until t = timescale
        OLMo-core   W          W                    sqrt(W/t); its `alpha_f` scales the fall: not covered

    Args:
      peak_lr: rate at the end of the warm-up, >= 0.
      warmup: number of updates W >= 0, or a `Warmup` for the other conventions.
      start: update up to which the peak holds; None for W.
      timescale: updates after `start` at which the rate is 1/sqrt(2) of the peak, > 0; None for start + 1.
      floor: fraction of the peak below which the rate does not fall, in [0, 1].

    Raises:
      ConfigError: naming field, value and rule.

    Source: Vaswani et al. 2017, "Attention Is All You Need", arXiv 1706.03762, equation 3, which is W * peak_lr^2 =
    1/d, start = W - 1 and timescale = W.

    >>> schedule = inverse_sqrt(warmup=3)
    >>> [round(float(schedule(t)), 4) for t in (0, 2, 3, 15, 63)]
    [0.3333, 1.0, 1.0, 0.5, 0.25]
    """
    check_peak_lr(peak_lr)
    rise = as_warmup(warmup)
    first = rise.steps if start is None else start
    scale = first + 1 if timescale is None else timescale
    _check(first, scale, floor)

    def schedule(t: Any) -> jax.Array:
        elapsed = jnp.maximum(as_step(t) - first, 0)
        fall = 1.0 / jnp.sqrt(1.0 + elapsed.astype(jnp.result_type(float)) / scale)
        return peak_lr * rise.fraction(t) * jnp.maximum(fall, floor)

    return schedule


@dataclasses.dataclass(frozen=True, kw_only=True)
class InverseSqrt(Warmed):
    """Warm-up, then `inverse_sqrt`, whose last `decay` updates are a cooldown to `final` of the rate they start at.

    >>> config = InverseSqrt(peak_lr=0.5, warmup=3, decay=10)
    >>> [float(config.build(25)(t)) for t in (15, 20)]
    [0.25, 0.125]
    """

    kind: ClassVar[str] = "inverse_sqrt"
    start: int | None = None
    timescale: float | None = None
    floor: float = 0.0
    decay: int = 0
    shape: CooldownShape = "linear"
    final: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_cooldown(shape=self.shape, final=self.final)
        self._schedule()

    def build(self, updates: int) -> Schedule:
        """Returns the schedule; raises `ConfigError` if warm-up and decay do not fit into the run."""
        check_run(updates, warmup=self.warmup, decay=self.decay)
        return with_cooldown(self._schedule(), updates, decay=self.decay, shape=self.shape, final=self.final)

    def _schedule(self) -> Schedule:
        return inverse_sqrt(peak_lr=self.peak_lr, warmup=self.warmup, start=self.start, timescale=self.timescale,
                            floor=self.floor)


def _check(start: int, timescale: float, floor: float) -> None:
    require(isinstance(start, int) and 0 <= start <= MAX_UPDATES, "start", start,
            "must be a whole number of updates, not negative")
    require(0.0 < timescale < float("inf"), "timescale", timescale, "must be finite and positive")
    require(0.0 <= floor <= 1.0, "floor", floor, "is a fraction of the peak and must lie in [0, 1]")
