"""A cell of the study of learning rate and batch as its records show it, and what following a rule costs there."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import lr_batch_grid as grids
import lr_batch_laws as laws
import numpy as np
import quickstart
import seeds
from lr_batch_grid import Cell, Losses, Point

import scaling
from scaling.laws.hyperparameter_rules import Recommendation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """A cell with its losses on record.

    Attributes:
      cell: the cell.
      found: its losses by point and seed.
      best: the best point of its grid.
      losses: loss by point, comparable between points.
      rules: what own and published laws say of it, own ones first.
    """

    cell: Cell
    found: Losses
    best: Point
    losses: dict[Point, float]
    rules: list[Recommendation]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Regret:
    """Loss over the best of the cell, less one.

    `half` of its interval is NaN for one seed or a value read off the grid; `how` says which.
    """

    mean: float
    half: float
    how: str

    def __str__(self) -> str:
        text = f"{self.mean:+.1%}" if np.isnan(self.half) else f"{self.mean:+.1%} ± {100 * self.half:.1f}"
        return f"{text} ({self.how})" if self.how else text


def see(root: Path, cell: Cell, own: Sequence[scaling.Fit]) -> Seen:
    """Returns a cell as its records show it."""
    found = cell.read(root)
    if not any(np.isfinite(loss) for by_seed in found.values() for loss in by_seed.values()):
        raise scaling.InputError(f"{cell.name}: no run has finished")
    return Seen(cell=cell, found=found, best=cell.best(found), losses=grids.adjusted(found, cell.seeds),
                rules=laws.rules(N=cell.N, D=cell.D, flops=cell.flops, fits=own))


def regret(one: Seen, row: Recommendation) -> Regret | None:
    """Returns what following a rule costs in a cell, None where its point is not on record.

    A rule with a rate and a batch was trained there. Of one that gives a single value the nearest one on the grid
    is read, the other at its best, without an interval.
    """
    points = laws.points([row], top=one.cell.top)
    if points:
        at = points[row.rule]
        return measured(one, at) if at in one.found else None
    grid = {point: loss for point, loss in one.losses.items() if one.cell.on_grid(point)}
    if row.lr is not None:
        values, want = {point: point.rate for point in grid}, row.lr
    else:
        values, want = {point: point.batch for point in grid}, row.batch_tokens / quickstart.SEQUENCE
    near = min(set(values.values()), key=lambda value: abs(np.log(value / want)))
    loss = min(loss for point, loss in grid.items() if values[point] == near)
    at_edge = near in (min(values.values()), max(values.values()))
    how = "grid's edge" if at_edge and abs(np.log(near / want)) > np.log(grids.FACTOR) / 2 else "grid"
    return Regret(mean=loss / one.losses[one.best] - 1, half=float("nan"), how=how)


def measured(one: Seen, at: Point) -> Regret:
    """Returns a trained point's regret, paired by seed with the best point."""
    if at == one.best:
        return Regret(mean=0.0, half=float("nan"), how="the best itself")
    both = [seed for seed in one.found[at] if seed in one.found[one.best]]
    costs = np.array([one.found[at][seed] / one.found[one.best][seed] - 1 for seed in both])
    if not np.isfinite(costs).all():
        return Regret(mean=float("inf"), half=float("nan"), how="diverged")
    if len(costs) < 2:
        return Regret(mean=float(costs.mean()), half=float("nan"), how="one seed")
    return Regret(**dict(zip(("mean", "half"), seeds.interval(costs))), how="")


def title(one: Seen) -> str:
    """Returns a cell's short name."""
    return f"width {one.cell.width}, D {one.cell.D / 1e6:.2g}M"


def with_interval(fit: scaling.Fit, name: str) -> str:
    """Returns a parameter's value with its interval."""
    ends = fit.interval(name, laws.LEVEL)
    return f"{fit.params[name]:.2f}" + (f" [{ends[0]:.2f}, {ends[1]:.2f}]" if ends else " (no interval)")
