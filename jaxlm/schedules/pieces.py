"""Schedules made of schedules: one after another, and a cooldown off any of them."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxlm.config import require
from jaxlm.schedules.cooldown import CooldownShape, check_cooldown, cooldown
from jaxlm.schedules.steps import MAX_UPDATES, End, Schedule, as_step, check_run


def join(schedules: Sequence[Schedule], boundaries: Sequence[int]) -> Schedule:
    """Returns the schedule that follows `schedules[i]` from update `boundaries[i-1]` to `boundaries[i]`, exclusive.

    Each piece sees its own clock, which is 0 at its first update; the last piece goes on for ever. One piece is
    returned as it is. As `optax.join_schedules`, but the clocks are integers, so that every boundary is exact.

    Args:
      schedules: the pieces, at least one: functions of an integer update, ours or any other.
      boundaries: first update of each piece but the first; whole numbers that ascend from at least 1.

    Raises:
      ConfigError: naming field, value and rule.

    >>> from jaxlm.schedules import constant, linear
    >>> schedule = join([constant(), linear(4, peak_lr=0.5)], [2])
    >>> [float(schedule(t)) for t in range(7)]
    [1.0, 1.0, 0.5, 0.375, 0.25, 0.125, 0.0]
    """
    require(len(schedules) == len(boundaries) + 1, "boundaries", list(boundaries),
            f"must be one fewer than the schedules, {len(schedules)}")
    check_ascending("boundaries", boundaries)
    if not boundaries:
        return schedules[0]

    def schedule(t: Any) -> jax.Array:
        step = as_step(t)
        rate = schedules[0](step)
        for first, piece in zip(boundaries, schedules[1:], strict=True):
            # The clock stands at 0 before its piece begins: what is not selected must not be NaN either.
            rate = jnp.where(step >= first, piece(jnp.maximum(step - first, 0)), rate)
        return rate

    return schedule


def with_cooldown(running: Schedule, updates: int, *, decay: int, shape: CooldownShape = "sqrt",
                  final: float = 0.0, end: End = "exclusive") -> Schedule:
    """Returns `running` with a cooldown over the last `decay` of `updates` updates: a branch off any trunk.

    rate(t) = running(min(t, start)) * c(t), start = updates - decay, c the `cooldown` down to `final`: the rate
    falls from where `running` stands at `start`. Before `start` the rates are those of `running`, bit for bit;
    with decay = 0 it is `running` itself.

    Args:
      running: the schedule to branch off.
      updates: number of updates of the branch, 1 to 2**31-1.
      decay: number of updates of the cooldown, 0 to `updates`.
      shape: shape of the cooldown, as in `wsd`.
      final: final rate as a fraction of the rate at the start of the cooldown, in [0, 1].
      end: whether the final value is reached one past the last update ("exclusive") or at it ("inclusive").

    Raises:
      ConfigError: naming field, value and rule.

    >>> from jaxlm.schedules import inverse_sqrt
    >>> schedule = with_cooldown(inverse_sqrt(), 12, decay=4, shape="linear")
    >>> [round(float(schedule(t)), 4) for t in (0, 3, 8, 10, 12)]
    [1.0, 0.5, 0.3333, 0.1667, 0.0]
    """
    check_cooldown(shape=shape, final=final, end=end)
    check_run(updates, warmup=0, decay=decay)
    if decay == 0:
        return running
    start = updates - decay

    def schedule(t: Any) -> jax.Array:
        step = as_step(t)
        fall = cooldown(step, start=start, length=decay, shape=shape, final=final, end=end)
        return running(jnp.minimum(step, start)) * fall

    return schedule


def check_ascending(field: str, boundaries: Sequence[int]) -> None:
    """Raises `ConfigError` naming `field` unless `boundaries` are whole numbers that ascend from at least 1."""
    last = 0
    for i, boundary in enumerate(boundaries):
        require(isinstance(boundary, int) and last < boundary <= MAX_UPDATES, f"{field}[{i}]", boundary,
                f"must be a whole number of updates above {last}" + (", the one before it" if i else ""))
        last = boundary
