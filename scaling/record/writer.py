"""Writes run records. One process writes a record; any number may read it meanwhile.

A trainer needs ten lines:

    record.create(folder, identity, schedule, {"source": "my trainer"})
    attempt = record.start_attempt(folder, {"host": platform.node()})
    for first in range(0, steps, 100):
        rows = [train(step) for step in range(first, first + 100)]
        record.write_segment(folder, attempt, rows)
    record.set_status(folder, "finished", result={...})
"""

import datetime
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from scaling.errors import InputError
from scaling.record import files, schema


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
    folder = files.local(folder)
    text = files.to_json(identity, "identity")
    identity = json.loads(text)
    schema.check_identity(identity)
    schedule = _check_schedule(schedule)
    provenance_text = files.to_json(provenance, "provenance", indent=1)
    if (folder / "run.json").exists():
        _check_same(folder, identity, schedule)
        return
    files.replace_atomically(folder / "schedule.npy", lambda file: np.save(file, schedule))
    files.replace_atomically(folder / "schedule.json", lambda file: file.write(provenance_text.encode()))
    (folder / "metrics").mkdir(exist_ok=True)
    # run.json comes last: a folder without it is no run, so a half-made record is made again.
    content = {
        "schema_version": schema.SCHEMA_VERSION,
        "identity": identity,
        "attempts": [],
        "status": {"state": "running", "reason": None, "result": None},
    }
    _store(folder, content)


def start_attempt(folder: str | os.PathLike[str], measured: dict) -> int:
    """Appends `measured` to the attempts, sets status `running`, returns the attempt's number from 0.

    `measured` is any JSON data; `schema.ATTEMPT` lists the usual fields. `started` is set to the
    present UTC time where absent.
    """
    folder = files.local(folder)
    content = load(folder)
    attempt = len(content["attempts"])
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

    Raises `InputError` for an unknown key, a wrong value, or a segment that already stands.
    """
    folder = files.local(folder)
    if not (folder / "run.json").exists():
        raise InputError(f"folder = {str(folder)!r}: holds no run.json; call create first")
    if not rows:
        raise InputError("rows = []: a segment needs at least one row")
    clean = [_clean_row(row, index) for index, row in enumerate(rows)]
    for before, after in zip(clean, clean[1:]):
        if after["step"] <= before["step"]:
            raise InputError(f"rows: step {after['step']} follows step {before['step']}; steps must grow")
    path = folder / "metrics" / f"{attempt}-{clean[0]['step']}.jsonl"
    if path.exists():
        raise InputError(f"{path}: this segment stands already; segments are never rewritten")
    text = "".join(files.to_json(row, "rows") + "\n" for row in clean)
    files.replace_atomically(path, lambda file: file.write(text.encode()))


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
    folder = files.local(folder)
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


def load(folder: Path) -> dict[str, Any]:
    """Returns the content of `folder`/run.json; raises `InputError` naming a missing or corrupt file."""
    path = folder / "run.json"
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"folder = {str(folder)!r}: holds no run.json, so it is not a run") from None
    except (ValueError, UnicodeDecodeError) as error:
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


def _store(folder: Path, content: dict[str, Any]) -> None:
    text = files.to_json(content, "run.json", indent=1) + "\n"
    files.replace_atomically(folder / "run.json", lambda file: file.write(text.encode()))


def _check_schedule(schedule: np.ndarray) -> np.ndarray:
    schedule = np.asarray(schedule, dtype=np.float64)
    if schedule.ndim != 1 or schedule.size == 0:
        raise InputError(f"schedule: shape {schedule.shape}: must be [updates] with at least one update")
    if not np.all(np.isfinite(schedule)):
        step = int(np.argmin(np.isfinite(schedule)))
        raise InputError(f"schedule[{step}] = {schedule[step]}: every rate must be finite")
    return schedule


def _check_same(folder: Path, identity: dict, schedule: np.ndarray) -> None:
    stored = load(folder)["identity"]
    differing = [key for key in identity if stored.get(key) != identity[key]]
    if differing:
        raise InputError(f"folder = {str(folder)!r}: holds another run; these differ: {', '.join(differing)}")
    if not np.array_equal(np.load(folder / "schedule.npy"), schedule):
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
