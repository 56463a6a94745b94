"""What the records say of each arm of the study of continued training."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import seeds

from jaxlm.sweep import RateGrid
from scaling import record
from scaling.errors import InputError

JOINT, REWARM, HOLD, INFINITE = "joint", "re-warm", "hold", "infinite"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shift:
    """The arms that learn one second text.

    Attributes:
      old: name of the first text; its loss is the first of `source_losses`.
      new: name of the second.
      column: of `source_losses`, the second text's.
      replays: shares of replay of the re-warming arms, ascending.
      chosen: the one that the authors chose, which the other arms have.
      rate: peak rate of the first phase.
      tuned: the arms with a rate of their own.
      held: those whose rate is the first phase's last.
    """

    old: str
    new: str
    column: int
    replays: tuple[float, ...]
    chosen: float
    rate: float
    tuned: RateGrid
    held: RateGrid


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """What is known of one arm.

    Attributes:
      name: the arm.
      rate: its best peak rate; for one that holds, its constant rate.
      grid: score by rate, of the first seed; empty for an arm without a grid.
      seeds: of the runs at that rate; one that diverged is missing.
      tokens: [points] seen since the very first update.
      losses: [seeds, points, 2] held-out losses on the old and the new text, nats per byte.
      start: the first of the points that is of the second phase; the one before it is where that begins.
      spent: tokens that the second phase, or the run on both texts, trained on.
      flops: of the same.
    """

    name: str
    rate: float
    grid: Mapping[float, float]
    seeds: tuple[int, ...]
    tokens: np.ndarray
    losses: np.ndarray
    start: int
    spent: int
    flops: float

    def final(self, text: str) -> dict[int, float]:
        """Returns by seed the last loss on the "old" or the "new" text, or the "mean" of both."""
        last = self.losses[:, -1]
        column = {"old": last[:, 0], "new": last[:, 1], "mean": last.mean(axis=1)}[text]
        return dict(zip(self.seeds, column.tolist()))


def label(kind: str, replay: float) -> str:
    """Returns the name of an arm with its share of replay."""
    return f"{kind}, {replay:.0%}"


def mean_loss(runs: tuple[record.Run, ...], *, at: int) -> float:
    """Returns the mean of the last losses on the first text and on text `at`, infinite where a run did not finish."""
    if any(run.state != "finished" for run in runs):
        return float("inf")
    return float(runs[-1].diagnostics["source_losses"][-1, [0, at]].mean())


def read(root: Path, shift: Shift) -> dict[str, Row]:
    """Returns a row for each arm of which more than one seed finished; raises `InputError` without the joint one."""
    rows = {}
    for name in shift.tuned.arms:
        rate = shift.tuned.best(root, name)
        finished = shift.tuned.finished(root, name, rate)
        if len(finished) > 1:
            rows[name] = _row(name, finished, shift, rate=rate, grid=shift.tuned.scores(root, name))
    for name in shift.held.arms:
        finished = shift.held.finished(root, name, shift.rate)
        if len(finished) > 1:
            rows[name] = _row(name, finished, shift, rate=next(iter(finished.values()))[-1].peak_lr, grid={})
    if JOINT not in rows:
        raise InputError("runs: fewer than two finished runs on both texts, which the others are compared with")
    return rows


def difference(a: Row, b: Row, text: str) -> tuple[float, float]:
    """Returns mean and half-width of the difference of two arms' last losses, paired by seed."""
    return seeds.interval(seeds.paired(a.name, a.final(text), b.final(text)))


def told(found: tuple[float, float]) -> str:
    """Returns a difference in words: its interval and whether that excludes zero."""
    return f"{seeds.with_interval(*found, signed=True)} {seeds.verdict(*found)}"


def _row(
    name: str, finished: Mapping[int, tuple[record.Run, ...]], shift: Shift, *, rate: float,
    grid: Mapping[float, float]
) -> Row:
    arms = list(finished.values())
    curves = [[_curve(run, shift.column) for run in runs] for runs in arms]
    before = np.cumsum([0, *(run.tokens for run in arms[0])])
    tokens = [seen + start for (seen, _), start in zip(curves[0], before)]
    last = arms[0][-1]
    return Row(
        name=name, rate=rate, grid=grid, seeds=tuple(finished), tokens=np.concatenate(tokens),
        losses=np.stack([np.concatenate([losses for _, losses in parts]) for parts in curves]),
        start=sum(map(len, tokens[:-1])), spent=last.tokens,
        flops=float(last.tokens) * sum(last.identity["flops_per_token"].values()))


def _curve(run: record.Run, column: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens [points] and losses on the old and the new text [points, 2] of a run's evaluations."""
    rows = run.diagnostics
    return (rows["step"] + 1) * run.batch_tokens, rows["source_losses"][:, [0, column]]
