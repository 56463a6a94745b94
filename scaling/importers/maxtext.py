"""Reads the metrics that MaxText writes as JSON lines (its option `metrics_file`, or `gcs_metrics`).

A line is one dict: `step` (the update's index from 0, as a float), `run_name`, and every scalar by its
TensorBoard tag. Training lines hold `learning/loss` (auxiliary losses included), evaluations
`eval/avg_loss` after the update of their step. Read off src/maxtext/common/metric_logger.py of
AI-Hypercomputer/maxtext, 2025-2026. Three things there matter to a reader:

* A restarted run appends, so a step may come twice: the later line is of a later attempt.
* An evaluation's line stands before the training lines of its step and the one before it.
* Newer versions also write a line for every evaluation batch, with `eval/step_time_seconds` and the
  batch's index as its step. These are left out. The first of them empties a local `metrics_file`
  (it is truncated at step 0), so the training rows before an evaluation are lost there: import such
  a run from its TensorBoard folder.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from scaling.errors import InputError
from scaling.importers import log
from scaling.importers.log import Log

# `learning/grad_norm` is the norm after clipping and has no place in a record.
COLUMNS = {
    "step": "step",
    "train_loss": "learning/loss",
    "heldout_loss": "eval/avg_loss",
    "lr": "learning/current_learning_rate",
    "grad_l2": "learning/raw_grad_norm",
    "seconds": "perf/step_time_seconds",
}
_EVALUATION_BATCH = "eval/step_time_seconds"


def read_maxtext(paths: Sequence[Path], columns: Mapping[str, str], *, run: str | None = None) -> Log:
    """Returns the log of one run.

    Args:
      paths: files of JSON lines, in the order in which they were written.
      columns: metric -> key where it is not the one of `COLUMNS`.
      run: `run_name` of the lines to take; needed where there are several.

    Raises `InputError` naming file and line for what is not such a log.
    """
    lines = [line for path in paths for line in _lines(path)]
    names = sorted({str(row.get("run_name", "")) for _, row in lines})
    if run is None and len(names) > 1:
        raise InputError(f"{paths[0]}: holds several runs; choose one with --run: {', '.join(names)}")
    if run is not None and run not in names:
        raise InputError(f"--run = {run!r}: no such run in {paths[0]}; there are: {', '.join(names)}")
    rows = [(where, row) for where, row in lines if run is None or str(row.get("run_name", "")) == run]
    training = [(where, row) for where, row in rows if _EVALUATION_BATCH not in row]
    present = {key for _, row in training for key in row}
    found = log.chosen_columns(paths[0], columns, COLUMNS, present)
    if "step" not in found:
        raise InputError(f"{paths[0]}: no key 'step' in any line; name it with --columns step=...")
    points = []
    for where, row in training:
        metrics = {m: log.as_number(row[key], f"{where}: {key}") for m, key in found.items()
                   if m != "step" and key in row}
        if metrics:
            points.append((log.as_step(row.get(found["step"]), where), metrics))
    left_out = len(rows) - len(training)
    notes = (f"{left_out} lines of single evaluation batches left out",) if left_out else ()
    return Log(format="maxtext", files=log.digests(paths), columns=found,
               attempts=log.split_attempts(points), notes=notes)


def _lines(path: Path) -> Iterator[tuple[str, dict]]:
    lines = log.text_lines(path)
    last = max(number for number, line in enumerate(lines, start=1) if line.strip())
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            torn = "; a killed run may leave a torn last line: delete it" if number == last > 1 else ""
            raise InputError(f"{path} line {number}: not JSON: {error}{torn}") from None
        if not isinstance(row, dict):
            raise InputError(f"{path} line {number}: must be a JSON object, as MaxText writes it")
        yield f"{path} line {number}", row
