"""Rows and curves for fits, read from run records and CSV files, with notes on what was left out."""

import collections
import csv
from collections.abc import Mapping, Sequence

import numpy as np

from scaling import curves as curves_module
from scaling import record
from scaling.curves import Curve
from scaling.errors import InputError
from scaling.record import Run
from scaling.record.files import AnyPath

# FLOPs per parameter and token of training, forward and backward; the convention D = C / (6 N).
_FLOPS_PER_PARAMETER_TOKEN = 6.0


def finished_runs(roots: Sequence[AnyPath]) -> tuple[list[Run], list[str]]:
    """Returns the finished runs at or under `roots` with a note counting those left out and why."""
    runs = []
    for root in roots:
        found = record.find(root)
        if not found:
            raise InputError(f"source = {str(root)!r}: holds no run folder")
        runs += [record.read(folder) for folder in found]
    left_out = collections.Counter(run.state for run in runs if run.state != "finished")
    used = [run for run in runs if run.state == "finished"]
    where = str(roots[0]) if len(roots) == 1 else f"{len(roots)} folders"
    notes = [f"{where}: {len(used)} of {len(runs)} runs used"]
    if left_out:
        notes[0] += "; left out: " + ", ".join(f"{count} {state}" for state, count in left_out.items())
    notes.extend(f"{run.name}: {note}" for run in used for note in run.notes)
    return used, notes


def run_rows(
    roots: Sequence[AnyPath], *, counting: str, unit: str | None
) -> tuple[dict[str, np.ndarray], str, list[str]]:
    """Returns columns N, D, loss, seed, run of the finished runs under `roots`, their unit, and notes."""
    runs, notes = finished_runs(roots)
    unit = common_unit(runs, unit)
    without = [run.name for run in runs if np.isnan(run.heldout_loss)]
    if without:
        notes.append(f"left out for want of a held-out loss: {', '.join(without)}")
    runs = [run for run in runs if run.name not in without]
    data = {
        "N": np.array([run.n(counting) for run in runs], dtype=np.float64),
        "D": np.array([run.tokens for run in runs], dtype=np.float64),
        "loss": np.array([run.heldout_loss for run in runs]),
        "seed": np.array([run.seed for run in runs]),
        "run": np.array([run.name for run in runs], dtype=str),
    }
    return data, unit, notes


def common_unit(runs: Sequence[Run], unit: str | None) -> str:
    """Returns the loss unit of `runs`; raises `InputError` where they differ from each other or `unit`."""
    seen = sorted({run.loss_unit for run in runs} | ({unit} if unit else set()))
    if len(seen) > 1:
        raise InputError(f"unit: declared and recorded units differ: {', '.join(seen)}")
    if not seen:
        raise InputError("runs: none is finished, so there is nothing to fit")
    return seen[0]


def csv_rows(
    path: AnyPath, names: Mapping[str, str], *, counting: str
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns the columns of a CSV file of runs, and notes.

    Args:
      path: file with a header line.
      names: header names of N, D, C, loss and any further column, where they are not called so.
        Without D, D = C / (6 N). Without N, `N_<counting>` as `record.to_csv` writes it.
      counting: the declared counting.

    Rows of a `status` column that are not `finished` are left out.
    """
    table = _read_csv(path)
    exported = f"N_{counting}"
    names = ({"N": exported} if "N" not in table and exported in table else {}) | dict(names)
    for name, header in names.items():
        if header not in table:
            raise InputError(f"{path}: no column {header!r} for {name}; known: {', '.join(table)}")
        table[name] = table[header]
    notes = []
    for name in ("N", "loss"):
        if name not in table:
            raise InputError(
                f"{path}: no column {name!r}; name it with --columns {name}=...; known: {', '.join(table)}"
            )
    if "D" not in table and "C" not in table:
        raise InputError(f"{path}: neither D nor C among the columns {', '.join(table)}")
    keep = np.array([state == "finished" for state in table["status"]]) if "status" in table else None
    wanted = [name for name in ("N", "D", "C", "loss") if name in table]
    data = {name: _numbers(path, name, table[name]) for name in wanted}
    further = [name for name in ("seed", "run", *names) if name in table and name not in data]
    data |= {name: np.array(table[name]) for name in further}
    if "D" not in data:
        data["D"] = data["C"] / (_FLOPS_PER_PARAMETER_TOKEN * data["N"])
        notes.append(f"{path}: D = C / (6 N)")
    if keep is not None and not keep.all():
        data = {name: column[keep] for name, column in data.items()}
        notes.append(f"{path}: {keep.sum()} of {keep.size} rows used; the others are not finished")
    return data, notes


def without_highest(data: dict[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    """Returns `data` without the `count` rows of highest loss, otherwise in the same order."""
    if not 0 <= count < max(data["loss"].size, 1):
        raise InputError(f"drop-highest = {count}: must be from 0 to {data['loss'].size - 1}")
    keep = np.sort(np.argsort(data["loss"], kind="stable")[: data["loss"].size - count])
    return {name: column[keep] for name, column in data.items()}


def run_curves(root: AnyPath, *, loss: str, unit: str | None) -> tuple[list[Curve], str, list[str]]:
    """Returns the curves of the finished runs under `root` from metrics column `loss`, unit and notes."""
    runs, notes = finished_runs([root])
    found = [
        Curve(name=run.name, schedule=run.schedule, steps=run.metrics["step"], losses=run.metrics[loss])
        for run in runs
    ]
    return found, common_unit(runs, unit), notes


def csv_curve(path: AnyPath, *, warmup_steps: int) -> tuple[Curve, list[str]]:
    """Returns the curve of a CSV file with columns step, lr, loss, and notes on how its schedule was made."""
    table = _read_csv(path)
    for name in ("step", "lr", "loss"):
        if name not in table:
            raise InputError(f"{path}: no column {name!r}; a curve needs step, lr, loss")
    steps, rates, losses = (_numbers(path, name, table[name]) for name in ("step", "lr", "loss"))
    try:
        schedule = curves_module.interpolated_schedule(steps, rates, warmup_steps)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    notes = []
    if schedule.size > steps.size:
        notes.append(
            f"{path}: rates between the {steps.size} rows interpolated, warm-up {warmup_steps} steps from 0"
        )
    curve = Curve(
        name=path.stem, schedule=schedule, steps=steps, losses=losses, warmup_steps=warmup_steps or None
    )
    return curve, notes


def _read_csv(path: AnyPath) -> dict[str, list[str]]:
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"source = {str(path)!r}: {getattr(error, 'strerror', None) or error}") from None
    if not rows:
        raise InputError(f"{path}: holds no rows under a header line")
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise InputError(f"{path} line {number}: has more or fewer fields than the header")
    return {name: [row[name] for row in rows] for name in rows[0]}


def _numbers(path: AnyPath, name: str, texts: Sequence[str]) -> np.ndarray:
    values = []
    for number, text in enumerate(texts, start=2):
        try:
            # An empty field, as for a run without a loss, becomes NaN and is named by the engine if used.
            values.append(float(text) if text.strip() else float("nan"))
        except ValueError:
            raise InputError(f"{path} line {number}: {name} = {text!r}: must be a number") from None
    return np.array(values)
