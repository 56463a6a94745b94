"""Schedules from arrays of rates, and arrays of rates from schedules."""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from jaxlm.config import ConfigError, require
from jaxlm.schedules.steps import Schedule, as_step, check_updates

# Schedules are evaluated in blocks of one length, so that each operation compiles once for all of them.
_BLOCK = 2**14


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ArraySchedule:
    """A schedule read out of an array; it remembers where the array came from.

    Attributes:
      rates: float64[updates], read-only, the rate of every update.
      provenance: JSON-ready description of the source, such as the contents of a `schedule.json`.
    """

    rates: np.ndarray
    provenance: Mapping[str, Any]

    def __call__(self, t: Any) -> jax.Array:
        """Returns the rate at update `t` (integers of any shape); the last rate holds afterwards."""
        # The cast happens here and not at construction, so that float64 survives under `jax.enable_x64`.
        rates = jnp.asarray(self.rates, jnp.result_type(float))
        return rates[jnp.clip(as_step(t), 0, len(self.rates) - 1)]

    @property
    def sha256(self) -> str:
        """The SHA-256 of the rates as little-endian float64 bytes, in hexadecimal."""
        return hashlib.sha256(self.rates.astype("<f8").tobytes()).hexdigest()


def from_array(rates: npt.ArrayLike, provenance: Mapping[str, Any] | None = None) -> ArraySchedule:
    """Returns the schedule whose rate at update t is `rates[t]`, the last rate holding afterwards.

    `as_array` of it gives `rates` back bit for bit. Inside jit the rates are a constant of the program.

    Args:
      rates: one rate for each update, [updates], finite and >= 0, in whatever unit the optimizer takes.
      provenance: JSON-ready description of where the rates come from; kept on the result.

    Raises:
      ConfigError: naming what is wrong with `rates`.

    >>> schedule = from_array([0.5, 1.0, 0.25], {"source": "by hand"})
    >>> [float(schedule(t)) for t in range(4)], schedule.provenance["source"]
    ([0.5, 1.0, 0.25, 0.25], 'by hand')
    """
    values = np.array(rates, np.float64)
    require(values.ndim == 1 and values.size > 0, "rates", list(values.shape),
            "must be a one-dimensional array of at least one rate")
    wrong = np.flatnonzero(~np.isfinite(values) | (values < 0.0))
    if wrong.size:
        require(False, f"rates[{wrong[0]}]", float(values[wrong[0]]), "must be finite and not negative")
    values.flags.writeable = False
    return ArraySchedule(rates=values, provenance=dict(provenance or {}))


def as_array(schedule: Schedule, updates: int) -> np.ndarray:
    """Returns float64[updates], the rates of updates 0..updates-1, evaluated in float64.

    The schedule, any traceable function of an integer array, runs op by op under `jax.enable_x64`, on the
    CPU where there is one: two schedules that share operations share bits, whatever the accelerator.

    Raises:
      ConfigError: if `updates` is not a whole number from 1 to 2**31-1.

    >>> from jaxlm.schedules.linear import linear
    >>> as_array(linear(4), 4)
    array([1.  , 0.75, 0.5 , 0.25])
    """
    check_updates(updates)
    rates = np.empty(updates)
    with jax.enable_x64(True), _on_cpu():
        for first in range(0, updates, _BLOCK):
            t = jnp.asarray(np.minimum(first + np.arange(_BLOCK), updates - 1), jnp.int32)
            block = np.broadcast_to(np.asarray(schedule(t), np.float64), (_BLOCK,))
            rates[first:first + _BLOCK] = block[:updates - first]
    return rates


def load_array(path: str | pathlib.Path) -> ArraySchedule:
    """Returns the schedule stored at `path`, a `.npy` file or a folder that holds `schedule.npy`.

    A `.json` file of the same name beside it, where there is one, becomes the provenance.

    Raises:
      ConfigError: if the file is missing, is not a NumPy array, or its rates are not valid.
    """
    file = pathlib.Path(path)
    file = file / "schedule.npy" if file.is_dir() else file
    note = file.with_suffix(".json")
    try:
        rates = np.load(file, allow_pickle=False)
        provenance = json.loads(note.read_text()) if note.exists() else {}
    except (OSError, ValueError, EOFError) as error:
        raise ConfigError(f"path = {str(path)!r}: must be a readable .npy file of rates with, if any, JSON "
                          f"beside it ({error})") from error
    require(isinstance(rates, np.ndarray) and rates.dtype.kind in "fiu", "path", str(path),
            "must hold one array of numbers")
    return from_array(rates, provenance if isinstance(provenance, dict) else {"note": provenance})


@dataclasses.dataclass(frozen=True, kw_only=True)
class FromArray:
    """The rates in a `schedule.npy`, one for each update of the run.

    `path` is the file, or a folder that holds `schedule.npy`; a `schedule.json` beside it is its provenance.
    """

    kind: ClassVar[str] = "array"
    path: str

    def build(self, updates: int) -> ArraySchedule:
        """Returns the schedule; raises `ConfigError` unless the file holds exactly `updates` rates."""
        check_updates(updates)
        schedule = load_array(self.path)
        # A schedule cut short or held on is another schedule than the one that was optimised or recorded.
        require(len(schedule.rates) == updates, "path", self.path,
                f"holds {len(schedule.rates)} rates, must hold one for each update, updates = {updates}")
        return schedule


def _on_cpu() -> contextlib.AbstractContextManager:
    # A TPU emulates float64 by pairs of float32, and so falls short of 1e-12.
    try:
        return jax.default_device(jax.local_devices(backend="cpu")[0])
    except RuntimeError:
        return contextlib.nullcontext()
