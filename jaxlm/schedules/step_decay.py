"""Step decay: the rate drops by a factor at given shares of the run."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from jaxlm.config import require
from jaxlm.schedules.constant import constant
from jaxlm.schedules.pieces import join
from jaxlm.schedules.steps import Schedule, check_run
from jaxlm.schedules.warmup import Warmed, Warmup, as_warmup


def step_decay(updates: int, *, at: Sequence[float] = (0.8, 0.9), factor: float = 0.316, peak_lr: float = 1.0,
               warmup: int | Warmup = 0) -> Schedule:
    """Returns warm-up, then `peak_lr`, multiplied by `factor` at each of the shares `at` of the run.

    The first update at the k-th lower rate, peak_lr * factor^k, is at[k-1] * updates, rounded to a whole one.

    Args:
      updates: T, number of updates of the run, 1 to 2**31-1.
      at: shares of the run, in (0, 1), that ascend by at least one update, the first not before the warm-up ends.
      factor: in [0, 1].
      peak_lr, warmup: as in `wsd`.

    Raises:
      ConfigError: naming field, value and rule.

    Source: Dai et al. 2024, "DeepSeekMoE", arXiv 2401.06066, section 4.1.3, whose values are the defaults.

    >>> schedule = step_decay(10, factor=0.5)
    >>> [float(schedule(t)) for t in (0, 7, 8, 9, 10)]
    [1.0, 1.0, 0.5, 0.25, 0.25]
    """
    rise = as_warmup(warmup)
    check_run(updates, warmup=rise.steps, decay=0)
    _check(at, factor)
    drops = [round(share * updates) for share in at]
    rule = f"must lie at different updates of the {updates}, none before the warm-up of {rise.steps} ends"
    require(all(a < b for a, b in zip([max(rise.steps, 1) - 1, *drops], [*drops, updates], strict=True)),
            "at", tuple(at), rule)
    trunk = constant(peak_lr=peak_lr, warmup=rise)
    return join([trunk, *(constant(peak_lr=peak_lr * factor**(k + 1)) for k in range(len(drops)))], drops)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepDecay(Warmed):
    """Warm-up, then `peak_lr`, multiplied by `factor` at each of the shares `at` of the run: `step_decay`.

    >>> round(float(StepDecay(peak_lr=0.5).build(10)(9)), 6)
    0.049928
    """

    kind: ClassVar[str] = "step_decay"
    at: tuple[float, ...] = (0.8, 0.9)
    factor: float = 0.316

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self.at, self.factor)

    def build(self, updates: int) -> Schedule:
        """Returns the schedule; raises `ConfigError` where two drops, or the warm-up and a drop, meet."""
        return step_decay(updates, at=self.at, factor=self.factor, peak_lr=self.peak_lr, warmup=self.warmup)


def _check(at: Sequence[float], factor: float) -> None:
    require(all(a < b for a, b in zip([0.0, *at], [*at, 1.0], strict=True)), "at", tuple(at),
            "must be shares of the run between 0 and 1 that ascend")
    require(0.0 <= factor <= 1.0, "factor", factor, "must lie in [0, 1]")
