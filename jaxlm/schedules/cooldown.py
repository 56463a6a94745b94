"""Cooldown shapes: how the rate falls from its peak to its final value."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp

from jaxlm.config import require
from jaxlm.schedules.shapes import InverseSqrtShape, PowerShape
from jaxlm.schedules.steps import End, as_step, share

Shape = Literal["linear", "sqrt", "cosine", "square", "mirror_cosine", "exponential", "inverse"]
CooldownShape: TypeAlias = Shape | PowerShape | InverseSqrtShape

# Shapes that reach their final value by ratios, and so can never reach zero.
NEEDS_FINAL = ("exponential", "inverse")


def cooldown(t: Any, *, start: int, length: int, shape: CooldownShape, final: float,
             end: End = "exclusive") -> jax.Array:
    """Returns the fraction of the peak at update `t`: 1 up to `start`, then down to `final`, which holds.

    With u = (t-start)/length the share of the decay that is done and f = final:

        linear            f + (1-f) (1-u)
        sqrt              f + (1-f) (1 - sqrt u)              "1-sqrt"
        cosine            f + (1-f) (1 + cos(pi u)) / 2
        square            f + (1-f) (1 - u^2)
        mirror_cosine     twice linear minus cosine
        exponential       f^u
        inverse           1 / (1 + (1/f - 1) u)               1/rate is linear in u
        PowerShape        f + (1-f) (1 - u^inner)^outer
        InverseSqrtShape  f + (1-f) (1 - g(u)/g(1)),          g(u) = 1 - 1/sqrt(1 + timescale u)

    Args:
      t: index of the update, integers of any shape.
      start: first update of the decay, where u = 0.
      length: number of updates of the decay, >= 1.
      shape: one of the names above, or a shape with its parameters.
      final: f, fraction of the peak at the end, in [0, 1]; > 0 for "exponential" and "inverse".
      end: "exclusive": the final value is reached at `start + length`, one past the last update of
        the decay; "inclusive": at the last update, u = (t-start)/(length-1).

    Source: Haegele et al. 2024, "Scaling Laws and Compute-Optimal Training Beyond Fixed Training
    Durations", arXiv 2405.18392 (1-sqrt and the comparison of shapes); the inverse shape is WSD-S's, Wen et
    al. 2024, "Understanding Warmup-Stable-Decay Learning Rates", arXiv 2410.05192. Deviation: public
    ports of the latter evaluate it at u = max(t-start, 1)/length; here the decay starts at the peak.
    """
    span = length - (end == "inclusive")
    elapsed = as_step(t) - start
    done = jnp.clip(elapsed, 0, span)
    # u and 1-u each come from integers, so that rates near zero keep their relative precision.
    parts = share(done, span), share(span - done, span)
    fraction = _SHAPES[shape](*parts, final) if isinstance(shape, str) else _between(final, shape.fall(*parts))
    # Both ends are decided on integers and are exact at any t, whatever the arithmetic between.
    return jnp.where(elapsed < min(span, 1), 1.0, jnp.where(elapsed >= span, final, fraction))


def check_cooldown(*, shape: str | PowerShape | InverseSqrtShape, final: float, end: str = "exclusive") -> None:
    """Raises `ConfigError` for an unknown shape or end, or a final fraction that the shape cannot reach."""
    known = isinstance(shape, (PowerShape, InverseSqrtShape)) or shape in _SHAPES
    require(known, "shape", shape, f"must be one of {', '.join(_SHAPES)}")
    require(end in get_args(End), "end", end, f"must be one of {', '.join(get_args(End))}")
    require(0.0 <= final <= 1.0, "final", final, "is a fraction of the peak and must lie in [0, 1]")
    require(final > 0.0 or shape not in NEEDS_FINAL, "final", final, f"must be > 0 for the shape {shape!r}")


def _cosine(left: jax.Array) -> jax.Array:
    # (1 + cos(pi u))/2 as a square: no cancellation near the end.
    return jnp.sin(0.5 * jnp.pi * left) ** 2


def _between(final: float, fall: jax.Array) -> jax.Array:
    return final + (1.0 - final) * fall


# Each takes the share u that is done, the share 1-u that is left, and the final fraction f.
_SHAPES: dict[str, Callable[[jax.Array, jax.Array, float], jax.Array]] = {
    "linear": lambda done, left, final: _between(final, left),
    "sqrt": lambda done, left, final: _between(final, left / (1.0 + jnp.sqrt(done))),
    "cosine": lambda done, left, final: _between(final, _cosine(left)),
    "square": lambda done, left, final: _between(final, left * (1.0 + done)),
    "mirror_cosine": lambda done, left, final: _between(final, 2.0 * left - _cosine(left)),
    "exponential": lambda done, left, final: jnp.power(final, done),
    "inverse": lambda done, left, final: 1.0 / (1.0 + (1.0 / final - 1.0) * done),
}
