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
from jaxlm.train.diagnostics import StateDiagnostics, StepDiagnostics
from jaxlm.train.mirrors import Mirrors
from jaxlm.train.step import SCALARS, Metrics
from scaling import record
from scaling.diagnostics import SPIKE_WINDOW, spikes

FLUSH_SECONDS = 60.0  # rows wait no longer than this and a call, so that who watches a run sees it move


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
    """Turns fetched metrics into record rows; rows wait in memory until `flush`.

    `hold` is None on a host that writes no record.
    """

    config: RunConfig
    folder: Path
    attempt: int
    rates: np.ndarray
    report: Callable[[Progress], None]
    hold: record.Hold | None
    mirrors: Mirrors
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    diagnostics: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    last: StepDiagnostics | None = None
    losses: list[float] = dataclasses.field(default_factory=list)
    next_step: int = 0
    evaluated: dict[int, float] = dataclasses.field(default_factory=dict)  # held-out loss after so many updates
    since: float = 0.0  # when the first of the waiting rows came

    def settle(self, chunk: Chunk) -> None:
        """Fetches a chunk's metrics; raises `Diverged` where it met a non-finite value.

        Rows of the chunks before are written first, where they have waited for `FLUSH_SECONDS`.
        """
        if self.rows and time.monotonic() - self.since > FLUSH_SECONDS:
            self.flush()
        if not self.rows:
            self.since = time.monotonic()
        made, healthy, metrics = jax.device_get((chunk.made, chunk.healthy, chunk.metrics))
        seconds = (time.perf_counter() - chunk.started) / max(int(made), 1)
        for i in range(int(made)):
            step = chunk.first + i
            values = {name: float(getattr(metrics, name)[i]) for name in SCALARS}
            self.rows.append({"step": step, "tokens": (step + 1) * self.config.tokens_per_update,
                              "lr": float(self.rates[step]), **values, "seconds": seconds})
            self.next_step = step + 1
            self.last = jax.tree.map(lambda column: column[i], metrics.diagnostics)
        last = self.rows[-1] if self.rows else {}
        self.report(Progress(step=self.next_step, updates=self.config.updates, loss=last.get("train_loss"),
                             note=self._spike_note(metrics.train_loss[:made])))
        if not healthy:
            raise Diverged(f"update {last['step']}: loss {last['train_loss']}, gradient norm {last['grad_l2']}, "
                            f"parameter rms {last['param_rms']}")

    def heldout(self, loss: float, *sources: float) -> None:
        """Adds the held-out loss after the last settled update, and that of each of `evaluation.sources`."""
        self.rows[-1]["heldout_loss"] = self.evaluated[self.next_step] = loss
        if sources:
            self._add_diagnostics({"source_losses": list(sources)})
        if not math.isfinite(loss):
            raise Diverged(f"update {self.rows[-1]['step']}: held-out loss {loss}")

    def diagnose(self, found: StateDiagnostics) -> None:
        """Adds the diagnostics of the state after the last settled update, and of that update."""
        found, step, config = jax.device_get(found), self.last, self.config
        row = {"big_batch": config.batch, "big_grad_sq": self.rows[-1]["grad_l2"]**2,
               "block_update_rms": step.block_update_rms, "block_param_rms": found.block_param_rms,
               **found.probe._asdict()}
        if step.small_grad_sq is not None:
            row |= {"small_batch": config.microbatch, "small_grad_sq": step.small_grad_sq}
        elif found.small_grad_sq is not None:
            row |= {"small_batch": 1, "small_grad_sq": found.small_grad_sq}
        self._add_diagnostics(row)

    def flush(self) -> None:
        """Writes the waiting rows as a segment of each kind, if the run is still this process's."""
        if self.hold is None:
            self.rows, self.diagnostics = [], []
            return
        self.hold.check()
        found = {row["step"]: row for row in self.diagnostics}
        if self.diagnostics:
            record.write_diagnostics(self.folder, self.attempt, self.diagnostics)
            self.diagnostics = []
        if self.rows:
            record.write_segment(self.folder, self.attempt, self.rows)
            self.mirrors.write([row | found.get(row["step"], {}) for row in self.rows])
            self.rows = []

    def _add_diagnostics(self, row: dict[str, Any]) -> None:
        """Adds to the row of diagnostics after the last settled update; a step has one row."""
        step = self.rows[-1]["step"]
        if self.diagnostics and self.diagnostics[-1]["step"] == step:
            self.diagnostics[-1] |= row
        else:
            self.diagnostics.append({"step": step} | row)

    def _spike_note(self, losses: np.ndarray) -> str | None:
        """Says which of the new losses are spikes, judged by those since this start of the run."""
        self.losses = [*self.losses[-SPIKE_WINDOW:], *map(float, losses)]
        first = len(self.losses) - len(losses)
        found = [self.next_step - len(self.losses) + int(index)
                 for index in spikes(self.losses, window=SPIKE_WINDOW, first=first)]
        return f"loss spike at update {', '.join(map(str, found))}" if found else None
