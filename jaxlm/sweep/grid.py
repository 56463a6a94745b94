"""Rate grids: every arm of a comparison at a learning rate of its own, the best strictly inside its grid.

A comparison at one rate for all arms favours the arm for which that rate was chosen. So each arm trains
at a few rates with the first seed; a grid whose best rate lies at an edge grows there; then the other
seeds train at the best rate. The stages of a study do this by the records alone.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

from jaxlm import config
from jaxlm.sweep.study import Stage
from jaxlm.train.config import RunConfig
from scaling import record
from scaling.errors import InputError

# An arm at a rate and a seed: its runs, parents first, of which the last is the one that is scored by default.
Arm = Callable[[float, int], tuple[RunConfig, ...]]
Score = Callable[[tuple[record.Run, ...]], float]


def last_loss(runs: tuple[record.Run, ...]) -> float:
    """Returns the final held-out loss of the last run, infinite where any of them did not finish."""
    return runs[-1].heldout_loss if all(run.state == "finished" for run in runs) else float("inf")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RateGrid:
    """What is compared and over which rates.

    Attributes:
      arms: by name, the runs of an arm at a peak rate and a seed. The same arguments give the same runs.
      middle: by name, the middle of the first three rates; one number is every arm's, and then all grids
        share their points.
      factor: between neighbouring rates.
      seeds: the first one picks the rate, the others join at the best.
      extensions: stages that may push a grid by one rate where its best lies at an edge.
      score: what is lowest at the best rate, of the recorded runs of an arm.
    """

    arms: Mapping[str, Arm]
    middle: Mapping[str, float] | float
    factor: float = 2.0
    seeds: tuple[int, ...] = (0, 1, 2)
    extensions: int = 4
    score: Score = last_loss

    def __post_init__(self) -> None:
        config.require(len(self.arms) > 0, "arms", list(self.arms), "must name at least one")
        config.require(self.factor > 1, "factor", self.factor, "must be above 1")
        config.require(len(self.seeds) > 0 and len(set(self.seeds)) == len(self.seeds), "seeds", self.seeds,
                       "must be different, at least one")
        config.require(self.extensions >= 0, "extensions", self.extensions, "must not be negative")
        if isinstance(self.middle, Mapping):
            config.require(set(self.middle) == set(self.arms), "middle", sorted(self.middle),
                           f"must name the arms, {sorted(self.arms)}")

    def stages(self, then: Callable[[Path], None] | None = None) -> tuple[Stage, ...]:
        """Returns the stages of a study: three rates, extensions, further seeds, after which `then` is called."""
        first = {run.folder: run for name, arm in self.arms.items() for k in (-1, 0, 1)
                 for run in arm(self._rate(name, k), self.seeds[0])}  # arms may share a trunk
        pushed = [Stage(title=f"grids, pushed {i + 1}", plan=self.pushed, bound=self._bound((i + 2,), self.seeds[:1]))
                  for i in range(self.extensions)]
        return (Stage(title="three rates each", runs=tuple(first.values())), *pushed,
                Stage(title=f"{len(self.seeds)} seeds at the best rate", plan=self.replicates, then=then,
                      bound=self._bound((0,), self.seeds[1:])))

    def scores(self, root: Path, name: str) -> dict[float, float]:
        """Returns the arm's score by rate, ascending, of the first seed's runs that are on record in `root`."""
        found = {}
        for k in range(-1 - self.extensions, 2 + self.extensions):
            rate = self._rate(name, k)
            runs = self.recorded(root, name, rate, self.seeds[0])
            if runs:
                found[rate] = self.score(runs)
        return found

    def best(self, root: Path, name: str) -> float:
        """Returns the arm's best rate; raises `InputError` where that is at an edge of its grid."""
        scores = self.scores(root, name)
        if not scores:
            raise InputError(f"{name}: no run of its grid is on record in {root}")
        rate = min(scores, key=scores.get)
        if rate in (min(scores), max(scores)):
            rates = ", ".join(f"{rate:g}" for rate in scores)
            raise InputError(f"{name}: the best rate {rate:g} is at the edge of its grid, {rates}")
        return rate

    def recorded(self, root: Path, name: str, rate: float, seed: int) -> tuple[record.Run, ...]:
        """Returns the records of the arm's runs at a rate and a seed, () while any is to come.

        Nothing branches from a trunk that diverged: then the records are those that there are.
        """
        folders = [root / run.folder for run in self.arms[name](rate, seed)]
        found = tuple(record.read(folder) for folder in folders if (folder / "run.json").exists())
        return found if len(found) == len(folders) or any(run.state == "diverged" for run in found) else ()

    def finished(self, root: Path, name: str, rate: float) -> dict[int, tuple[record.Run, ...]]:
        """Returns by seed the records of the arm's runs at a rate, of those seeds whose runs all finished."""
        found = {seed: self.recorded(root, name, rate, seed) for seed in self.seeds}
        return {seed: runs for seed, runs in found.items() if runs and all(run.state == "finished" for run in runs)}

    def pushed(self, root: Path) -> tuple[RunConfig, ...]:
        """Returns the runs one rate beyond the edge of each grid whose best rate lies there."""
        new: list[RunConfig] = []
        for name, arm in self.arms.items():
            scores = self.scores(root, name)
            rates, best = list(scores), min(scores, key=scores.get)
            if best == rates[0]:
                new += arm(rates[0] / self.factor, self.seeds[0])
            elif best == rates[-1]:
                new += arm(rates[-1] * self.factor, self.seeds[0])
        return tuple(new)

    def replicates(self, root: Path) -> tuple[RunConfig, ...]:
        """Returns the runs of the other seeds at every arm's best rate."""
        best = {name: self.best(root, name) for name in self.arms}
        return tuple(run for name, arm in self.arms.items() for seed in self.seeds[1:] for run in arm(best[name], seed))

    def _bound(self, points: tuple[int, ...], seeds: tuple[int, ...]) -> tuple[RunConfig, ...]:
        """Every arm at these points of its grid: what runs cost depends on no rate."""
        return tuple(run for name, arm in self.arms.items() for k in points for seed in seeds
                     for run in arm(self._rate(name, k), seed))

    def _rate(self, name: str, k: int) -> float:
        middle = self.middle[name] if isinstance(self.middle, Mapping) else self.middle
        return middle * self.factor**k
