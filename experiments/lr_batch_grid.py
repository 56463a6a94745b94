"""Grids over learning rate and batch: cells whose best point has all its neighbours on record, by the records alone.

A cell is one model on one budget of tokens. Its grid starts as a block of 3 x 3 points in factors of two and grows,
with the first seed, until the eight neighbours of its best point are on record too; then the further seeds join at the
best point, at its four nearest neighbours and at the cell's named points. Where that moves the best, the same again
around the new one.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from jaxlm import config
from jaxlm.train import RunConfig
from scaling import record

FACTOR, REACH = 2.0, 6  # between neighbours; neighbours of the first point on either side that a grid may reach
INSIDE = "inside"


@dataclasses.dataclass(frozen=True, order=True)
class Point:
    """A peak rate and a batch in sequences."""

    rate: float
    batch: int

# By point and seed the final held-out loss, infinite where the run did not finish.
Losses = dict[Point, dict[int, float]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One model on one budget, and its grid.

    Attributes:
      name: begins the names of its runs, "NAME-lr...".
      width: of the model.
      N, D: non-embedding parameters and the budget in tokens.
      flops: of training on one token, attention and feed-forward.
      first: the middle of the first block.
      top: the largest batch allowed, in sequences; the smallest is 1.
      make: the run at a point and a seed.
      named: points off the grid that are trained as well, by name.
      seeds: the first one picks the best point, the others join there.
    """

    name: str
    width: int
    N: int
    D: int
    flops: int
    first: Point
    top: int
    make: Callable[[Point, int], RunConfig]
    named: Mapping[str, Point] = dataclasses.field(default_factory=dict)
    seeds: tuple[int, ...] = (0, 1, 2)

    def __post_init__(self) -> None:
        config.require(0 < self.first.rate < float("inf"), "first.rate", self.first.rate, "must be finite and positive")
        config.require(1 <= self.first.batch <= self.top, "first.batch", self.first.batch,
                       f"must lie in 1..top = {self.top}")
        config.require(len(set(self.seeds)) == len(self.seeds) > 1, "seeds", self.seeds,
                       "must be different, at least two")

    @functools.cached_property
    def rates(self) -> tuple[float, ...]:
        """The rates of the grid as far as it may reach, ascending, three digits each."""
        return tuple(float(f"{self.first.rate * FACTOR**k:.3g}") for k in range(-REACH, REACH + 1))

    @functools.cached_property
    def batches(self) -> tuple[int, ...]:
        """The batches of the grid as far as it may reach, ascending, whole sequences."""
        steps = {round(self.first.batch * FACTOR**k) for k in range(-REACH, REACH + 1)}
        return tuple(sorted(batch for batch in steps if 1 <= batch <= self.top))

    def around(self, point: Point, *, corners: bool = True) -> tuple[Point, ...]:
        """Returns the point and its neighbours on the grid, with or without those that differ in both."""
        i, j = self.rates.index(point.rate), self.batches.index(point.batch)
        return tuple(Point(self.rates[i + a], self.batches[j + b]) for a, b in itertools.product((-1, 0, 1), repeat=2)
                     if 0 <= i + a < len(self.rates) and 0 <= j + b < len(self.batches) and (corners or a * b == 0))

    def wanted(self, found: Losses) -> tuple[RunConfig, ...]:
        """Returns the runs that the losses on record ask for next, none where the cell is settled."""
        first = {point: by_seed[self.seeds[0]] for point, by_seed in found.items() if self.seeds[0] in by_seed}
        on_grid = {point: loss for point, loss in first.items() if self.on_grid(point)}
        begun = (*self.around(_lowest(on_grid) if on_grid else self._middle), *self.named.values())
        if not set(begun) <= set(first):
            return self._missing(found, begun, self.seeds[:1])
        best = self.best(found)
        again = (*self.around(best, corners=False), *self.named.values())
        return (*self._missing(found, self.around(best), self.seeds[:1]), *self._missing(found, again, self.seeds[1:]))

    def best(self, found: Losses) -> Point:
        """Returns the grid's best point: by the mean over seeds where points have them all, else by the first seed."""
        on_grid = {point: loss for point, loss in adjusted(found, self.seeds).items() if self.on_grid(point)}
        full = {point: loss for point, loss in on_grid.items() if len(found[point]) == len(self.seeds)}
        return _lowest(full or on_grid)

    def position(self, found: Losses) -> str:
        """Says where the best point lies: inside its grid, at a bound of the batch, or at an edge."""
        best = self.best(found)
        block = self.around(best)
        if not set(block) <= set(found):
            return "at an edge of its grid"
        if len(block) == 9:
            return INSIDE
        if best.batch == 1:
            return "at the floor, batch 1"
        return "at the largest batch allowed" if best.batch == self.batches[-1] else "at the reach of its grid"

    def on_grid(self, point: Point) -> bool:
        """Whether the point is one of the grid's."""
        return point.rate in self.rates and point.batch in self.batches

    def read(self, root: Path) -> Losses:
        """Returns the losses on record in `root` of those runs that the cell would make today."""
        found: Losses = {}
        for folder in sorted(root.glob(f"{self.name}-lr*")):
            if not (folder / "run.json").exists():
                continue
            run = record.read(folder)
            point = Point(run.identity["config"]["schedule"]["peak_lr"], run.identity["config"]["batch"])
            if run.seed in self.seeds and self.make(point, run.seed).folder == folder.name:
                found.setdefault(point, {})[run.seed] = run.heldout_loss if run.state == "finished" else float("inf")
        return found

    @property
    def _middle(self) -> Point:
        return Point(float(f"{self.first.rate:.3g}"), self.first.batch)

    def _missing(self, found: Losses, points: tuple[Point, ...], seeds: tuple[int, ...]) -> tuple[RunConfig, ...]:
        new = [(point, seed) for point in points for seed in seeds if seed not in found.get(point, {})]
        return tuple(self.make(point, seed) for point, seed in dict.fromkeys(new))


