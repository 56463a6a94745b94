"""Writes run records. One process writes a record; any number may read it meanwhile.

A trainer needs ten lines:

    with record.run_lock(folder) as hold:
        record.create(folder, identity, schedule, {"source": "my trainer"})
        attempt = record.start_attempt(folder, {"host": platform.node()})
        for first in range(0, steps, 100):
            rows = [train(step) for step in range(first, first + 100)]
            hold.check()
            record.write_segment(folder, attempt, rows)
        record.set_status(folder, "finished", result={...})

`folder` is a local path, or the URL of an object store with the extra `remote`. Each write is atomic and
the last write of a call is the one that counts: a process killed at any instant leaves a record as it
was before the call or after it. A call whose answer was lost may be made again; a second
`start_attempt` counts as a start of its own.
"""

import datetime
import io
import json
import os
from typing import Any

import numpy as np

from scaling.errors import InputError
from scaling.record import diagnostics, files, schema


def create(folder: str | os.PathLike[str], identity: dict, schedule: np.ndarray, provenance: dict) -> None:
    """Writes a new record with status `running`, or leaves one of the same identity as it is.

    Args:
      folder: folder of the run; made where absent.
      identity: exactly the fields of `schema.IDENTITY`.
      schedule: [updates] finite learning rate of every update, stored as float64.
      provenance: JSON data saying where the schedule came from.

    Raises `InputError` where a record with another identity or schedule stands, and for a field
    that breaks the schema.
    """
    folder = files.folder(folder)
    text = files.to_json(identity, "identity")
    identity = json.loads(text)
    schema.check_identity(identity)
    schedule = _check_schedule(schedule)
    provenance_text = files.to_json(provenance, "provenance", indent=1)
    if files.exists(folder / "run.json"):
        _check_same(folder, identity, schedule)
        return
    stored = io.BytesIO()
    np.save(stored, schedule)
    files.replace_atomically(folder / "schedule.npy", stored.getvalue())
    files.replace_atomically(folder / "schedule.json", provenance_text.encode())
    # run.json comes last: a folder without it is no run, so a half-made record is made again.
    content = {
        "schema_version": schema.SCHEMA_VERSION,
        "identity": identity,
        "attempts": [],
        "status": {"state": "running", "reason": None, "result": None},
    }
    _store(folder, content)


def start_attempt(folder: str | os.PathLike[str], measured: dict) -> int:
    """Appends `measured` to the attempts, sets status `running`, returns the attempt's number.

    Numbers grow from 0, and none that a segment bears is given again, whatever became of run.json.

    `measured` is any JSON data; `schema.ATTEMPT` lists the usual fields. `started` is set to the
    present UTC time where absent.
    """
    folder = files.folder(folder)
    content = load(folder)
    attempt = _next_attempt(folder, content["attempts"])
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    entry = {"started": now} | json.loads(files.to_json(measured, "measured")) | {"attempt": attempt}
    content["attempts"].append(entry)
    content["status"] = {"state": "running", "reason": None, "result": None}
    _store(folder, content)
    return attempt


def write_segment(folder: str | os.PathLike[str], attempt: int, rows: list[dict]) -> None:
    """Writes `rows` as one metrics segment, durable when this returns.

    Args:
      folder: folder of the run.
      attempt: number returned by `start_attempt`.
      rows: one dict an update, with strictly growing integer `step` and integer `tokens`; other
        keys of `schema.METRICS` may be absent. NaN and infinity are stored as null.

    A segment that stands already is accepted if it is the same byte for byte: a call whose answer was
    lost is made again. Raises `InputError` for an unknown key, a wrong value, or a segment that stands
    with other content.
    """
    _write_rows(folder, "metrics", attempt, [_clean_row(row, index) for index, row in enumerate(rows)])


def write_diagnostics(folder: str | os.PathLike[str], attempt: int, rows: list[dict]) -> None:
    """Writes `rows` as one segment of diagnostics, durable when this returns.

    As `write_segment`, with keys of `schema.DIAGNOSTICS` whose values are numbers or lists of numbers.
    """
    clean = [diagnostics.clean_row(row, index) for index, row in enumerate(rows)]
    _write_rows(folder, "diagnostics", attempt, clean)


def _write_rows(folder: str | os.PathLike[str], stream: str, attempt: int, clean: list[dict]) -> None:
    folder = files.folder(folder)
    if not files.exists(folder / "run.json"):
        raise InputError(f"folder = {str(folder)!r}: holds no run.json; call create first")
    if not clean:
        raise InputError("rows = []: a segment needs at least one row")
    for before, after in zip(clean, clean[1:]):
        if after["step"] <= before["step"]:
            raise InputError(f"rows: step {after['step']} follows step {before['step']}; steps must grow")
    path = folder / stream / f"{attempt}-{clean[0]['step']}.jsonl"
    data = "".join(files.to_json(row, "rows") + "\n" for row in clean).encode()
    if not files.exists(path):
        files.replace_atomically(path, data)
    elif files.read_bytes(path) != data:
        raise InputError(f"{path}: this segment stands already; segments are never rewritten")


