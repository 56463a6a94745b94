"""Constant rate after a warm-up: the trunk from which decays branch off."""

import dataclasses
from typing import Any, ClassVar

import jax

from jaxlm.schedules.steps import Schedule, check_peak_lr, check_run
from jaxlm.schedules.warmup import Warmed, Warmup, as_warmup


def constant(*, peak_lr: float = 1.0, warmup: int | Warmup = 0) -> Schedule:
    """Returns a schedule that warms up and then stays at `peak_lr` for ever.

    rate(t) = peak_lr * w(t), w the warm-up fraction, (t+1)/W unless `warmup` says otherwise.

    Args:
      peak_lr: rate after the warm-up, >= 0, in whatever unit the optimizer takes; 1 makes a multiplier.
      warmup: number of updates W >= 0, or a `Warmup` for the other conventions.

    Raises:
      ConfigError: naming field, value and rule.

    >>> schedule = constant(peak_lr=0.5, warmup=2)
    >>> [float(schedule(t)) for t in (0, 1, 2, 1000)]
    [0.25, 0.5, 0.5, 0.5]
    """
    check_peak_lr(peak_lr)
    rise = as_warmup(warmup)

    def schedule(t: Any) -> jax.Array:
        return peak_lr * rise.fraction(t)

    return schedule


@dataclasses.dataclass(frozen=True, kw_only=True)
class Constant(Warmed):
    """Warm-up over `warmup` updates, (t+1)/warmup of `peak_lr` at update t, then `peak_lr`.

    >>> float(Constant(peak_lr=0.5, warmup=2).build(10)(0))
    0.25
    """

    kind: ClassVar[str] = "constant"

    def build(self, updates: int) -> Schedule:
        """Returns the schedule; raises `ConfigError` if the warm-up is longer than the run."""
        check_run(updates, warmup=self.warmup, decay=0)
        return constant(peak_lr=self.peak_lr, warmup=self.warmup)