def _lowest(losses: Mapping[Point, float]) -> Point:
    return min(losses, key=lambda point: (losses[point], point))


def adjusted(found: Losses, seeds: tuple[int, ...]) -> dict[Point, float]:
    """Returns a loss for each point, comparable between points of one seed and of several.

    What a seed does to all points of a cell, as seen at those that have all seeds, is taken off the logarithms before
    the mean over seeds. Infinite where a run did not finish.
    """
    effect = effects(found, seeds)
    return {point: float(np.exp(np.mean([np.log(loss) - effect[seed] for seed, loss in by_seed.items()])))
            for point, by_seed in found.items()}


def effects(found: Losses, seeds: tuple[int, ...]) -> dict[int, float]:
    """Returns by seed the mean deviation of log loss from that of all seeds; 0 where no point has them all."""
    table = complete(found, seeds)
    return dict(zip(seeds, (table - table.mean(axis=1, keepdims=True)).mean(axis=0))) if len(table) else dict.fromkeys(
        seeds, 0.0)


def complete(found: Losses, seeds: tuple[int, ...]) -> np.ndarray:
    """Returns [points, seeds] log losses of the points where every seed finished."""
    rows = [[by_seed.get(seed, float("inf")) for seed in seeds] for by_seed in found.values()]
    table = np.log(np.array(rows).reshape(-1, len(seeds)))
    return table[np.isfinite(table).all(axis=1)]


def noise(cells: list[tuple[Losses, tuple[int, ...]]]) -> float:
    """Returns the standard deviation of log loss between runs that differ in the seed alone, NaN where it is unknown.

    Pooled over cells, each cell's points and seeds taken out.
    """
    squares, freedom = 0.0, 0
    for found, seeds in cells:
        table = complete(found, seeds)
        if len(table) > 1:
            rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
            squares, freedom = squares + float(np.sum(rest**2)), freedom + (len(table) - 1) * (len(seeds) - 1)
    return float(np.sqrt(squares / freedom)) if freedom else float("nan")
