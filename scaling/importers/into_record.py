"""Writes a foreign log as a run record."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scaling import record
from scaling.errors import InputError
from scaling.importers.declared import identity_of
from scaling.importers.log import Log

# A rate in a log went through float32, so it may differ by 2^-24 from the one it was made of.
_SAME_RATE = 1e-6


def write_record(
    log: Log,
    folder: str | os.PathLike[str],
    given: Mapping[str, Any],
    *,
    schedule: Path | None = None,
    updates: int | None = None,
    first_step: int = 0,
) -> list[str]:
    """Writes `log` as the run record `folder` and returns notes on what was assumed.

    Args:
      log: what an importer read.
      folder: folder of the new record; one that holds a record is refused and left as it is.
      given: declared fields, see `declared.FIELDS`.
      schedule: .npy file with the rate of every update; without one the rates come from the log,
        interpolated linearly between rows and held before the first and after the last.
      updates: updates that the run made, where the log ends before the last of them.
      first_step: number that the log gives to the first update; a record counts from 0.

    Raises `InputError` for missing declarations, a log without rates where no schedule is given,
    and a schedule or `updates` that the log contradicts.
    """
    name = Path(os.fspath(folder)).name
    if not name:
        raise InputError(f"--out = {os.fspath(folder)!r}: must be a folder with a name, the run's by default")
    identity, state = identity_of(given, name=name)
    _refuse_existing(folder)
    attempts = [_rows(rows, first_step, identity["tokens_per_update"]) for rows in log.attempts]
    if not attempts:
        raise InputError(f"{log.files[0][0]}: holds no row of {', '.join(log.columns)}")
    # The latest attempt wins, as for the reader of the record.
    by_step = {row["step"]: row for attempt in attempts for row in attempt}
    rows = [by_step[step] for step in sorted(by_step)]
    last = rows[-1]["step"]
    if updates is not None and updates <= last:
        raise InputError(f"updates = {updates}: the log has a row of update {last}, counted from 0")
    if schedule is None:
        made = updates or last + 1
        rates, rule, notes = _rates_of_log(rows, made)
    else:
        rates, rule, notes = _rates_of_file(schedule, rows)
        made = updates or (rates.size if state == "finished" else last + 1)
        if made > rates.size:
            raise InputError(f"--schedule = {str(schedule)!r}: {rates.size} rates for {made} updates")
    files = [{"name": name, "sha256": digest} for name, digest in log.files]
    origin = {"format": log.format, "files": files, "columns": dict(log.columns)}
    record.create(folder, identity, rates, {"source": f"import of a {log.format} log", "rule": rule} | origin)
    for attempt_rows in attempts:
        record.write_segment(folder, record.start_attempt(folder, {"imported": origin}), attempt_rows)
    if state == "finished":
        record.set_status(folder, state, result=_result(rows, made, identity["tokens_per_update"]))
    else:
        record.set_status(folder, state, reason=f"declared at the import of a {log.format} log")
    if len(attempts) > 1:
        notes.append(f"{len(attempts)} attempts: the log goes back or says that the run was started again")
    return [*notes, *log.notes, *_notes_on_the_end(rows, made)]


def _result(rows: Sequence[dict], updates: int, tokens_per_update: int) -> dict[str, Any]:
    last, complete = rows[-1], rows[-1]["step"] == updates - 1
    return {"updates": updates, "tokens": last["tokens"] if complete else updates * tokens_per_update,
            "heldout_loss": last.get("heldout_loss") if complete else None, "params_digest": None}


def _notes_on_the_end(rows: Sequence[dict], updates: int) -> list[str]:
    notes, last = [], rows[-1]["step"]
    if updates > last + 1:
        notes.append(f"the run has {updates} updates, the log ends with update {last}")
    heldout = [row["step"] for row in rows if row.get("heldout_loss") is not None]
    if not heldout:
        notes.append("no held-out loss: laws of N and D leave this run out; see --columns heldout_loss=...")
    elif heldout[-1] < updates - 1:
        distance = updates - 1 - heldout[-1]
        notes.append(f"the last held-out loss is of update {heldout[-1]}, {distance} before the last")
    return notes


def _refuse_existing(folder: str | os.PathLike[str]) -> None:
    try:
        run = record.read(folder)
    except InputError:
        return  # no record, or a damaged one, which `record.create` refuses itself
    raise InputError(f"--out = {os.fspath(folder)!r}: holds the record of {run.name!r} ({run.state}) "
                     f"already; it is left as it is: remove it or choose another folder")


def _rows(rows: tuple[dict, ...], first_step: int, tokens_per_update: int) -> list[dict]:
    """Returns rows of the record: steps from 0, with the tokens seen after each update."""
    out = []
    for row in rows:
        step = row["step"] - first_step
        if step < 0:
            raise InputError(f"--first-step = {first_step}: the log has a row of step {row['step']}")
        tokens = row.get("tokens")
        if tokens is None:
            tokens = (step + 1) * tokens_per_update
        elif tokens != int(tokens):
            raise InputError(f"step {row['step']}: tokens = {tokens}: must be an integer")
        out.append(row | {"step": step, "tokens": int(tokens)})
    return out


def _rates_of_log(rows: Sequence[dict], updates: int) -> tuple[np.ndarray, str, list[str]]:
    """Returns [updates] rates from the rows that have one, the rule that made them, and notes."""
    known = [(row["step"], row["lr"]) for row in rows if row.get("lr") is not None]
    if not known:
        raise InputError("the log has no learning rate: give --schedule FILE.npy with the rate of every "
                         "update, or name its column with --columns lr=...")
    steps, rates = np.array(known).T
    if len(known) == updates:
        return rates, "the rate of every update is in the log", []
    rule = (f"rates of {len(known)} of {updates} updates are in the log; the others are interpolated "
            f"linearly, held before update {int(steps[0])} and after update {int(steps[-1])}")
    return np.interp(np.arange(updates), steps, rates), rule, [f"schedule: {rule}"]


def _rates_of_file(path: Path, rows: Sequence[dict]) -> tuple[np.ndarray, str, list[str]]:
    """Returns the rates of a .npy file, where they are from, and a note where the log has other ones."""
    try:
        rates = np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)
    except (OSError, ValueError, EOFError) as error:
        reason = getattr(error, "strerror", None) or "not a .npy file of numbers"
        raise InputError(f"--schedule = {str(path)!r}: {reason}") from None
    last = rows[-1]["step"]
    if rates.ndim != 1 or rates.size <= last:
        raise InputError(f"--schedule = {str(path)!r}: has shape {rates.shape}; must be [updates], at least "
                         f"{last + 1}, since the log has a row of update {last}")
    differing = [row for row in rows if row.get("lr") is not None
                 and abs(row["lr"] - rates[row["step"]]) > _SAME_RATE * abs(rates[row["step"]])]
    notes = []
    if differing:
        step, lr = differing[0]["step"], differing[0]["lr"]
        notes.append(f"schedule: {path.name} differs from the log's rate at {len(differing)} rows, first at "
                     f"update {step}: {rates[step]:g} against {lr:g}")
    return rates, f"declared: {path.name}", notes
