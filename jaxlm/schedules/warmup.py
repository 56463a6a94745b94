"""Warm-up: the rise of the rate from (nearly) nothing to its peak."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxlm.config import require
from jaxlm.schedules.steps import MAX_UPDATES, as_step, share


@dataclasses.dataclass(frozen=True, kw_only=True)
class Warmup:
    """Warm-up over `steps` updates; wherever a schedule takes `warmup`, an integer W is `Warmup(steps=W)`.

    With progress p = (t+1)/steps, the fraction of the peak at update t is p, and reaches 1 at update
    steps-1: the first update already moves. Given `initial`, p = t/steps and the fraction is
    initial + (1-initial) p, which is `initial` at update 0 and reaches 1 at update `steps`; this is
    the convention of optax, nanodo, levanter and MaxText (initial 0, or 0.1 in nanodo). Torch's
    OneCycleLR and the multi-power law's np.linspace reach the peak at W-1: `Warmup(steps=W-1, initial=...)`.

    Attributes:
      steps: number of updates, >= 0; 0 means no warm-up.
      initial: fraction of the peak at update 0, in [0, 1]; None for the convention (t+1)/steps.
      shape: "linear", or "cosine" for the half cosine sin(pi p/2)^2 that OneCycleLR uses.

    >>> [float(Warmup(steps=4).fraction(t)) for t in (0, 1, 2, 3, 4)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    >>> [float(Warmup(steps=4, initial=0.0).fraction(t)) for t in (0, 1, 2, 3, 4)]
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """

    steps: int
    initial: float | None = None
    shape: Literal["linear", "cosine"] = "linear"

    def __post_init__(self) -> None:
        require(isinstance(self.steps, int) and 0 <= self.steps <= MAX_UPDATES, "warmup", self.steps,
                "must be a whole number of updates, not negative")
        require(self.initial is None or 0.0 <= self.initial <= 1.0, "warmup.initial", self.initial,
                "must lie in [0, 1], or be None for the convention (t+1)/steps")
        require(self.shape in ("linear", "cosine"), "warmup.shape", self.shape,
                "must be 'linear' or 'cosine'")

    def fraction(self, t: Any) -> jax.Array:
        """Returns the fraction of the peak at update `t` (integers of any shape), exactly 1 afterwards."""
        # (t+1)/steps is the other convention with its clock moved on by one update.
        done = as_step(t) + (self.initial is None)
        progress = share(jnp.clip(done, 0, self.steps), self.steps)
        risen = jnp.sin(0.5 * jnp.pi * progress) ** 2 if self.shape == "cosine" else progress
        initial = self.initial or 0.0
        # The end is decided on integers: XLA may divide by multiplying with the reciprocal, which
        # need not give 1. `t` rather than `done` is compared, for t+1 can overflow.
        ended = as_step(t) >= self.steps - (self.initial is None)
        return jnp.where(ended, 1.0, initial + (1.0 - initial) * risen)


def as_warmup(warmup: int | Warmup) -> Warmup:
    """Returns `warmup` itself, or `Warmup(steps=warmup)` for a number of updates."""
    return warmup if isinstance(warmup, Warmup) else Warmup(steps=warmup)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Warmed:
    """What most configurations of schedules share: a peak rate and the updates of warm-up to it, (t+1)/warmup."""

    peak_lr: float
    warmup: int = 0

    def __post_init__(self) -> None:
        require(0.0 < self.peak_lr < float("inf"), "peak_lr", self.peak_lr, "must be finite and positive")
        Warmup(steps=self.warmup)
