"""Reads run records: identity, status, schedule and the metrics of every attempt as columns."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np

from scaling.errors import InputError
from scaling.record import files, schema, writer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One run as read from its folder.

    `metrics` holds one array [rows] for each name of `schema.METRICS`, ordered by step: int64 for
    step and tokens, float64 elsewhere with NaN for null. `notes` says what the reader met: values
    of an earlier attempt that differ, lines it could not read, steps without a row.
    """

    folder: Path
    identity: dict
    attempts: tuple[dict, ...]
    status: dict
    schedule: np.ndarray
    provenance: dict
    metrics: dict[str, np.ndarray]
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        """Readable name of the run."""
        return self.identity["name"]

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self.identity["seed"]

    @property
    def state(self) -> str:
        """One of `schema.STATES`."""
        return self.status["state"]

    @property
    def result(self) -> dict | None:
        """What a finished run ended with, None for any other."""
        return self.status.get("result")

    @property
    def tokens(self) -> int:
        """D: tokens seen, from the result where there is one, else from the last metrics row."""
        if self.result is not None:
            return self.result["tokens"]
        return int(self.metrics["tokens"][-1]) if self.metrics["tokens"].size else 0

    @property
    def heldout_loss(self) -> float:
        """Final held-out loss in the run's unit: the result's, else the last evaluated; NaN if none."""
        if self.result is not None and self.result["heldout_loss"] is not None:
            return float(self.result["heldout_loss"])
        seen = self.metrics["heldout_loss"]
        seen = seen[~np.isnan(seen)]
        return float(seen[-1]) if seen.size else float("nan")

    @property
    def loss_unit(self) -> str:
        """Unit of every loss of the run."""
        return self.identity["loss_unit"]

    @property
    def peak_lr(self) -> float:
        """Largest learning rate of the schedule."""
        return float(self.schedule.max())

    @property
    def batch_tokens(self) -> int:
        """Tokens in one update."""
        return self.identity["tokens_per_update"]

    def n(self, counting: str) -> int:
        """Returns the parameter count N by `counting`, one of `schema.COUNTINGS`."""
        if counting not in schema.COUNTINGS:
            raise InputError(f"counting = {counting!r}: must be one of {', '.join(schema.COUNTINGS)}")
        return int(self.identity["params"][counting])


def read(folder: str | os.PathLike[str]) -> Run:
    """Returns the run in `folder`.

    A damaged metrics line is left out and named in `notes`. Raises `InputError` naming the file
    where run.json or schedule.npy is missing or corrupt.
    """
    folder = files.local(folder)
    content = writer.load(folder)
    try:
        schema.check_identity(content["identity"])
        schema.check_fields("status", content["status"], schema.STATUS)
    except InputError as error:
        raise InputError(f"{folder / 'run.json'}: corrupt: {error}") from None
    notes: list[str] = []
    segments = [(attempt, rows) for attempt, rows in _segments(folder, notes)]
    rows = _latest(segments, notes)
    metrics = _columns([rows[step] for step in sorted(rows)])
    parent = content["identity"]["parent"]
    notes.extend(_gaps(metrics["step"], first=parent["step"] if parent else 0))
    return Run(
        folder=folder,
        identity=content["identity"],
        attempts=tuple(content["attempts"]),
        status=content["status"],
        schedule=_read_schedule(folder / "schedule.npy"),
        provenance=_read_provenance(folder / "schedule.json", notes),
        metrics=metrics,
        notes=tuple(notes),
    )


def find(root: str | os.PathLike[str]) -> list[Path]:
    """Returns the run folders at or under `root`, sorted; a run's own folder is not searched further."""
    root = files.local(root)
    if not root.is_dir():
        raise InputError(f"root = {str(root)!r}: no such folder")
    found = []
    for folder, below, names in os.walk(root):
        if "run.json" in names:
            found.append(Path(folder))
            below.clear()
    return sorted(found)


def _read_schedule(path: Path) -> np.ndarray:
    try:
        return np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: missing or corrupt: {error}") from None


def _read_provenance(path: Path, notes: list[str]) -> dict:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        notes.append(f"{path.name}: missing or corrupt: {error}")
        return {}


def _segments(folder: Path, notes: list[str]) -> list[tuple[int, list[dict]]]:
    """Returns (attempt, rows) of every segment, ordered by attempt and first step."""
    named = []
    for path in (folder / "metrics").glob("*.jsonl"):
        attempt, _, first = path.stem.partition("-")
        if attempt.isdecimal() and first.isdecimal():
            named.append((int(attempt), int(first), path))
        else:
            notes.append(f"metrics/{path.name}: not named <attempt>-<first step>.jsonl; left out")
    return [(attempt, _read_segment(path, notes)) for attempt, _, path in sorted(named)]


def _read_segment(path: Path, notes: list[str]) -> list[dict]:
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            row = json.loads(line)
            if not _is_row(row):
                raise ValueError("not a metrics row")
        except ValueError as error:  # UnicodeDecodeError is one too
            notes.append(f"metrics/{path.name} line {number}: left out: {error}")
            continue
        rows.append(row)
    return rows


def _is_row(row: object) -> bool:
    if not isinstance(row, dict) or not set(row) <= set(schema.METRIC_KIND):
        return False
    integers = all(type(row.get(key)) is int for key in schema.INTEGER_METRICS)
    return integers and all(value is None or type(value) in (int, float) for value in row.values())


def _latest(segments: list[tuple[int, list[dict]]], notes: list[str]) -> dict[int, dict]:
    """Returns step -> row from the latest attempt; notes result values that an attempt changed."""
    rows: dict[int, dict] = {}
    origin: dict[int, int] = {}
    changed: dict[tuple[str, int, int], list[tuple[int, object, object]]] = {}
    for attempt, segment in segments:
        for row in segment:
            step = row["step"]
            for key, kind in schema.METRIC_KIND.items():
                if step in rows and kind == "result" and rows[step].get(key) != row.get(key):
                    values = (step, rows[step].get(key), row.get(key))
                    changed.setdefault((key, origin[step], attempt), []).append(values)
            rows[step], origin[step] = row, attempt
    for (key, earlier, later), values in changed.items():
        step, before, after = values[0]
        more = f" (and {len(values) - 1} further steps)" if len(values) > 1 else ""
        notes.append(
            f"step {step}: {key} {before} in attempt {earlier} became {after} in attempt {later}{more}"
        )
    return rows


def _columns(rows: list[dict]) -> dict[str, np.ndarray]:
    columns = {}
    for name in schema.METRIC_KIND:
        if name in schema.INTEGER_METRICS:
            columns[name] = np.array([row[name] for row in rows], dtype=np.int64)
        else:
            values = [row.get(name) for row in rows]
            columns[name] = np.array(
                [np.nan if value is None else value for value in values], dtype=np.float64
            )
    return columns


def _gaps(steps: np.ndarray, *, first: int) -> list[str]:
    """Returns a note for each stretch from update `first` on without rows, judged by their usual distance."""
    if steps.size < 2:
        return []
    distance = np.diff(steps)
    usual = int(np.median(distance))
    notes = [f"no rows for steps {first} to {steps[0] - 1}"] if steps[0] - first >= 2 * usual else []
    for index in np.flatnonzero(distance >= 2 * usual):
        notes.append(f"no rows for steps {steps[index] + 1} to {steps[index + 1] - 1}")
    return notes
