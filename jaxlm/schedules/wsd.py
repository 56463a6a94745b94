"""Warm-up, stable, decay: a constant rate whose last updates are a cooldown of a chosen shape."""

import dataclasses
from typing import Any, ClassVar

import jax

from jaxlm.config import require
from jaxlm.schedules.cooldown import CooldownShape, check_cooldown, cooldown
from jaxlm.schedules.steps import End, Schedule, check_peak_lr, check_run
from jaxlm.schedules.warmup import Warmed, Warmup, as_warmup


def wsd(updates: int, *, decay: int, peak_lr: float = 1.0, warmup: int | Warmup = 0, shape: CooldownShape = "sqrt",
        final: float = 0.0, end: End = "exclusive") -> Schedule:
    """Returns the warmup-stable-decay schedule of a run of `updates` updates.

    rate(t) = peak_lr * w(t) * c(t), with w the warm-up fraction ((t+1)/W by default) and c the
    cooldown over the last `decay` updates: u = (t - (updates-decay))/decay, formulas at `cooldown`.
    From t = updates on, the rate stays at final*peak_lr. With decay = 0 it is the trunk: warm-up, then
    the peak for ever, whose rates equal those of every branch before its decay, bit for bit.

    Args:
      updates: T, number of updates of the run, 1 to 2**31-1.
      decay: number of updates of the cooldown, 0 to T - W.
      peak_lr: rate between warm-up and decay, >= 0.
      warmup: number of updates W >= 0, or a `Warmup` for the other conventions.
      shape: shape of the cooldown. The default, 1-sqrt down to zero, is the best of those that
        Haegele et al. compare.
      final: final rate as a fraction of the peak, in [0, 1]; > 0 for "exponential" and "inverse".
      end: whether the final value is reached one past the last update ("exclusive") or at it ("inclusive").

    Raises:
      ConfigError: naming field, value and rule; among others when warmup + decay > updates.

    Source: Hu et al. 2024, "MiniCPM", arXiv 2404.06395; Haegele et al. 2024, arXiv 2405.18392.

    >>> schedule = wsd(8, decay=4, warmup=2, shape="linear")
    >>> [float(schedule(t)) for t in range(9)]
    [0.5, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]
    """
    check_peak_lr(peak_lr)
    check_cooldown(shape=shape, final=final, end=end)
    rise = as_warmup(warmup)
    check_run(updates, warmup=rise.steps, decay=decay)

    def schedule(t: Any) -> jax.Array:
        # The trunk's own graph: a branch differs from it only by a factor that is exactly 1 before the decay.
        trunk = peak_lr * rise.fraction(t)
        if decay == 0:
            return trunk
        return trunk * cooldown(t, start=updates - decay, length=decay, shape=shape, final=final, end=end)

    return schedule


@dataclasses.dataclass(frozen=True, kw_only=True)
class WSD(Warmed):
    """Warm-up, `peak_lr`, then a cooldown over the last `decay` updates; `decay=0` is the trunk.

    The rates of a trunk and of its branches agree bit for bit before the decay. The defaults of `shape` and
    `final`, 1-sqrt to zero, follow Haegele et al. 2024, arXiv 2405.18392.

    >>> float(WSD(peak_lr=0.5, warmup=2, decay=4, shape="linear").build(10)(8))
    0.25
    """

    kind: ClassVar[str] = "wsd"
    decay: int = 0
    shape: CooldownShape = "sqrt"
    final: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_cooldown(shape=self.shape, final=self.final)
        require(self.decay >= 0, "decay", self.decay, "must not be negative")

    def build(self, updates: int) -> Schedule:
        """Returns the schedule; raises `ConfigError` if warm-up and decay do not fit into the run."""
        return wsd(updates, decay=self.decay, peak_lr=self.peak_lr, warmup=self.warmup, shape=self.shape,
                   final=self.final)
