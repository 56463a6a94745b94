"""Run records as one table for other tools: CSV, and Parquet with the extra `tables`."""

import csv
import importlib
import io
import json
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from scaling.errors import InputError
from scaling.record import files, schema
from scaling.record.reader import Run
from scaling.record.summary import Summary

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
FURTHER = (
    "study", "updates", "length", "train_loss", "bits_per_byte", "attempts", "started", "host", "reason",
)


def to_csv(runs: Iterable[Run | Summary], path: str | os.PathLike[str]) -> None:
    """Writes one row per run with `COLUMNS`; D in tokens, loss the final held-out loss, empty if none."""
    rows = [_row(run) for run in runs]
    save({name: [row[name] for row in rows] for name in COLUMNS}, path, form="csv")


def row(run: Summary) -> dict[str, Any]:
    """Returns `COLUMNS` and `FURTHER` of one run; None for what is not known."""
    last = run.attempts[-1] if run.attempts else {}
    further = {
        "study": run.study, "updates": run.updates, "length": run.length, "train_loss": run.train_loss,
        "bits_per_byte": run.bits_per_byte, "attempts": len(run.attempts), "started": last.get("started"),
        "host": last.get("host"), "reason": run.status["reason"],
    }
    return _row(run) | {name: _none_if_nan(value) for name, value in further.items()}


def flatten(where: str, data: Any) -> dict[str, Any]:
    """Returns {dotted name: value} of nested dicts; a list is one value, an empty dict none."""
    if not isinstance(data, dict):
        return {where: data}
    parts = [flatten(f"{where}.{key}", value) for key, value in data.items()]
    return {name: leaf for part in parts for name, leaf in part.items()}


def run_table(runs: Sequence[Summary]) -> dict[str, list[Any]]:
    """Returns columns of one row per run: `COLUMNS`, `FURTHER`, and `config.a.b` for each field of any."""
    rows = [row(run) | flatten("config", run.identity["config"]) for run in runs]
    names = dict.fromkeys([*COLUMNS, *FURTHER, *(name for row in rows for name in row)])
    return {name: [row.get(name) for row in rows] for name in names}


def metrics_table(runs: Iterable[Run]) -> dict[str, list[Any]]:
    """Returns the metrics of all runs as columns in long form: run, then `schema.METRICS`; None for NaN."""
    table: dict[str, list[Any]] = {name: [] for name in ("run", *schema.METRIC_KIND)}
    for run in runs:
        table["run"] += [run.name] * run.metrics["step"].size
        for name in schema.METRIC_KIND:
            table[name] += [_none_if_nan(value) for value in run.metrics[name].tolist()]
    return table


def save(columns: dict[str, list[Any]], path: str | os.PathLike[str], *, form: str) -> None:
    """Writes columns of equal length to `path`; `form` is csv or parquet.

    None is an empty field in CSV and null in Parquet; lists are JSON text. Raises `InputError` where the
    folder is not there, `ModuleNotFoundError` with the pip command where Parquet needs the extra.
    """
    path = check_target(path, form)
    columns = {name: [_scalar(value) for value in values] for name, values in columns.items()}
    data = _parquet(columns) if form == "parquet" else _csv(columns)
    if isinstance(path, Path):
        path.write_bytes(data)  # as it is, since it may be /dev/stdout
    else:
        files.replace_atomically(path, data)


def check_target(path: str | os.PathLike[str], form: str) -> files.AnyPath:
    """Returns `path` as a path; raises `InputError` naming `form` where no file can be written there."""
    path = files.folder(path)
    if path.is_dir() or isinstance(path, Path) and not path.parent.is_dir():
        raise InputError(f"{form} = {str(path)!r}: must name a file in a folder that is there")
    return path


def _row(run: Run | Summary) -> dict[str, Any]:
    counts = {f"N_{counting}": run.n(counting) for counting in ("total", "non_embedding", "with_head")}
    return {"run": run.name, "seed": run.seed} | counts | {
        "D": run.tokens, "peak_lr": run.peak_lr, "batch_tokens": run.batch_tokens,
        "schedule_file": str(run.folder / "schedule.npy"), "loss": _none_if_nan(run.heldout_loss),
        "loss_unit": run.loss_unit, "status": run.state,
    }


def _csv(columns: dict[str, list[Any]]) -> bytes:
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(columns)
    for values in zip(*columns.values(), strict=True):
        table.writerow(["" if value is None else value for value in values])
    return text.getvalue().encode()


def _parquet(columns: dict[str, list[Any]]) -> bytes:
    try:
        arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the package {error.name!r} is not installed: pip install 'jaxlm[tables]'", name=error.name
        ) from None
    arrays = {}
    for name, values in columns.items():
        kinds = {type(value) for value in values if value is not None}
        if kinds == {int, float}:
            values = [None if value is None else float(value) for value in values]
        elif len(kinds) > 1:  # a field that is text in one run and a number in another
            values = [None if value is None else str(value) for value in values]
        arrays[name] = arrow.array(values)
    stored = io.BytesIO()
    parquet.write_table(arrow.table(arrays), stored)
    return stored.getvalue()


def _scalar(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (list, dict)) else value


def _none_if_nan(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
