"""Linear decay over the whole run after the warm-up, to zero by default ("D2Z")."""

import dataclasses
from typing import ClassVar

from jaxlm.schedules.cooldown import check_cooldown
from jaxlm.schedules.steps import End, Schedule, check_run
from jaxlm.schedules.warmup import Warmed, Warmup, as_warmup
from jaxlm.schedules.wsd import wsd


def linear(updates: int, *, peak_lr: float = 1.0, warmup: int | Warmup = 0, final: float = 0.0,
           end: End = "exclusive") -> Schedule:
    """Returns linear warm-up followed by linear decay from `peak_lr` to `final * peak_lr`.

    rate(t) = peak_lr * (final + (1-final) (T-t)/(T-W)) for t >= W, after the warm-up ((t+1)/W by
    default); the final value holds from t = T on. The last update, T-1, still has a rate of
    1/(T-W) above the final one, unless `end` is "inclusive".

    Args:
      updates: T, number of updates of the run, 1 to 2**31-1.
      peak_lr: rate at the end of the warm-up, >= 0.
      warmup: number of updates W, 0 to T-1, or a `Warmup` for the other conventions.
      final: final rate as a fraction of the peak, in [0, 1].
      end: whether the final value is reached one past the last update ("exclusive") or at it ("inclusive").

    Raises:
      ConfigError: naming field, value and rule.

    Source: Defazio et al. 2023, "When, Why and How Much? Adaptive Learning Rate Scheduling by
    Refinement", arXiv 2310.07831; Bergsma et al. 2025, "Straight to Zero", arXiv 2502.15938.

    >>> schedule = linear(6, warmup=2)
    >>> [float(schedule(t)) for t in range(7)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]
    """
    rise = as_warmup(warmup)
    check_run(updates, warmup=rise.steps, decay=1)
    return wsd(updates, decay=updates - rise.steps, peak_lr=peak_lr, warmup=rise,
               shape="linear", final=final, end=end)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Linear(Warmed):
    """Warm-up, then linear decay over the rest of the run to the fraction `final` of `peak_lr`.

    >>> float(Linear(peak_lr=0.5, warmup=2).build(10)(6))
    0.25
    """

    kind: ClassVar[str] = "linear"
    final: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_cooldown(shape="linear", final=self.final)

    def build(self, updates: int) -> Schedule:
        """Returns the schedule; raises `ConfigError` unless the warm-up is shorter than the run."""
        return linear(updates, peak_lr=self.peak_lr, warmup=self.warmup, final=self.final)
