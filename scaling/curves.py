"""Loss curves: a learning rate for every update, and losses at some of the updates."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scaling.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
    """One training run's losses under one schedule.

    Attributes:
      name: name in tables and pictures.
      schedule: [updates] float64 learning rate of every update, warm-up included.
      steps: [points] int64 index of the update that each loss belongs to, from 0.
      losses: [points] losses, positive.
      warmup_steps: updates of the warm-up; None takes the updates before the first peak.
      N: parameter count, for laws of curves and sizes.
      facts: under what the run trained, JSON-ready, as far as known: tokens_per_update, params
        (counts of parameters), optimizer (its configuration).
    """

    name: str
    schedule: np.ndarray
    steps: np.ndarray
    losses: np.ndarray
    warmup_steps: int | None = None
    N: float | None = None
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def as_curve(item: Curve | Sequence, index: int = 0) -> Curve:
    """Returns `item`, a `Curve` or a triple (schedule, steps, losses), as a checked `Curve`.

    Points at or after the schedule's end, and points without a loss, are dropped. Raises
    `InputError` for arrays of other shapes or values that no law can use.
    """
    if not isinstance(item, Curve):
        if len(item) != 3:
            raise InputError(f"curves[{index}]: must be a Curve or (schedule, steps, losses)")
        schedule, steps, losses = item
        item = Curve(name=f"curve {index}", schedule=schedule, steps=steps, losses=losses)
    schedule = check_schedule(item.schedule, item.name)
    steps, losses = np.asarray(item.steps), np.asarray(item.losses, dtype=np.float64)
    if steps.ndim != 1 or steps.shape != losses.shape:
        raise InputError(f"{item.name}: steps {steps.shape} and losses {losses.shape} must be [points] both")
    if np.any(steps < 0) or np.any(steps != np.floor(steps)):
        raise InputError(f"{item.name}: steps must be integers from 0")
    keep = (steps < schedule.size) & ~np.isnan(losses)
    if np.any(losses[keep] <= 0) or not np.all(np.isfinite(losses[keep])):
        raise InputError(f"{item.name}: losses must be positive and finite")
    return dataclasses.replace(
        item, schedule=schedule, steps=steps[keep].astype(np.int64), losses=losses[keep]
    )


def check_schedule(schedule: np.ndarray, name: str) -> np.ndarray:
    """Returns `schedule` as float64 [updates]; raises `InputError` naming the curve where it is not one."""
    schedule = np.asarray(schedule, dtype=np.float64)
    if schedule.ndim != 1 or schedule.size == 0:
        raise InputError(f"{name}: schedule has shape {schedule.shape}: must be [updates]")
    if not np.all(np.isfinite(schedule)) or np.any(schedule < 0) or schedule.max() == 0:
        raise InputError(f"{name}: schedule must hold finite rates from 0 with a peak above 0")
    return schedule


def warmup_end(schedule: np.ndarray, warmup_steps: int | None) -> int:
    """Returns how many updates come before the peak is reached."""
    if warmup_steps is None:
        return int(np.argmax(schedule))
    if not 0 <= warmup_steps < schedule.size:
        raise InputError(f"warmup_steps = {warmup_steps}: must be from 0 to {schedule.size - 1}")
    return warmup_steps


def interpolated_schedule(steps: np.ndarray, rates: np.ndarray, warmup_steps: int) -> np.ndarray:
    """Returns the rate of every update up to the last row, from rows that are sparse in steps.

    The rate rises linearly from 0 at update 0 to the first row's rate at update `warmup_steps`,
    stays there until the first row and is interpolated linearly between rows, except where it changes
    between two rows and neither before nor after them: that is a jump, put midway, or on the later row
    where that one comes sooner than the rows' usual distance, as where a branch begins its log.
    """
    steps, rates = np.asarray(steps, dtype=np.float64), np.asarray(rates, dtype=np.float64)
    if steps.ndim != 1 or steps.shape != rates.shape or steps.size == 0:
        raise InputError(f"steps {steps.shape} and rates {rates.shape}: must be [rows] both")
    if np.any(np.diff(steps) <= 0) or steps[0] < 0:
        raise InputError("steps: must grow from row to row, from 0 on")
    updates = np.arange(int(steps[-1]) + 1)
    schedule = np.interp(updates, steps, rates)
    moves = np.abs(np.diff(rates)) > 1e-9 * rates.max()
    for row in 1 + np.flatnonzero(moves[1:-1] & ~moves[:-2] & ~moves[2:]):
        sooner = steps[row + 1] - steps[row] < min(steps[row] - steps[row - 1], steps[row + 2] - steps[row + 1])
        jump = steps[row + 1] if sooner else (steps[row] + steps[row + 1]) / 2
        between = (updates > steps[row]) & (updates < steps[row + 1])
        schedule[between] = np.where(updates[between] >= jump, rates[row + 1], rates[row])
    if warmup_steps > steps[-1]:
        raise InputError(f"warmup_steps = {warmup_steps}: must not pass the last row, step {int(steps[-1])}")
    if warmup_steps > 0:
        peak = schedule[warmup_steps]
        schedule[:warmup_steps] = peak * updates[:warmup_steps] / warmup_steps
    return schedule
