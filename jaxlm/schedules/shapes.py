"""Cooldown shapes with a parameter."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxlm.config import require


@dataclasses.dataclass(frozen=True, kw_only=True)
class PowerShape:
    """The fall (1 - u^inner)^outer: (1-u)^k by `outer` = k, 1 - u^a by `inner` = a, both 1 for linear.

    The law-optimal schedules of Luo et al. 2025, arXiv 2503.12811, end as (1-u)^1.5; Haegele et al. 2024, arXiv
    2405.18392, find 1 - u^a equally good for a from 0.3 to 0.5 ("sqrt" is 0.5) and clearly worse below 0.2.

    >>> round(float(PowerShape(outer=1.5).fall(jnp.float32(0.75), jnp.float32(0.25))), 6)
    0.125
    """

    kind: ClassVar[str] = "power"
    inner: float = 1.0
    outer: float = 1.0

    def __post_init__(self) -> None:
        for name in ("inner", "outer"):
            require(0.0 < getattr(self, name) < float("inf"), f"shape.{name}", getattr(self, name),
                    "must be finite and positive")

    def fall(self, done: jax.Array, left: jax.Array) -> jax.Array:
        """Returns the fall from 1 to 0 for the share `done` of the decay, `left` being 1 - done."""
        if self.inner == 1.0:
            return jnp.power(left, self.outer)
        # The logarithm of the share done, exact to rounding at both ends.
        log = jnp.where(done < 0.5, jnp.log(done), jnp.log1p(-left))
        return jnp.power(-jnp.expm1(self.inner * log), self.outer)


@dataclasses.dataclass(frozen=True, kw_only=True)
class InverseSqrtShape:
    """The fall 1 - g(u)/g(1), g(u) = 1 - 1/sqrt(1 + timescale u): an inverse square root that ends at 0.

    Source: the cooldown of infinite schedules, Ibrahim et al. 2024, arXiv 2403.08763; timescale 10 in gpt-neox.

    >>> round(float(InverseSqrtShape(timescale=8.0).fall(jnp.float32(0.375), jnp.float32(0.625))), 6)
    0.25
    """

    kind: ClassVar[str] = "inverse_sqrt"
    timescale: float = 10.0

    def __post_init__(self) -> None:
        require(0.0 < self.timescale < float("inf"), "shape.timescale", self.timescale, "must be finite and positive")

    def fall(self, done: jax.Array, left: jax.Array) -> jax.Array:
        """Returns the fall from 1 to 0 for the share `done` of the decay, `left` being 1 - done."""
        # 1 - g(u)/g(1) = (r(u) - r(1)) / (1 - r(1)), r = 1/sqrt(1 + timescale u), with the difference of roots
        # written as a multiple of `left`, so that rates near zero keep their relative precision.
        k, now = self.timescale, jnp.sqrt(1.0 + self.timescale * done)
        last = (1.0 + k) ** 0.5
        return k * left / (now * (last + now)) / (last - 1.0)
