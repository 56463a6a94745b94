"""Run records as one table for other tools."""

import csv
import os
from collections.abc import Iterable

from scaling.record.reader import Run

COLUMNS = (
    "run",
    "seed",
    "N_total",
    "N_non_embedding",
    "N_with_head",
    "D",
    "peak_lr",
    "batch_tokens",
    "schedule_file",
    "loss",
    "loss_unit",
    "status",
)


def to_csv(runs: Iterable[Run], path: str | os.PathLike[str]) -> None:
    """Writes one row per run with `COLUMNS`; D in tokens, loss the final held-out loss, empty if none."""
    with open(path, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for run in runs:
            counts = [run.n(counting) for counting in ("total", "non_embedding", "with_head")]
            loss = run.heldout_loss
            measured = [run.tokens, repr(run.peak_lr), run.batch_tokens, run.folder / "schedule.npy"]
            last = ["" if loss != loss else repr(loss), run.loss_unit, run.state]  # NaN is not itself
            table.writerow([run.name, run.seed, *counts, *measured, *last])