def set_status(
    folder: str | os.PathLike[str], state: str, reason: str | None = None, result: dict | None = None
) -> None:
    """Sets the run's status.

    Args:
      folder: folder of the run.
      state: one of `schema.STATES`.
      reason: why, for a run that did not finish.
      result: for a finished run exactly the fields of `schema.RESULT`.

    Raises `InputError` for an unknown state, a finished run without result, or a wrong result.
    """
    folder = files.folder(folder)
    if state not in schema.STATES:
        raise InputError(f"state = {state!r}: must be one of {', '.join(schema.STATES)}")
    if state == "finished" and result is None:
        raise InputError("result = None: a finished run needs its result")
    if result is not None:
        finite = {key: files.null_if_not_finite(value) for key, value in result.items()}
        result = json.loads(files.to_json(finite, "result"))
        schema.check_fields("result", result, schema.RESULT)
    content = load(folder)
    content["status"] = {"state": state, "reason": reason, "result": result}
    _store(folder, content)


def load(folder: files.AnyPath) -> dict[str, Any]:
    """Returns the content of `folder`/run.json; raises `InputError` naming a missing or corrupt file."""
    path = folder / "run.json"
    try:
        content = json.loads(files.read_bytes(path))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"folder = {str(folder)!r}: holds no run.json, so it is not a run") from None
    except ValueError as error:
        raise InputError(f"{path}: corrupt: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: corrupt: must hold a JSON object")
    version = content.get("schema_version")
    if version != schema.SCHEMA_VERSION:
        raise InputError(f"{path}: schema_version = {version!r}: this reader knows {schema.SCHEMA_VERSION}")
    for key, kind in (("identity", dict), ("attempts", list), ("status", dict)):
        if not isinstance(content.get(key), kind):
            raise InputError(f"{path}: corrupt: {key} must be a {kind.__name__}")
    return content


def load_schedule(path: files.AnyPath) -> np.ndarray:
    """Returns the float64 array [updates] in the file `path`; raises `InputError` where it is none."""
    try:
        return np.asarray(np.load(io.BytesIO(files.read_bytes(path)), allow_pickle=False), dtype=np.float64)
    except (FileNotFoundError, ValueError, EOFError) as error:
        raise InputError(f"{path}: missing or corrupt: {error}") from None


def _store(folder: files.AnyPath, content: dict[str, Any]) -> None:
    text = files.to_json(content, "run.json", indent=1) + "\n"
    files.replace_atomically(folder / "run.json", text.encode())


def _next_attempt(folder: files.AnyPath, attempts: list[Any]) -> int:
    used = [len(attempts) - 1]
    used += [entry["attempt"] for entry in attempts if isinstance(entry, dict) and "attempt" in entry]
    for stream in ("metrics", "diagnostics"):
        numbers = [name.partition("-")[0] for name in files.names(folder / stream)]
        used += [int(number) for number in numbers if number.isdecimal()]
    return max(used) + 1


def _check_schedule(schedule: np.ndarray) -> np.ndarray:
    schedule = np.asarray(schedule, dtype=np.float64)
    if schedule.ndim != 1 or schedule.size == 0:
        raise InputError(f"schedule: shape {schedule.shape}: must be [updates] with at least one update")
    if not np.all(np.isfinite(schedule)):
        step = int(np.argmin(np.isfinite(schedule)))
        raise InputError(f"schedule[{step}] = {schedule[step]}: every rate must be finite")
    return schedule


def _check_same(folder: files.AnyPath, identity: dict, schedule: np.ndarray) -> None:
    stored = load(folder)["identity"]
    differing = [key for key in identity if stored.get(key) != identity[key]]
    if differing:
        raise InputError(f"folder = {str(folder)!r}: holds another run; these differ: {', '.join(differing)}")
    if not np.array_equal(load_schedule(folder / "schedule.npy"), schedule):
        raise InputError(f"folder = {str(folder)!r}: holds the same run with another schedule")


def _clean_row(row: dict, index: int) -> dict:
    clean = {}
    for key, value in row.items():
        if key not in schema.METRIC_KIND:
            known = ", ".join(schema.METRIC_KIND)
            raise InputError(f"rows[{index}].{key}: no such metric; known: {known}")
        value = value.item() if isinstance(value, (np.generic, np.ndarray)) and np.ndim(value) == 0 else value
        value = files.null_if_not_finite(value)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if value is not None and not number:
            raise InputError(f"rows[{index}].{key} = {value!r}: must be a number or None")
        clean[key] = value
    for key in schema.INTEGER_METRICS:
        if not isinstance(clean.get(key), int) or clean[key] < 0:
            raise InputError(f"rows[{index}].{key} = {clean.get(key)!r}: must be an integer from 0")
    return clean
