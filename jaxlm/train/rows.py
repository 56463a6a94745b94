"""Metrics on their way from the device to the record: fetched one call late, written in segments."""

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxlm.train.config import RunConfig
from jaxlm.train.step import Metrics
from scaling import record


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """What a run reports after each chunk.

    Attributes:
      step: updates made.
      updates: updates in the whole run.
      loss: training loss of the last settled update, nats per token; None before the first.
      note: a warning to show once, else None.
    """

    step: int
    updates: int
    loss: float | None
    note: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chunk:
    """A call of the compiled step whose metrics have not been fetched yet."""

    first: int
    count: int
    made: jax.Array
    healthy: jax.Array
    metrics: Metrics
    started: float


class Diverged(Exception):
    """The run met a non-finite loss, gradient or parameter; the text is the reason."""


@dataclasses.dataclass(kw_only=True)
class RowWriter:
    """Turns fetched metrics into record rows; rows wait in memory until `flush`."""

    config: RunConfig
    folder: Path
    attempt: int
    rates: np.ndarray
    report: Callable[[Progress], None]
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    next_step: int = 0

    def settle(self, chunk: Chunk) -> None:
        """Fetches a chunk's metrics; raises `Diverged` where it met a non-finite value."""
        made, healthy, metrics = jax.device_get((chunk.made, chunk.healthy, chunk.metrics))
        seconds = (time.perf_counter() - chunk.started) / max(int(made), 1)
        for i in range(int(made)):
            step = chunk.first + i
            values = {name: float(column[i]) for name, column in metrics._asdict().items()}
            self.rows.append({"step": step, "tokens": (step + 1) * self.config.tokens_per_update,
                              "lr": float(self.rates[step]), **values, "seconds": seconds})
            self.next_step = step + 1
        last = self.rows[-1] if self.rows else {}
        self.report(Progress(step=self.next_step, updates=self.config.updates, loss=last.get("train_loss")))
        if not healthy:
            raise Diverged(f"update {last['step']}: loss {last['train_loss']}, gradient norm {last['grad_l2']}, "
                            f"parameter rms {last['param_rms']}")

    def heldout(self, loss: float) -> None:
        """Adds the held-out loss after the last settled update."""
        self.rows[-1]["heldout_loss"] = loss
        if not math.isfinite(loss):
            raise Diverged(f"update {self.rows[-1]['step']}: held-out loss {loss}")

    def flush(self) -> None:
        """Writes the waiting rows as one segment."""
        if self.rows:
            record.write_segment(self.folder, self.attempt, self.rows)
            self.rows = []
