"""Reads exports of Weights & Biases: the CSV of a chart, and a run's history as CSV or JSON lines.

A chart's CSV, made in the web interface, has the x axis first (`Step` unless chosen otherwise) and for
each run `<run> - <metric>` with `__MIN` and `__MAX` beside it; a chart is of one metric, so the files
of several charts are given together. A history (`run.history()` or `run.scan_history()` of
`wandb.Api`) has one row a step, `_step`, `_runtime`, `_timestamp` and a column for each metric.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from scaling.errors import InputError
from scaling.importers import log
from scaling.importers.log import METRICS, Log

# The keys that jaxlm's mirror logs.
COLUMNS = {metric: metric for metric in METRICS if metric != "step"}
_STEPS = ("Step", "_step", "step")
_BOUNDS = ("__MIN", "__MAX")
_SEPARATOR = " - "


def read_wandb(paths: Sequence[Path], columns: Mapping[str, str], *, run: str | None = None) -> Log:
    """Returns the log of one run.

    Args:
      paths: exported files of the same run, merged by step.
      columns: metric -> column where it is not the metric's own name; step -> another step column.
      run: display name of the run in the CSV of a chart; needed where it holds several.

    Raises `InputError` naming file and line for what is not such an export.
    """
    tables = [_read_table(path) for path in paths]
    runs = sorted({name for table in tables for name in _runs(table)})
    if run is None and len(runs) > 1:
        raise InputError(f"{paths[0]}: holds several runs; choose one with --run: {', '.join(runs)}")
    if run is not None and run not in runs:
        names = ", ".join(runs) or "none, since this is no chart's CSV"
        raise InputError(f"--run = {run!r}: no such run in {paths[0]}; there are: {names}")
    run = run if run is not None else (runs[0] if runs else None)
    tables = [_of_run(table, run) for table in tables]
    present = {name for table in tables for row in table for name in row if not name.endswith(_BOUNDS)}
    found = log.chosen_columns(paths[0], columns, COLUMNS, present)
    rows: dict[int, dict] = {}
    for path, table in zip(paths, tables):
        for step, metrics in _points(path, table, found):
            rows.setdefault(step, {}).update(metrics)
    averaged = sum(_is_average(row, name) for table in tables for row in table for name in found.values())
    note = f"{averaged} values are averages over several steps, as the web interface exports long runs"
    points = sorted(rows.items())
    return Log(format="wandb", files=log.digests(paths), columns=found, attempts=log.split_attempts(points),
               notes=(note,) if averaged else ())


def _read_table(path: Path) -> list[dict]:
    """Returns the rows of a CSV file or of JSON lines, each a dict from column to value."""
    lines = log.text_lines(path)
    if lines[0].lstrip().startswith("{"):
        return [_json_row(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    try:
        rows = list(csv.DictReader(lines, strict=True))
    except csv.Error as error:
        raise InputError(f"{path}: not CSV: {error}") from None
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise InputError(f"{path} line {number}: has more or fewer fields than the header")
    if not rows:
        raise InputError(f"{path}: holds no rows under a header line")
    return rows


def _json_row(path: Path, number: int, line: str) -> dict:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{path} line {number}: not JSON: {error}") from None
    if not isinstance(row, dict):
        raise InputError(f"{path} line {number}: must be a JSON object")
    return row


def _runs(table: list[dict]) -> set[str]:
    """The run names in a chart's header; none in a history, whose columns have no bounds beside them."""
    return {name.removesuffix("__MIN").rpartition(_SEPARATOR)[0] for name in table[0]
            if name.endswith("__MIN") and _SEPARATOR in name}


def _of_run(table: list[dict], run: str | None) -> list[dict]:
    """Returns the rows with the prefix of `run` taken off, and without the columns of other runs."""
    if run is None or not _runs(table):
        return table
    prefix = run + _SEPARATOR
    return [{name.removeprefix(prefix): value for name, value in row.items()
             if name.startswith(prefix) or _SEPARATOR not in name} for row in table]


def _points(path: Path, table: list[dict], columns: Mapping[str, str]) -> list[tuple[int, dict]]:
    step_column = columns.get("step") or next((name for name in _STEPS if name in table[0]), None)
    if step_column is None:
        raise InputError(f"{path}: no column of steps; name it with --columns step=...; there are: "
                         f"{', '.join(table[0])}")
    points, before = [], -1
    for number, row in enumerate(table, start=1):
        where = f"{path} row {number}"
        metrics = {metric: log.as_number(row.get(name), f"{where}: {name}")
                   for metric, name in columns.items() if metric != "step" and not _is_empty(row.get(name))}
        if not metrics:
            continue
        step = log.as_step(row.get(step_column), where)
        if step < before:
            raise InputError(f"{where}: step {step} follows step {before}; the steps of an export must grow")
        before = step
        points.append((step, metrics))
    return points


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _is_average(row: dict, name: str) -> bool:
    low, high = (row.get(name + bound) for bound in _BOUNDS)
    return not _is_empty(low) and low != high
