"""Infinite schedules: a constant rate that further data may join at any time, and the anneal off it."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxlm.config import require
from jaxlm.schedules.cooldown import CooldownShape, check_cooldown
from jaxlm.schedules.pieces import join, with_cooldown
from jaxlm.schedules.steps import Schedule, as_step, check_run
from jaxlm.schedules.warmup import Warmed, Warmup, as_warmup
from jaxlm.schedules.wsd import wsd


def infinite(updates: int, *, cooldown: int, constant: float, anneal: int = 0, peak_lr: float = 1.0,
             warmup: int | Warmup = 0, shape: CooldownShape = "cosine", final: float = 0.1) -> Schedule:
    """Returns warm-up, cooldown to a constant rate, that rate, and an exponential anneal over the last updates.

    rate(t), after the warm-up of W updates, is the `cooldown` of that shape down to constant*peak_lr, which holds
    until the last `anneal` updates: constant*peak_lr * (final/constant)^u there, u the share of them done. With
    anneal = 0 it is the trunk, which holds its constant rate for ever and equals every branch before its anneal
    bit for bit.

    Args:
      updates: T, number of updates of the run, 1 to 2**31-1.
      cooldown: updates from the peak to the constant rate, >= 1.
      constant: the constant rate as a fraction of `peak_lr`, in (0, 1]; 0.55 in the paper.
      anneal: updates of the anneal; W + cooldown + anneal <= T.
      peak_lr, warmup: as in `wsd`.
      shape: of the cooldown: "cosine", or the paper's other one, `InverseSqrtShape`.
      final: final rate as a fraction of `peak_lr`, in (0, constant].

    Raises:
      ConfigError: naming field, value and rule.

    Source: Ibrahim et al. 2024, "Simple and Scalable Strategies to Continually Pre-train Large Language Models",
    arXiv 2403.08763, section 7.

    >>> schedule = infinite(12, cooldown=4, constant=0.5, anneal=4, shape="linear", final=0.125)
    >>> [round(float(schedule(t)), 4) for t in (0, 2, 4, 8, 10, 12)]
    [1.0, 0.75, 0.5, 0.5, 0.25, 0.125]
    """
    _check(cooldown, constant, final)
    check_run(updates, warmup=0, decay=anneal)
    rise = as_warmup(warmup)
    needed = rise.steps + cooldown + anneal
    require(needed <= updates, "warmup + cooldown + anneal", needed, f"must not be longer than the run, updates = "
            f"{updates} (warmup = {rise.steps}, cooldown = {cooldown}, anneal = {anneal})")
    trunk = wsd(rise.steps + cooldown, decay=cooldown, peak_lr=peak_lr, warmup=rise, shape=shape, final=constant)
    return with_cooldown(trunk, updates, decay=anneal, shape="exponential", final=final / constant)


def rewarm_redecay(running: Schedule, *, start: int, updates: int, peak_lr: float, warmup: int = 0,
                   decay: int | None = None, shape: CooldownShape = "cosine", final: float = 0.1) -> Schedule:
    """Returns `running` up to update `start`, from there a rise to `peak_lr` and a decay to the end of the run.

    For training that continues on further data. With r the rate where `running` stands at `start`, and t' = t - start,

        rate(t) = r + (peak_lr - r) t'/warmup        for the first `warmup` updates, then `peak_lr`, then
        rate(t) = peak_lr * c(t)                     over the last `decay` updates, c the `cooldown` to `final`

    Before `start` the rates are those of `running`, bit for bit.

    Args:
      running: the schedule so far.
      start: first update on the further data, >= 1.
      updates: T, number of updates of the whole, > start.
      peak_lr: the rate risen to, >= 0.
      warmup: updates of the rise; 0 jumps.
      decay: updates of the decay at the end of the run; None for all after the rise.
      shape: of the decay, as in `wsd`.
      final: final rate as a fraction of `peak_lr`, in [0, 1].

    Raises:
      ConfigError: naming field, value and rule.

    Source: Ibrahim et al. 2024, arXiv 2403.08763, section 4: cosine again, from the old rate to the old peak in 1%
    of the updates.

    >>> from jaxlm.schedules.linear import linear
    >>> schedule = rewarm_redecay(linear(4, final=0.5), start=4, updates=10, peak_lr=1.0, warmup=2, shape="linear")
    >>> [round(float(schedule(t)), 4) for t in (0, 3, 4, 5, 6, 8, 10)]
    [1.0, 0.625, 0.5, 0.75, 1.0, 0.55, 0.1]
    """
    check_run(updates, warmup=0, decay=0)
    require(isinstance(start, int) and 1 <= start < updates, "start", start,
            f"must be an update of the run, from 1 to below updates = {updates}")
    rise, length = Warmup(steps=warmup, initial=0.0), updates - start
    needed = warmup + (1 if decay is None else decay)
    require(needed <= length, "warmup + decay", needed, f"must not be longer than the {length} updates from start = "
            f"{start} on")
    fall = wsd(length, decay=length - warmup if decay is None else decay, peak_lr=peak_lr, shape=shape, final=final)

    def again(t: Any) -> jax.Array:
        before = running(start)
        return jnp.where(as_step(t) < warmup, before + (peak_lr - before) * rise.fraction(t), fall(t))

    return join([running, again], [start])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Infinite(Warmed):
    """Warm-up, cooldown to `constant` of `peak_lr`, that rate, an anneal to `final` over the last `anneal` updates.

    See `infinite`; with `anneal=0` it is the trunk.

    >>> config = Infinite(peak_lr=0.5, cooldown=4, constant=0.5)
    >>> [float(config.build(10)(t)) for t in (0, 9)]
    [0.5, 0.25]
    """

    kind: ClassVar[str] = "infinite"
    cooldown: int
    constant: float
    anneal: int = 0
    shape: CooldownShape = "cosine"
    final: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self.cooldown, self.constant, self.final)
        check_cooldown(shape=self.shape, final=self.constant)
        require(self.anneal >= 0, "anneal", self.anneal, "must not be negative")

    def build(self, updates: int) -> Schedule:
        """Returns the schedule; raises `ConfigError` if its parts do not fit into the run."""
        return infinite(updates, cooldown=self.cooldown, constant=self.constant, anneal=self.anneal,
                        peak_lr=self.peak_lr, warmup=self.warmup, shape=self.shape, final=self.final)


def _check(cooldown: int, constant: float, final: float) -> None:
    require(isinstance(cooldown, int) and cooldown >= 1, "cooldown", cooldown, "must be at least 1 update")
    require(0.0 < constant <= 1.0, "constant", constant, "is a fraction of the peak and must lie in (0, 1]")
    require(0.0 < final <= constant, "final", final, f"is a fraction of the peak and must lie in (0, constant = "
            f"{constant:g}]")
