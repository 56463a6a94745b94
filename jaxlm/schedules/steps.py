"""Integer step arithmetic: every difference of steps is taken before the cast to floating point.

float32 holds integers exactly only up to 2**24, so a schedule that casts the step first (as optax's
do) moves its boundaries in long runs. Here a step is compared and subtracted as an integer.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxlm.config import require

Schedule = Callable[[Any], jax.Array]
End = Literal["exclusive", "inclusive"]

MAX_UPDATES = 2**31 - 1


def as_step(t: Any) -> jax.Array:
    """Returns `t`, the index of an update or an array of them, as int32 (int64 where it is that already).

    Raises `ConfigError` unless `t` is of an integer type.
    """
    step = jnp.asarray(t)
    require(jnp.issubdtype(step.dtype, jnp.integer), "t", step.dtype.name, "must be of an integer type")
    return step if step.dtype == jnp.int64 else step.astype(jnp.int32)


def share(count: jax.Array, length: int) -> jax.Array:
    """Returns `count / length` in the default float type: float32, or float64 under `jax.enable_x64`."""
    return count.astype(jnp.result_type(float)) / max(length, 1)


def check_updates(updates: int) -> None:
    """Raises `ConfigError` unless `updates`, the length of a run, fits the int32 index of an update."""
    require(isinstance(updates, int) and 1 <= updates <= MAX_UPDATES, "updates", updates,
            f"must be a whole number from 1 to {MAX_UPDATES}")


def check_peak_lr(peak_lr: float) -> None:
    """Raises `ConfigError` unless `peak_lr` is finite and not negative."""
    require(0.0 <= peak_lr < float("inf"), "peak_lr", peak_lr, "must be finite and not negative")


def check_run(updates: int, *, warmup: int, decay: int) -> None:
    """Raises `ConfigError` unless warm-up and decay, in updates, fit into a run of `updates`."""
    check_updates(updates)
    require(isinstance(decay, int) and decay >= 0, "decay", decay,
            "must be a whole number of updates, not negative")
    rule = f"must not be longer than the run, updates = {updates}"
    require(decay <= updates, "decay", decay, rule)
    require(warmup <= updates, "warmup", warmup, rule)
    require(warmup + decay <= updates, "warmup + decay", warmup + decay,
            f"{rule} (warmup = {warmup}, decay = {decay})")
