"""Typed configurations of schedules; `build(updates)` makes the schedule of a run of that length."""

import dataclasses
from typing import Any, ClassVar, TypeAlias

from jaxlm.config import require, to_dict
from jaxlm.schedules.arrays import ArraySchedule, load_array
from jaxlm.schedules.constant import constant
from jaxlm.schedules.cooldown import Shape, check_cooldown
from jaxlm.schedules.cosine import cosine
from jaxlm.schedules.linear import linear
from jaxlm.schedules.steps import Schedule, check_updates
from jaxlm.schedules.warmup import Warmup
from jaxlm.schedules.wsd import check_run, wsd


@dataclasses.dataclass(frozen=True, kw_only=True)
class Constant:
    """Warm-up over `warmup` updates, (t+1)/warmup of `peak_lr` at update t, then `peak_lr`.

    >>> float(Constant(peak_lr=0.5, warmup=2).build(10)(0))
    0.25
    """

    kind: ClassVar[str] = "constant"
    peak_lr: float
    warmup: int = 0

    def __post_init__(self) -> None:
        _check(self.peak_lr, self.warmup)

    def build(self, updates: int) -> Schedule:
        """Returns the schedule; raises `ConfigError` if the warm-up is longer than the run."""
        check_run(updates, warmup=self.warmup, decay=0)
        return constant(peak_lr=self.peak_lr, warmup=self.warmup)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Linear:
    """Warm-up, then linear decay over the rest of the run to the fraction `final` of `peak_lr`.

    >>> float(Linear(peak_lr=0.5, warmup=2).build(10)(6))
    0.25
    """

    kind: ClassVar[str] = "linear"
    peak_lr: float
    warmup: int = 0
    final: float = 0.0

    def __post_init__(self) -> None:
        _check(self.peak_lr, self.warmup)
        check_cooldown(shape="linear", final=self.final)

    def build(self, updates: int) -> Schedule:
        """Returns the schedule; raises `ConfigError` unless the warm-up is shorter than the run."""
        return linear(updates, peak_lr=self.peak_lr, warmup=self.warmup, final=self.final)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cosine:
    """Warm-up, then a half cosine over the rest of the run to the fraction `final` of `peak_lr`.

    >>> round(float(Cosine(peak_lr=0.5, warmup=2).build(10)(6)), 6)
    0.25
    """

    kind: ClassVar[str] = "cosine"
    peak_lr: float
    warmup: int = 0
    final: float = 0.0

    def __post_init__(self) -> None:
        _check(self.peak_lr, self.warmup)
        check_cooldown(shape="cosine", final=self.final)

    def build(self, updates: int) -> Schedule:
        """Returns the schedule; raises `ConfigError` unless the warm-up is shorter than the run."""
        return cosine(updates, peak_lr=self.peak_lr, warmup=self.warmup, final=self.final)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WSD:
    """Warm-up, `peak_lr`, then a cooldown over the last `decay` updates; `decay=0` is the trunk.

    The rates of a trunk and of its branches agree bit for bit before the decay. The defaults of `shape` and
    `final`, 1-sqrt to zero, follow Haegele et al. 2024, arXiv 2405.18392.

    >>> float(WSD(peak_lr=0.5, warmup=2, decay=4, shape="linear").build(10)(8))
    0.25
    """

    kind: ClassVar[str] = "wsd"
    peak_lr: float
    warmup: int = 0
    decay: int = 0
    shape: Shape = "sqrt"
    final: float = 0.0

    def __post_init__(self) -> None:
        _check(self.peak_lr, self.warmup)
        check_cooldown(shape=self.shape, final=self.final)
        require(self.decay >= 0, "decay", self.decay, "must not be negative")

    def build(self, updates: int) -> Schedule:
        """Returns the schedule; raises `ConfigError` if warm-up and decay do not fit into the run."""
        return wsd(updates, decay=self.decay, peak_lr=self.peak_lr, warmup=self.warmup, shape=self.shape,
                   final=self.final)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FromArray:
    """The rates in a `schedule.npy`, one for each update of the run.

    `path` is the file, or a folder that holds `schedule.npy`; a `schedule.json` beside it is its provenance.
    """

    kind: ClassVar[str] = "array"
    path: str

    def build(self, updates: int) -> ArraySchedule:
        """Returns the schedule; raises `ConfigError` unless the file holds exactly `updates` rates."""
        check_updates(updates)
        schedule = load_array(self.path)
        # A schedule cut short or held on is another schedule than the one that was optimised or recorded.
        require(len(schedule.rates) == updates, "path", self.path,
                f"holds {len(schedule.rates)} rates, must hold one for each update, updates = {updates}")
        return schedule


ScheduleConfig: TypeAlias = Constant | Linear | Cosine | WSD | FromArray


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


def _check(peak_lr: float, warmup: int) -> None:
    require(0.0 < peak_lr < float("inf"), "peak_lr", peak_lr, "must be finite and positive")
    Warmup(steps=warmup)
