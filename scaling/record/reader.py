"""Reads run records: identity, status, schedule and the metrics of every attempt as columns."""

import dataclasses
import json
import os
from collections.abc import Callable

import numpy as np

from scaling.errors import InputError
from scaling.record import diagnostics, files, schema, writer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One run as read from its folder.

    `metrics` holds one array [rows] for each name of `schema.METRICS`, ordered by step: int64 for
    step and tokens, float64 elsewhere with NaN for null. `diagnostics` does so for each name of
    `schema.DIAGNOSTICS`, [rows, entries] for lists, without rows where none were recorded. `notes`
    says what the reader met: values of an earlier attempt that differ, lines it could not read, steps
    without a row. `folder` is a `UPath` for a run on an object store.
    """

    folder: files.AnyPath
    identity: dict
    attempts: tuple[dict, ...]
    status: dict
    schedule: np.ndarray
    provenance: dict
    metrics: dict[str, np.ndarray]
    diagnostics: dict[str, np.ndarray]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, {self.state}, {self.metrics['step'].size} rows)"

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
    folder = files.folder(folder)
    content = writer.load(folder)
    try:
        schema.check_identity(content["identity"])
        schema.check_fields("status", content["status"], schema.STATUS)
    except InputError as error:
        raise InputError(f"{folder / 'run.json'}: corrupt: {error}") from None
    notes: list[str] = []
    metrics = _columns(_latest(_segments(folder / "metrics", _is_row, notes), schema.METRIC_KIND, notes))
    diagnosed = _latest(_segments(folder / "diagnostics", diagnostics.is_row, notes), diagnostics.KIND, notes)
    parent = content["identity"]["parent"]
    notes.extend(_gaps(metrics["step"], first=parent["step"] if parent else 0))
    return Run(
        folder=folder,
        identity=content["identity"],
        attempts=tuple(content["attempts"]),
        status=content["status"],
        schedule=writer.load_schedule(folder / "schedule.npy"),
        provenance=_read_provenance(folder / "schedule.json", notes),
        metrics=metrics,
        diagnostics=diagnostics.columns(diagnosed),
        notes=tuple(notes),
    )


def find(root: str | os.PathLike[str]) -> list[files.AnyPath]:
    """Returns the run folders at or under `root`, sorted; a run's own folder is not searched further."""
    root = files.folder(root)
    found = files.folders_with(root, "run.json")
    if found is None:
        raise InputError(f"root = {str(root)!r}: no such folder")
    return sorted(found)


def _read_provenance(path: files.AnyPath, notes: list[str]) -> dict:
    try:
        return json.loads(files.read_bytes(path))
    except (FileNotFoundError, ValueError) as error:
        notes.append(f"{path.name}: missing or corrupt: {error}")
        return {}


def _segments(
    folder: files.AnyPath, is_row: Callable[[object], bool], notes: list[str]
) -> list[tuple[int, list[dict]]]:
    """Returns (attempt, rows) of every segment in `folder`, ordered by attempt and first step."""
    named = []
    for name in files.names(folder):
        if not name.endswith(".jsonl"):
            continue
        attempt, _, first = name.removesuffix(".jsonl").partition("-")
        if attempt.isdecimal() and first.isdecimal():
            named.append((int(attempt), int(first), name))
        else:
            notes.append(f"{folder.name}/{name}: not named <attempt>-<first step>.jsonl; left out")
    named.sort()
    contents = files.read_all(folder, [name for _, _, name in named])
    return [
        (attempt, _parse(content, f"{folder.name}/{name}", is_row, notes=notes))
        for (attempt, _, name), content in zip(named, contents, strict=True)
    ]


def _parse(content: bytes, where: str, is_row: Callable[[object], bool], *, notes: list[str]) -> list[dict]:
    """Returns the rows of a segment's `content`; notes those that are none."""
    rows = []
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            row = json.loads(line)
            if not is_row(row):
                raise ValueError("not a row of the schema")
        except ValueError as error:  # UnicodeDecodeError is one too
            notes.append(f"{where} line {number}: left out: {error}")
            continue
        rows.append(row)
    return rows


def _is_row(row: object) -> bool:
    if not isinstance(row, dict) or not set(row) <= set(schema.METRIC_KIND):
        return False
    integers = all(type(row.get(key)) is int for key in schema.INTEGER_METRICS)
    return integers and all(value is None or type(value) in (int, float) for value in row.values())


def _latest(segments: list[tuple[int, list[dict]]], kinds: dict[str, str], notes: list[str]) -> list[dict]:
    """Returns the row of each step from the latest attempt; notes result values that an attempt changed."""
    rows: dict[int, dict] = {}
    origin: dict[int, int] = {}
    changed: dict[tuple[str, int, int], list[tuple[int, object, object]]] = {}
    for attempt, segment in segments:
        for row in segment:
            step = row["step"]
            for key, kind in kinds.items():
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
    return [rows[step] for step in sorted(rows)]


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
