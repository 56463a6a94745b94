"""Power schedule: a rate that falls with a power of the tokens seen, whatever the length of the run."""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxlm.config import require
from jaxlm.schedules.cooldown import CooldownShape, check_cooldown
from jaxlm.schedules.pieces import with_cooldown
from jaxlm.schedules.steps import Schedule, as_step, check_peak_lr, check_run
from jaxlm.schedules.warmup import Warmed, Warmup, as_warmup


def power(*, start: float, exponent: float = -0.51, peak_lr: float = 1.0, warmup: int | Warmup = 0) -> Schedule:
    """Returns warm-up, then the lesser of `peak_lr` and a power of the update, for ever.

    rate(t) = peak_lr * w(t) * min(1, (max(t, W)/start)^exponent), w the warm-up fraction: the warm-up rises to what
    the power gives at its end. Public systems differ in `start` and in the tail:

        levanter          start = power_start(peak_lr, tokens_per_update=batch*sequence, scale=4.6*batch); no tail
        open-lm-engine    start = power_start(peak_lr, tokens_per_update=batch*sequence, scale=a); no tail
        OLMo-core         start = W; linear tail over the last 10%: `Power(decay=updates // 10)`

    Args:
      start: update at which the power equals the peak, > 0; not necessarily whole.
      exponent: < 0; -0.51 as published.
      peak_lr: rate that is not exceeded, >= 0.
      warmup: number of updates W >= 0, or a `Warmup` for the other conventions.

    Raises:
      ConfigError: naming field, value and rule.

    Source: Shen et al. 2024, "Power Scheduler", arXiv 2408.13359, meant with muP. Deviation: where start < W,
    levanter warms up to `peak_lr` and then drops to the power; here, as in open-lm-engine, the rate is continuous.

    >>> schedule = power(start=4, exponent=-0.5, warmup=2)
    >>> [float(schedule(t)) for t in (0, 1, 4, 16, 64)]
    [0.5, 1.0, 1.0, 0.5, 0.25]
    """
    check_peak_lr(peak_lr)
    _check(start, exponent)
    rise = as_warmup(warmup)

    def schedule(t: Any) -> jax.Array:
        step = jnp.maximum(as_step(t), rise.steps)
        fall = jnp.power(step.astype(jnp.result_type(float)) / start, exponent)
        # Decided on integers; a start beyond the last possible update leaves the peak for ever.
        return peak_lr * rise.fraction(t) * jnp.where(step > min(math.floor(start), 2**31 - 1), fall, 1.0)

    return schedule


def power_start(peak_lr: float, *, tokens_per_update: int, scale: float, exponent: float = -0.51) -> float:
    """Returns the update at which scale * tokens^exponent falls to `peak_lr`, tokens = update * tokens_per_update.

    Computed in float64 from Python numbers of any size. Raises `ConfigError` unless all are positive, `exponent`
    negative.

    Args:
      peak_lr: the largest rate.
      tokens_per_update: batch * sequence.
      scale: the rate at one token; 4.6 times the batch in sequences for the published fit (a = 4.6, b = -0.51).
      exponent: b, < 0.

    >>> round(power_start(0.02, tokens_per_update=128 * 4096, scale=4.6 * 128), 1)
    1104.2
    """
    for name, value in (("peak_lr", peak_lr), ("tokens_per_update", tokens_per_update), ("scale", scale)):
        require(0.0 < value < float("inf"), name, value, "must be finite and positive")
    _check(1.0, exponent)
    return (peak_lr / scale) ** (1.0 / exponent) / tokens_per_update


@dataclasses.dataclass(frozen=True, kw_only=True)
class Power(Warmed):
    """Warm-up, then `power`, whose last `decay` updates are a cooldown to `final` of the rate they start at.

    >>> config = Power(peak_lr=0.5, start=4.0, exponent=-0.5, decay=10)
    >>> [float(config.build(26)(t)) for t in (16, 21)]
    [0.25, 0.125]
    """

    kind: ClassVar[str] = "power"
    start: float
    exponent: float = -0.51
    decay: int = 0
    shape: CooldownShape = "linear"
    final: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self.start, self.exponent)
        check_cooldown(shape=self.shape, final=self.final)

    def build(self, updates: int) -> Schedule:
        """Returns the schedule; raises `ConfigError` if warm-up and decay do not fit into the run."""
        check_run(updates, warmup=self.warmup, decay=self.decay)
        trunk = power(start=self.start, exponent=self.exponent, peak_lr=self.peak_lr, warmup=self.warmup)
        return with_cooldown(trunk, updates, decay=self.decay, shape=self.shape, final=self.final)


def _check(start: float, exponent: float) -> None:
    require(0.0 < start < float("inf"), "start", start, "must be finite and positive")
    require(float("-inf") < exponent < 0.0, "exponent", exponent, "must be finite and negative")
