"""The union of all configurations of schedules; `build(updates)` makes the schedule of a run of that length."""

import dataclasses
from typing import Any, ClassVar, TypeAlias

from jaxlm.config import require, to_dict
from jaxlm.schedules.arrays import ArraySchedule, FromArray
from jaxlm.schedules.constant import Constant
from jaxlm.schedules.cooldown import CooldownShape, check_cooldown
from jaxlm.schedules.cosine import Cosine, CosineTail
from jaxlm.schedules.cycles import WSDS, CyclicCosine
from jaxlm.schedules.half_life import HalfLife
from jaxlm.schedules.infinite import Infinite, rewarm_redecay
from jaxlm.schedules.inverse_sqrt import InverseSqrt
from jaxlm.schedules.linear import Linear
from jaxlm.schedules.power import Power
from jaxlm.schedules.step_decay import StepDecay
from jaxlm.schedules.steps import Schedule
from jaxlm.schedules.warmup import Warmed
from jaxlm.schedules.wsd import WSD


@dataclasses.dataclass(frozen=True, kw_only=True)
class RewarmRedecay(Warmed):
    """`running`, built for `start` updates, then `warmup` up to `peak_lr` and a decay to the end: `rewarm_redecay`.

    `running` may itself be a `RewarmRedecay`, for a third set of data.

    >>> before = Linear(peak_lr=0.5, final=0.5)
    >>> config = RewarmRedecay(running=before, start=4, peak_lr=0.5, warmup=2, shape="linear")
    >>> [float(config.build(10)(t)) for t in (0, 4, 5, 6)]
    [0.5, 0.25, 0.375, 0.5]
    """

    kind: ClassVar[str] = "rewarm_redecay"
    running: "ScheduleConfig"
    start: int
    decay: int | None = None
    shape: CooldownShape = "cosine"
    final: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_cooldown(shape=self.shape, final=self.final)
        require(self.decay is None or self.decay >= 0, "decay", self.decay, "must not be negative")
        require(self.start >= 1, "start", self.start, "must be at least 1")

    def build(self, updates: int) -> Schedule:
        """Returns the schedule; raises `ConfigError` if a part does not fit into the run."""
        return rewarm_redecay(self.running.build(self.start), start=self.start, updates=updates, peak_lr=self.peak_lr,
                              warmup=self.warmup, decay=self.decay, shape=self.shape, final=self.final)


ScheduleConfig: TypeAlias = (Constant | Linear | Cosine | WSD | FromArray | WSDS | CyclicCosine | CosineTail | HalfLife
                             | Infinite | InverseSqrt | Power | RewarmRedecay | StepDecay)


def provenance(config: ScheduleConfig, updates: int) -> dict[str, Any]:
    """Returns JSON-ready data for `schedule.json`: where the rates of a run of `updates` come from.

    The configuration and the length of the run make the rates again. For `FromArray`, whose file may
    move, the digest of its rates and the file's own provenance are added.

    Raises:
      ConfigError: if the schedule cannot be built for `updates`.

    >>> provenance(Constant(peak_lr=0.5), 10)["config"]
    {'kind': 'constant', 'peak_lr': 0.5, 'warmup': 0}
    """
    schedule = config.build(updates)
    data = {"source": "jaxlm.schedules", "updates": updates, "config": to_dict(config)}
    if isinstance(schedule, ArraySchedule):
        data |= {"sha256": schedule.sha256, "from": dict(schedule.provenance)}
    return data
