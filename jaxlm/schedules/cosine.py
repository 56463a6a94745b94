"""Cosine decay over the whole run after the warm-up, or over all of it but a constant tail."""

import dataclasses
from typing import ClassVar

from jaxlm.config import require
from jaxlm.schedules.cooldown import check_cooldown
from jaxlm.schedules.steps import End, Schedule, check_run
from jaxlm.schedules.warmup import Warmed, Warmup, as_warmup
from jaxlm.schedules.wsd import wsd


def cosine(updates: int, *, peak_lr: float = 1.0, warmup: int | Warmup = 0, final: float = 0.0,
           end: End = "exclusive") -> Schedule:
    """Returns linear warm-up followed by a half cosine from `peak_lr` to `final * peak_lr`.

    rate(t) = peak_lr * (final + (1-final) (1 + cos(pi (t-W)/(T-W))) / 2) for t >= W, after the warm-up
    ((t+1)/W by default); the final value holds from t = T on.

    Args:
      updates: T, number of updates of the run, 1 to 2**31-1.
      peak_lr: rate at the end of the warm-up, >= 0.
      warmup: number of updates W, 0 to T-1, or a `Warmup` for the other conventions.
      final: final rate as a fraction of the peak, in [0, 1]; 0.1 in much of the literature.
      end: whether the final value is reached one past the last update ("exclusive") or at it ("inclusive").

    Raises:
      ConfigError: naming field, value and rule.

    Source: Loshchilov and Hutter 2016, "SGDR", arXiv 1608.03983, equation 5, one cycle.

    >>> schedule = cosine(6, warmup=2, final=0.5)
    >>> [round(float(schedule(t)), 4) for t in range(7)]
    [0.5, 1.0, 1.0, 0.9268, 0.75, 0.5732, 0.5]
    """
    rise = as_warmup(warmup)
    check_run(updates, warmup=rise.steps, decay=1)
    return wsd(updates, decay=updates - rise.steps, peak_lr=peak_lr, warmup=rise,
               shape="cosine", final=final, end=end)


def cosine_tail(updates: int, *, tail: int, peak_lr: float = 1.0, warmup: int | Warmup = 0,
                final: float = 0.1) -> Schedule:
    """Returns `cosine` over the first `updates - tail` updates, whose final rate holds over the last `tail`.

    Raises `ConfigError` where the tail leaves no update to the cosine after its warm-up.

    Source: the schedule "cos_inf" of the code of Haegele et al. 2024, arXiv 2405.18392.

    >>> schedule = cosine_tail(6, tail=2, final=0.5)
    >>> [round(float(schedule(t)), 4) for t in range(7)]
    [1.0, 0.9268, 0.75, 0.5732, 0.5, 0.5, 0.5]
    """
    rise = as_warmup(warmup)
    require(isinstance(tail, int) and tail >= 0, "tail", tail, "must be a whole number of updates, not negative")
    check_run(updates, warmup=rise.steps, decay=1)
    require(tail < updates - rise.steps, "tail", tail, f"must leave an update to the cosine: updates = {updates}, "
            f"warmup = {rise.steps}")
    return cosine(updates - tail, peak_lr=peak_lr, warmup=rise, final=final)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cosine(Warmed):
    """Warm-up, then a half cosine over the rest of the run to the fraction `final` of `peak_lr`.

    >>> round(float(Cosine(peak_lr=0.5, warmup=2).build(10)(6)), 6)
    0.25
    """

    kind: ClassVar[str] = "cosine"
    final: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_cooldown(shape="cosine", final=self.final)

    def build(self, updates: int) -> Schedule:
        """Returns the schedule; raises `ConfigError` unless the warm-up is shorter than the run."""
        return cosine(updates, peak_lr=self.peak_lr, warmup=self.warmup, final=self.final)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CosineTail(Warmed):
    """Warm-up, a half cosine, then the fraction `final` of `peak_lr` over the last `tail` updates: `cosine_tail`.

    >>> float(CosineTail(peak_lr=0.5, tail=4).build(10)(7))
    0.05000000074505806
    """

    kind: ClassVar[str] = "cosine_tail"
    tail: int
    final: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_cooldown(shape="cosine", final=self.final)
        require(self.tail >= 0, "tail", self.tail, "must not be negative")

    def build(self, updates: int) -> Schedule:
        """Returns the schedule; raises `ConfigError` unless warm-up and tail leave an update to the cosine."""
        return cosine_tail(updates, tail=self.tail, peak_lr=self.peak_lr, warmup=self.warmup, final=self.final)
