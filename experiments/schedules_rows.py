"""What the records say of each schedule at its best rate: the losses at the budgets, by seed."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import seeds

from jaxlm.sweep import Compute, RateGrid
from scaling import record


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """What is known of one schedule.

    Attributes:
      name: the schedule.
      rate: its best peak rate.
      grid: mean loss over the budgets by rate, one seed, ascending.
      runs: by seed, its records at the best rate, the trunk first where it has one.
      losses: by seed, [budgets] the held-out loss at each.
      account: what it spends alone.
    """

    name: str
    rate: float
    grid: dict[float, float]
    runs: dict[int, tuple[record.Run, ...]]
    losses: dict[int, np.ndarray]
    account: Compute

    @property
    def table(self) -> np.ndarray:
        """[seeds, budgets] the losses."""
        return np.stack(list(self.losses.values()))


def loss_at(runs: Sequence[record.Run], update: int) -> float:
    """Returns the held-out loss after `update` updates, NaN where there is none.

    Of runs that end there it is the last one's, else the last one's that was evaluated there.
    """
    ending = [run for run in runs if len(run.schedule) == update]
    for run in reversed(ending or runs):
        found = run.metrics["heldout_loss"][run.metrics["step"] == update - 1]
        if found.size and np.isfinite(found[0]):
            return float(found[0])
    return float("nan")


def mean_loss(runs: tuple[record.Run, ...], budgets: Sequence[int]) -> float:
    """Returns the mean of the losses at the budgets, infinite where a run did not finish."""
    if any(run.state != "finished" for run in runs):
        return float("inf")
    return float(np.mean([loss_at(runs, budget) for budget in budgets]))


def read(root: Path, grid: RateGrid, budgets: tuple[int, ...], accounts: Mapping[str, Compute]) -> list[Row]:
    """Returns a row per schedule that has finished runs at its best rate with more than one seed."""
    rows = []
    for name in grid.arms:
        best = grid.best(root, name)
        runs = grid.finished(root, name, best)
        if len(runs) >= 2:
            losses = {seed: np.array([loss_at(found, budget) for budget in budgets]) for seed, found in runs.items()}
            rows.append(Row(name=name, rate=best, grid=grid.scores(root, name), runs=runs, losses=losses,
                            account=accounts[name]))
    return rows


def difference(row: Row, baseline: Row, k: int) -> tuple[float, float]:
    """Returns mean and half-width of the interval of a schedule's loss minus the baseline's at budget `k`."""
    return seeds.interval(seeds.paired(row.name, {seed: loss[k] for seed, loss in row.losses.items()},
                                       {seed: loss[k] for seed, loss in baseline.losses.items()}))
