"""Loss curves for laws of whole curves, from files, tables, data frames and run records."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scaling import record
from scaling.curves import Curve, interpolated_schedule
from scaling.errors import InputError
from scaling.readers import rows, table
from scaling.readers.column_map import ColumnMap, RowRules, Values
from scaling.readers.raw import read_raw
from scaling.record import files

# What a curve remembers of its run beside tokens_per_update and params, where the recorded configuration has it.
FACTS = ("optimizer",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CurveSet:
    """Curves of one unit and, where their N is known, one counting.

    Attributes:
      curves: the curves, in the order of the sources.
      unit: unit of the losses.
      counting: which parameters `Curve.N` counts; None where no curve has one.
      notes: what was left out and why, how schedules were made.
    """

    curves: list[Curve]
    unit: str
    counting: str | None
    notes: tuple[str, ...]


def read_curves(
    sources: Any,
    mapping: ColumnMap | str | None = None,
    *,
    unit: str | None = None,
    counting: str | None = None,
    loss: str = "heldout_loss",
    warmup_steps: int | None = None,
    columns: Mapping[str, str] | None = None,
    select: Mapping[str, Values] | None = None,
) -> CurveSet:
    """Returns the loss curves of one or several sources.

    Args:
      sources: one or a list of: a file with a row a logged update, one curve or, with a column
        `curve` (or a mapping's label of that name), many; a folder of such files; a folder or URL
        of run records, whose finished runs are taken; a DataFrame; a mapping of arrays.
      mapping: what the columns mean, as in `read_table`; step, lr and loss are needed, N is taken
        where it is there. Records need none.
      unit: unit of the losses, where neither mapping nor record states it.
      counting: which parameters N counts; for records, the count that becomes `Curve.N`.
      loss: the metric of records that is read, heldout_loss or train_loss.
      warmup_steps: updates of a linear warm-up from 0 that rows leave out; None takes the mapping's.
      columns, select: as in `read_table`.

    Rates between rows follow `curves.interpolated_schedule`: linearly, a jump as one. Points without a
    loss are left out; their rates are used.

    Raises:
      InputError: as `read_table`; also for a curve without rates, and for steps that do not grow.
    """
    several = isinstance(sources, (list, tuple))
    sets = []
    for source in (part for one in (sources if several else [sources]) for part in _parts(one)):
        if _is_folder(source):
            sets.append(_run_curves(source, loss=loss, unit=unit, counting=counting))
        else:
            sets.append(_file_curves(source, mapping, unit=unit, counting=counting, warmup_steps=warmup_steps,
                                     columns=columns or {}, select=select or {}))
    curves = [curve for one in sets for curve in one.curves]
    if not curves:
        raise InputError("sources: hold no curve")
    for field in ("unit", "counting"):
        seen = sorted({str(getattr(one, field)) for one in sets})
        if len(seen) > 1:
            raise InputError(f"{field}: the sources have {', '.join(seen)}: must be the same in one fit")
    notes = tuple(note for one in sets for note in one.notes)
    return CurveSet(curves=curves, unit=sets[0].unit, counting=sets[0].counting, notes=notes)


def curve_of(run: record.Run, *, loss: str = "heldout_loss", counting: str | None = None) -> Curve:
    """Returns the loss curve of a run record, with the schedule and the facts that the record holds."""
    config = run.identity["config"]
    facts = {"tokens_per_update": run.batch_tokens, "params": run.identity["params"]}
    facts |= {name: config[name] for name in FACTS if name in config}
    return Curve(name=run.name, schedule=run.schedule, steps=run.metrics["step"], losses=run.metrics[loss],
                 N=float(run.n(counting)) if counting else None, facts=facts)


def _is_folder(source: Any) -> bool:
    if isinstance(source, Mapping) or hasattr(source, "columns"):
        return False
    return files.folder(source).is_dir()


def _parts(source: Any) -> Sequence[Any]:
    """Returns the CSV files of a folder that holds no run record, else the source itself."""
    if not _is_folder(source) or record.find(source):
        return [source]
    folder = files.folder(source)
    found = [folder / name for name in files.names(folder) if name.lower().endswith(".csv")]
    if not found:
        raise InputError(f"source = {str(source)!r}: holds neither a run folder nor a CSV file")
    return found


def _run_curves(root: Any, *, loss: str, unit: str | None, counting: str | None) -> CurveSet:
    if loss not in ("heldout_loss", "train_loss"):
        raise InputError(f"loss = {loss!r}: must be heldout_loss or train_loss")
    raw = read_raw(root)
    keep, notes = rows.chosen(raw, RowRules(where={"status": "finished"}), {})
    if keep.size == 1:  # a source that is one finished run needs no count
        notes = []
    stated = rows.one_value(raw, "loss_unit", keep)
    if unit is not None and unit != stated:
        raise InputError(f"unit: declared and recorded units differ: {unit}, {stated} in {root}")
    finished = [run for run in map(record.read, record.find(root)) if run.state == "finished"]
    notes.extend(f"{run.name}: {note}" for run in finished for note in run.notes)
    curves = [curve_of(run, loss=loss, counting=counting) for run in finished]
    empty = [curve.name for curve in curves if np.isnan(curve.losses).all()]
    if empty:
        raise InputError(f"{root}: run {empty[0]} has no {loss}; the other column is "
                         f"{'train_loss' if loss == 'heldout_loss' else 'heldout_loss'}")
    return CurveSet(curves=curves, unit=stated, counting=counting, notes=tuple(notes))


def _file_curves(
    source: Any, mapping: ColumnMap | str | None, *, unit: str | None, counting: str | None,
    warmup_steps: int | None, columns: Mapping[str, str], select: Mapping[str, Values],
) -> CurveSet:
    raw = read_raw(source)
    core = ("step", "lr", "loss", "N")
    meant = table.resolve(raw, mapping, unit=unit, counting=counting, columns=columns, core=core)
    for name in ("step", "loss", "lr"):
        if name not in meant.columns:
            hint = ": without its learning rates a curve has no schedule" if name == "lr" else ""
            raise InputError(f"{raw.name}: no column {name!r}{hint}; name it with --columns {name}=HEADER; "
                             f"there are: {rows.listed(raw.headers)}")
    # What a curve needs and nothing else, so that an empty field elsewhere costs no row.
    needed = {name: header for name, header in meant.columns.items() if name in core}
    meant = dataclasses.replace(
        meant, columns=needed, derived={}, keep=(),
        scale={name: one for name, one in meant.scale.items() if name in needed},
        rows=dataclasses.replace(meant.rows, empty="keep", duplicates="keep"),
        labels={name: header for name, header in meant.labels.items() if name == "curve"},
    )
    data = table.apply(raw, meant, unit=unit, counting=counting, select=select)
    warmup = meant.curves.warmup_steps if warmup_steps is None else warmup_steps
    names = data.columns.get("curve", np.full(len(data), raw.stem or "curve"))
    found, notes = [], list(data.notes)
    for name in dict.fromkeys(names.tolist()):
        one = data.where(names == name)
        try:
            found.append(_curve(str(name), one.columns, meant, warmup_steps=warmup, notes=notes))
        except InputError as error:
            raise InputError(f"{raw.name}: {error}") from None
    if sum(curve.schedule.size for curve in found) > len(data):
        more = f", warm-up {warmup} steps from 0" if warmup else ""
        count = f"{len(found)} curves, " if len(found) > 1 else ""
        notes.append(f"{raw.name}: {count}rates between the {len(data)} rows interpolated{more}")
    return CurveSet(curves=found, unit=str(data.unit), counting=data.counting, notes=tuple(notes))


def _curve(
    name: str, data: Mapping[str, np.ndarray], mapping: ColumnMap, *, warmup_steps: int, notes: list[str]
) -> Curve:
    steps, rates, losses = data["step"], data["lr"], data["loss"]
    if np.isnan(steps).any() or np.any(steps != np.floor(steps)):
        raise InputError(f"curve {name}: steps must be whole numbers from 0")
    back = np.flatnonzero(np.diff(steps) <= 0)
    if back.size:
        before, after = steps[back[0]:back[0] + 2]
        raise InputError(f"curve {name}: step = {after:g} after {before:g}: must grow from row to row; "
                         "several curves need a label curve")
    rated = ~np.isnan(rates)
    if not rated.any():
        raise InputError(f"curve {name}: no row has a rate: without its learning rates it has no schedule")
    schedule = interpolated_schedule(steps[rated], rates[rated], warmup_steps)
    length = re.search(mapping.curves.length_in_name, name) if mapping.curves.length_in_name else None
    schedule = schedule[: int(length[1])] if length else schedule
    used = (steps < schedule.size) & ~np.isnan(losses)
    if not used.any():
        raise InputError(f"curve {name}: no point has a loss within its {schedule.size} updates")
    if not used.all():
        lost = f"{np.sum(~used)} of {used.size} points left out"
        notes.append(f"{name}: {lost}, without a loss or past the last update")
    sizes = np.unique(data["N"]) if "N" in data else np.array([])
    if sizes.size > 1:
        raise InputError(f"curve {name}: N holds {sizes.size} values: must be one for a curve")
    return Curve(
        name=name, schedule=schedule, steps=steps[used].astype(np.int64), losses=losses[used],
        warmup_steps=warmup_steps or None, N=float(sizes[0]) if sizes.size else None,
    )
