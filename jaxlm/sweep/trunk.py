"""A trunk and its branches: one run at a constant rate serves results at several budgets."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from jaxlm.config import require
from jaxlm.schedules import WSD, WSDS, Constant
from jaxlm.schedules.cooldown import CooldownShape
from jaxlm.sweep.compute import Compute, Spent, compute, spend
from jaxlm.train.config import Parent, RunConfig


@dataclasses.dataclass(frozen=True)
class Branch:
    """A branch without its parent, whose name follows from all branches of the trunk.

    Attributes:
      start: the update of the trunk that it leaves from.
      run: its configuration.
    """

    start: int
    run: RunConfig


@dataclasses.dataclass(frozen=True)
class Trunk:
    """A run at a constant rate after warm-up, and what branches off it; each method returns a new trunk.

        trunk = Trunk(run).decay_at(500_000).decay_at(1_000_000).cycle((500_000, 1_000_000))
        study = Study(..., stages=(Stage(title="all", runs=trunk.runs),))

    Budgets are in tokens from the trunk's first update on, each a whole number of updates. A branch equals the
    uninterrupted run of its schedule bit for bit. It is named after the trunk (without a "-trunk" at its end) and its
    length, "w32-t256", unless a `name` is given; two branches of one length need one.

    Attributes:
      run: the trunk's configuration with the schedule `Constant`, or `WSD` with decay = 0. Its `updates` does not
        matter once there are branches: the trunk ends where the last of them leaves. The steps where they leave join
        its `checkpoint.keep`, and with that are evaluated.
      branches: so far.
      holds: lengths, in updates, at which the trunk itself is a result.

    Raises `ConfigError` for another schedule and for two runs of one name.
    """

    run: RunConfig
    branches: tuple[Branch, ...] = ()
    holds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        schedule = self.run.schedule
        require(isinstance(schedule, Constant) or (isinstance(schedule, WSD) and schedule.decay == 0), "schedule",
                schedule, "a trunk's rate is constant after warm-up: it must be Constant, or WSD with decay = 0")
        names = [self.run.name, *(branch.run.name for branch in self.branches)]
        twice = [name for name in names if names.count(name) > 1]
        require(not twice, "name", "".join(twice[:1]), "each run of a trunk needs a name of its own")

    def decay_at(
        self, tokens: int, *, shape: CooldownShape = "sqrt", fraction: float = 0.2, final: float = 0.0,
        name: str | None = None, **fields: Any
    ) -> "Trunk":
        """Returns the trunk with a branch that decays and ends after `tokens`.

        The defaults, 1-sqrt to zero over a fifth, follow Haegele et al. 2024, 2405.18392, who see the gain of a longer
        decay level off there.

        Args:
          tokens: D, the budget of the branch with the part of the trunk before it.
          shape: of the decay, see `jaxlm.schedules.cooldown`.
          fraction: share of ALL updates of the budget that decay, in (0, 1], rounded down to whole updates.
          final: last rate as a fraction of the peak, in [0, 1].
          name: of the branch.
          fields: further fields of its `RunConfig`, such as `evaluation`; all others are the trunk's.

        Raises `ConfigError` where the decay would overlap the warm-up or have no update.
        """
        updates = self._updates(tokens)
        decay = self._decay(fraction, updates)
        schedule = WSD(peak_lr=self.run.schedule.peak_lr, warmup=self.run.schedule.warmup, decay=decay, shape=shape,
                       final=final)
        self._check_start(updates - decay, "fraction", fraction, f"a decay of {decay} updates up to update {updates}")
        return self._with(updates - decay, name=name or f"{self._stem}-t{updates}", updates=updates, schedule=schedule,
                          keep=(), fields=fields)

    def cycle(
        self, ends: Sequence[int], *, fraction: float = 0.1, shape: CooldownShape = "inverse", final: float = 0.1,
        rewarmup: int = 0, name: str | None = None, **fields: Any
    ) -> "Trunk":
        """Returns the trunk with one branch that decays at every end and goes on at the peak rate after it (WSD-S).

        It leaves the trunk at its first decay, and is evaluated and kept at every end: all budgets in the tokens of the
        longest. Source: Wen et al. 2024, 2410.05192. The defaults are those of levanter's largest saved
        configuration: inverse decay to a tenth over a tenth of each period, back to the peak in one update.

        Args:
          ends: tokens at which the cycles end, rising, from the trunk's first update on.
          fraction: share of each PERIOD, the updates since the end before, that decays, in (0, 1], rounded down. So
            OLMo-core counts too; of whole budgets, later decays would take the more of their periods the closer the
            budgets lie, and could overlap.
          shape: of the decays, see `jaxlm.schedules.cooldown`.
          final: rate at the end of each decay as a fraction of the peak, in [0, 1], above 0 for "inverse".
          rewarmup: updates over which the rate rises again after each decay.
          name: of the branch, by default the trunk's with "-cycles" and its length.
          fields: further fields of its `RunConfig`; all others are the trunk's.

        Raises `ConfigError` where ends do not rise, and where decays overlap warm-ups or have no update.
        """
        updates = tuple(self._updates(tokens) for tokens in ends)
        require(len(updates) > 0, "ends", ends, "must name at least one")
        periods = [end - before for before, end in zip((0, *updates), updates)]
        require(min(periods) > 0, "ends", tuple(ends), "must rise: cycles must not overlap")
        decays = tuple(self._decay(fraction, period) for period in periods)
        start = updates[0] - decays[0]
        self._check_start(start, "fraction", fraction, f"a decay of {decays[0]} updates up to update {updates[0]}")
        schedule = WSDS(peak_lr=self.run.schedule.peak_lr, warmup=self.run.schedule.warmup, ends=updates, decay=decays,
                        rewarmup=rewarmup, shape=shape, final=final)
        return self._with(start, name=name or f"{self._stem}-cycles-t{updates[-1]}", updates=updates[-1],
                          schedule=schedule, keep=updates, fields=fields)

    def hold_at(self, tokens: int) -> "Trunk":
        """Returns the trunk with itself as a result: trained up to `tokens` at least, evaluated and kept there."""
        updates = self._updates(tokens)
        self._check_start(updates, "tokens", tokens, f"a result at update {updates}")
        return dataclasses.replace(self, holds=(*self.holds, updates))

    @property
    def runs(self) -> tuple[RunConfig, ...]:
        """The trunk, then its branches, which know it as their parent."""
        steps = {*self.holds, *(branch.start for branch in self.branches)}
        if not steps:
            return (self.run,)
        keep = tuple(sorted({*self.run.checkpoint.keep, *steps}))
        trunk = self.run.replace(updates=max(steps), checkpoint=dataclasses.replace(self.run.checkpoint, keep=keep))
        return (trunk, *(branch.run.replace(parent=Parent(run=trunk.folder, step=branch.start))
                         for branch in self.branches))

    @property
    def compute(self) -> Compute:
        """What the runs spend, beside separate runs for every branch, end of a cycle and hold."""
        found = compute(self.runs)
        if not self.branches:  # then the trunk's kept steps count as results already
            return found
        held = sum((spend(self.run, hold) for hold in self.holds), Spent())
        return dataclasses.replace(found, separate=found.separate + held)

    @property
    def _stem(self) -> str:
        return self.run.name.removesuffix("-trunk")

    def _updates(self, tokens: int) -> int:
        each = self.run.tokens_per_update
        require(tokens > 0 and tokens % each == 0, "tokens", tokens,
                f"must be a whole number of updates, a positive multiple of {each}")
        return int(tokens // each)

    def _decay(self, fraction: float, updates: int) -> int:
        require(0 < fraction <= 1, "fraction", fraction, "must lie in (0, 1]")
        decay = int(fraction * updates + 1e-9)  # 0.29 * 100 is a little below 29
        require(decay >= 1, "fraction", fraction, f"leaves no update to decay, of {updates}")
        return decay

    def _check_start(self, start: int, field: str, value: Any, what: str) -> None:
        warmup, first = self.run.schedule.warmup, self.run.parent.step if self.run.parent else 0
        require(start >= warmup, field, value, f"{what} overlaps the warm-up of {warmup}")
        require(start > first, field, value, f"{what} leaves no update of the trunk, whose first is {first}")

    def _with(self, start: int, *, name: str, updates: int, schedule: Any, keep: tuple[int, ...],
              fields: dict[str, Any]) -> "Trunk":
        checkpoint = dataclasses.replace(fields.pop("checkpoint", self.run.checkpoint), keep=keep)
        run = self.run.replace(name=name, updates=updates, schedule=schedule, checkpoint=checkpoint, parent=None,
                               initial=None, **fields)
        return dataclasses.replace(self, branches=(*self.branches, Branch(start, run)))
