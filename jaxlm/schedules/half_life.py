"""MiniCPM's cooldown: the rate halves every so many updates, without a floor."""

import dataclasses
from typing import ClassVar

from jaxlm.config import require
from jaxlm.schedules.steps import Schedule, check_run
from jaxlm.schedules.warmup import Warmed, Warmup
from jaxlm.schedules.wsd import wsd


def half_life_decay(updates: int, *, decay: int, half_life: float, peak_lr: float = 1.0,
                    warmup: int | Warmup = 0) -> Schedule:
    """Returns warm-up, `peak_lr`, then peak_lr * 0.5^((t - start)/half_life) over the last `decay` updates.

    It is `wsd` with the shape "exponential" and the final fraction 0.5^(decay/half_life), which holds afterwards.

    Args:
      updates: T, number of updates of the run, 1 to 2**31-1.
      decay: number of updates of the cooldown, 1 to T - W; 10% of the run suffices in the paper, 2.5% does not.
      half_life: updates in which the rate halves, at least decay/100; 5000 (20 billion tokens) in the paper.
      peak_lr, warmup: as in `wsd`.

    Raises:
      ConfigError: naming field, value and rule.

    Source: Hu et al. 2024, "MiniCPM", arXiv 2404.06395, sections 4.3 and 6.2.

    >>> schedule = half_life_decay(8, decay=4, half_life=2)
    >>> [round(float(schedule(t)), 6) for t in (3, 4, 6, 8)]
    [1.0, 1.0, 0.5, 0.25]
    """
    check_run(updates, warmup=0, decay=decay)
    _check(decay, half_life)
    return wsd(updates, decay=decay, peak_lr=peak_lr, warmup=warmup, shape="exponential",
               final=0.5 ** (decay / half_life))


@dataclasses.dataclass(frozen=True, kw_only=True)
class HalfLife(Warmed):
    """Warm-up, `peak_lr`, then a rate that halves every `half_life` updates over the last `decay`.

    >>> float(HalfLife(peak_lr=0.5, decay=4, half_life=2.0).build(10)(8))
    0.25
    """

    kind: ClassVar[str] = "half_life"
    decay: int
    half_life: float

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self.decay, self.half_life)

    def build(self, updates: int) -> Schedule:
        """Returns the schedule; raises `ConfigError` if warm-up and decay do not fit into the run."""
        return half_life_decay(updates, decay=self.decay, half_life=self.half_life, peak_lr=self.peak_lr,
                               warmup=self.warmup)


def _check(decay: int, half_life: float) -> None:
    require(decay >= 1, "decay", decay, "must be at least 1 update")
    # Below, the final rate would be no float32.
    require(decay / 100 <= half_life < float("inf"), "half_life", half_life,
            f"must be finite and at least decay/100 = {decay / 100:g} updates")
