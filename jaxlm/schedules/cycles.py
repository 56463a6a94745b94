"""Cycles: WSD-S, which decays at every budget and goes on from there, and the cosine with warm restarts."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import ClassVar

from jaxlm.config import require
from jaxlm.schedules.cooldown import CooldownShape, check_cooldown
from jaxlm.schedules.cosine import cosine
from jaxlm.schedules.pieces import check_ascending, join
from jaxlm.schedules.steps import Schedule, check_peak_lr, check_updates
from jaxlm.schedules.warmup import Warmed, Warmup, as_warmup
from jaxlm.schedules.wsd import wsd


def wsd_s(ends: Sequence[int], *, decay: int | Sequence[int], peak_lr: float = 1.0, warmup: int | Warmup = 0,
          rewarmup: int | Warmup = 0, shape: CooldownShape = "inverse", final: float = 0.1,
          peaks: Sequence[float] = ()) -> Schedule:
    """Returns WSD-S: cycles that each hold the peak and decay, the next one going on from the decayed weights.

    Cycle i runs from update `ends[i-1]` to `ends[i]`, exclusive, and is `wsd` on its own clock: warm-up (the first)
    or re-warm-up (the others), the peak, then `decay` updates of cooldown to `final`. One run so gives a decayed
    model at every end. With one cycle it is `wsd(ends[0], ...)` bit for bit; before its first decay it is the trunk.

    Args:
      ends: update at which each cycle ends; the last is the length of the run.
      decay: updates of the cooldown, >= 1, for all cycles or one for each.
      peak_lr: rate between warm-up and decay, >= 0.
      warmup: updates of the first warm-up, or a `Warmup`.
      rewarmup: updates in which later cycles rise linearly from the final rate of the one before, which is
        the rate at their first update; 0 jumps back to the peak in one step. Or a `Warmup`.
      shape: shape of the cooldown; 1/rate linear in the share done by default.
      final: final rate of a cycle as a fraction of its peak, in [0, 1]; > 0 for "exponential" and "inverse".
      peaks: peak of each cycle as a fraction of `peak_lr`, > 0; all 1 if empty. OLMo-core's WSDS may let them
        shrink with the root of the budget: `[(ends[0] / end) ** 0.5 for end in ends]`.

    Raises:
      ConfigError: naming field, value and rule; among others where a cycle is too short for its decay.

    Source: Wen et al. 2024, "Understanding Warmup-Stable-Decay Learning Rates", arXiv 2410.05192, equation 8 for
    the decay. Its defaults here, decay to 0.1 without re-warm-up, are levanter's saved configuration of an 8B run.
    Deviations: levanter evaluates its inverse decay at u = max(t-start, 1)/decay; here a decay starts at the peak.
    OLMo-core decays linearly to 0: shape="linear", final=0.

    >>> schedule = wsd_s([4, 10], decay=2, warmup=2, shape="linear", final=0.5)
    >>> [float(schedule(t)) for t in range(11)]
    [0.5, 1.0, 1.0, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5]
    """
    check_cooldown(shape=shape, final=final)
    decays = [decay] * len(ends) if isinstance(decay, int) else list(decay)
    require(len(decays) == len(ends), "decay", decays, f"must be one number, or one for each of {len(ends)} cycles")

    def cycle(i: int, length: int, peak: float, rise: Warmup) -> Schedule:
        require(isinstance(decays[i], int) and decays[i] >= 1, "decay", decays[i], "must be at least 1 update")
        _check_fits(i, ends, length, rise=rise.steps, decay=decays[i])
        return wsd(length, decay=decays[i], peak_lr=peak, warmup=rise, shape=shape, final=final)

    return _cycles(cycle, ends, peak_lr=peak_lr, warmup=warmup, rewarmup=rewarmup, final=final, peaks=peaks)


def cyclic_cosine(updates: int, *, cycles: int | Sequence[int], peak_lr: float = 1.0, warmup: int | Warmup = 0,
                  rewarmup: int | Warmup = 0, final: float = 0.0, peaks: Sequence[float] = ()) -> Schedule:
    """Returns the cosine with warm restarts: cycles of a (re-)warm-up and a half cosine down to `final`.

    Each cycle is `cosine` on its own clock; one cycle is `cosine(updates, ...)` bit for bit.

    Args:
      updates: T, number of updates of the run.
      cycles: number of cycles of equal length (to within one update), or the updates at which they end, the last
        of them T: for cycles that grow by a factor.
      peak_lr, warmup, rewarmup, peaks: as in `wsd_s`. Levanter's cycles re-warm from the final rate, as an
        integer `rewarmup` does; `optax.sgdr_schedule` starts each at its initial value:
        `rewarmup=Warmup(steps=W, initial=0.0)`.
      final: final rate of a cycle as a fraction of its peak, in [0, 1].

    Raises:
      ConfigError: naming field, value and rule.

    Source: Loshchilov and Hutter 2016, "SGDR", arXiv 1608.03983, equation 5.

    >>> schedule = cyclic_cosine(8, cycles=2, rewarmup=2, final=0.5)
    >>> [round(float(schedule(t)), 4) for t in range(9)]
    [1.0, 0.9268, 0.75, 0.5732, 0.5, 0.75, 1.0, 0.75, 0.5]
    """
    check_updates(updates)
    check_cooldown(shape="cosine", final=final)
    ends = _equal_ends(updates, cycles) if isinstance(cycles, int) else cycles
    check_ascending("cycles", ends)
    _check_last("cycles", ends, updates)

    def cycle(i: int, length: int, peak: float, rise: Warmup) -> Schedule:
        _check_fits(i, ends, length, rise=rise.steps, decay=1)
        return cosine(length, peak_lr=peak, warmup=rise, final=final)

    return _cycles(cycle, ends, peak_lr=peak_lr, warmup=warmup, rewarmup=rewarmup, final=final, peaks=peaks)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WSDS(Warmed):
    """WSD-S: `wsd_s` with a decay before each of `ends`, the last of which is the length of the run.

    >>> config = WSDS(peak_lr=0.5, ends=(10, 20), decay=2)
    >>> [round(float(config.build(20)(t)), 4) for t in (7, 9, 10, 17, 19)]
    [0.5, 0.0909, 0.5, 0.5, 0.0909]
    """

    kind: ClassVar[str] = "wsd_s"
    ends: tuple[int, ...]
    decay: int | tuple[int, ...]
    rewarmup: int = 0
    shape: CooldownShape = "inverse"
    final: float = 0.1
    peaks: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self._schedule()

    def build(self, updates: int) -> Schedule:
        """Returns the schedule; raises `ConfigError` unless the last cycle ends with the run."""
        check_updates(updates)
        _check_last("ends", self.ends, updates)
        return self._schedule()

    def _schedule(self) -> Schedule:
        return wsd_s(self.ends, decay=self.decay, peak_lr=self.peak_lr, warmup=self.warmup, rewarmup=self.rewarmup,
                     shape=self.shape, final=self.final, peaks=self.peaks)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CyclicCosine(Warmed):
    """Cosine with warm restarts: `cyclic_cosine` in `cycles` equal cycles, or in cycles that end at `cycles`.

    >>> config = CyclicCosine(peak_lr=0.5, cycles=2)
    >>> [round(float(config.build(20)(t)), 4) for t in (0, 5, 10, 15)]
    [0.5, 0.25, 0.5, 0.25]
    """

    kind: ClassVar[str] = "cyclic_cosine"
    cycles: int | tuple[int, ...]
    rewarmup: int = 0
    final: float = 0.0
    peaks: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_cooldown(shape="cosine", final=self.final)
        _check_rewarmup(self.rewarmup)
        if isinstance(self.cycles, int):
            require(self.cycles >= 1, "cycles", self.cycles, "must be at least 1")
        else:
            check_ascending("cycles", self.cycles)

    def build(self, updates: int) -> Schedule:
        """Returns the schedule; raises `ConfigError` where the cycles do not fit or do not end with the run."""
        return cyclic_cosine(updates, cycles=self.cycles, peak_lr=self.peak_lr, warmup=self.warmup,
                             rewarmup=self.rewarmup, final=self.final, peaks=self.peaks)


def _cycles(cycle: Callable[[int, int, float, Warmup], Schedule], ends: Sequence[int], *, peak_lr: float,
            warmup: int | Warmup, rewarmup: int | Warmup, final: float, peaks: Sequence[float]) -> Schedule:
    """Joins `cycle(i, length, peak, rise)` for every cycle i."""
    check_peak_lr(peak_lr)
    _check_rewarmup(rewarmup)
    require(len(ends) > 0, "ends", list(ends), "must be the end of at least one cycle")
    check_ascending("ends", ends)
    shares = list(peaks) or [1.0] * len(ends)
    require(len(shares) == len(ends), "peaks", shares, f"must be one for each of {len(ends)} cycles, or none")
    require(all(0.0 < share < float("inf") for share in shares), "peaks", shares, "must be finite and positive")
    made = []
    for i, (first, end) in enumerate(zip([0, *ends], ends, strict=False)):
        rise = as_warmup(warmup if i == 0 else rewarmup)
        if i > 0 and isinstance(rewarmup, int):
            # From the final rate of the cycle before, as a fraction of this cycle's peak.
            initial = final * shares[i - 1] / shares[i]
            require(initial <= 1.0, f"peaks[{i}]", shares[i], f"must not lie below the rate that cycle {i - 1} ends at")
            rise = dataclasses.replace(rise, initial=initial)
        made.append(cycle(i, end - first, peak_lr * shares[i], rise))
    return join(made, list(ends[:-1]))


def _check_rewarmup(rewarmup: int | Warmup) -> None:
    require(isinstance(rewarmup, Warmup) or isinstance(rewarmup, int) and rewarmup >= 0, "rewarmup", rewarmup,
            "must be a whole number of updates, not negative")


def _equal_ends(updates: int, cycles: int) -> list[int]:
    require(1 <= cycles <= updates, "cycles", cycles, f"must lie in 1..updates = {updates}")
    return [updates * (i + 1) // cycles for i in range(cycles)]


def _check_last(field: str, ends: Sequence[int], updates: int) -> None:
    require(len(ends) > 0 and ends[-1] == updates, field, tuple(ends),
            f"the last cycle must end with the run, updates = {updates}")


def _check_fits(i: int, ends: Sequence[int], length: int, *, rise: int, decay: int) -> None:
    require(rise + decay <= length, f"ends[{i}]", ends[i],
            f"cycle {i} has {length} updates, too few for {'re-' if i else ''}warm-up {rise} and decay {decay}")
