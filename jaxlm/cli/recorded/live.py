"""The runs under folders as they stand now, read again and again: only what has changed is read anew."""

import dataclasses
import json
import math
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scaling import record
from scaling.errors import InputError
from scaling.record import files
from scaling.record.summary import Summary


# What the drivers of object stores say of a file that changes whenever it does: s3fs, gcsfs, fsspec's memory.
VERSION = ("ETag", "etag", "md5Hash", "mtime", "created", "size")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One run now.

    Attributes:
      run: its summary; of a run that trains, as of its last segment of metrics.
      tokens_per_second: of the last segment, the median; NaN where unknown.
      seconds_left: of training, at that speed; NaN unless it trains.
    """

    run: Summary
    tokens_per_second: float
    seconds_left: float


class Live:
    """Reads the records under folders or URLs, from any process or machine; `poll` again and again.

    A poll asks for names and times of change, and reads the records that have changed since: a thousand runs of which
    none moves cost a listing.
    """

    def __init__(self, roots: Sequence[str]) -> None:
        self._roots = [files.folder(root) for root in roots]
        self._seen: dict[Any, tuple[Any, Row]] = {}
        self.damaged: tuple[str, ...] = ()

    def poll(self) -> list[Row]:
        """Returns every run, sorted by folder; `damaged` has a line for each that cannot be read.

        Raises `InputError` where a root is no folder, and where it holds neither a run nor a study at work, `OSError`
        where a store does not answer.
        """
        damaged = []
        marks = {folder: mark for root in self._roots for folder, mark in _marks(root).items()}
        for folder, mark in marks.items():
            seen = self._seen.get(folder)
            try:
                if seen is None or seen[0] != mark:
                    self._seen[folder] = mark, _row(record.summarise(folder))
                elif seen[1].run.status["state"] == "running":
                    held = record.is_held(folder)  # a process that dies writes nothing
                    self._seen[folder] = mark, _row(dataclasses.replace(seen[1].run, held=held), seen[1])
            except InputError as error:
                damaged.append(str(error))
        self._seen = {folder: self._seen[folder] for folder in sorted(marks) if folder in self._seen}
        self.damaged = tuple(damaged)
        if not marks and not self.at_work():
            raise InputError(f"root = {', '.join(map(str, self._roots))}: no study: it holds no run, and none is at "
                             "work there")
        return [row for _, row in self._seen.values()]

    def at_work(self) -> bool:
        """Whether a process trains one of the studies that the runs belong to, or one beside them without a run."""
        studies = {*self._roots, *(folder.parent for folder in self._seen)}
        studies.update(lock.parent for root in self._roots if isinstance(root, Path) for lock in root.glob("*/lock"))
        return any(map(record.is_held, studies))


def _marks(root: files.AnyPath) -> dict[files.AnyPath, Any]:
    """Returns for each run folder under `root` what changes whenever its record does."""
    if isinstance(root, Path):
        return {folder: (_changed(folder / "run.json"), _changed(folder / "metrics")) for folder in record.find(root)}
    folders = record.find(root)
    present: dict[str, list[Any]] = {folder.path: [] for folder in folders}
    for path, info in root.fs.find(root.path, detail=True).items():  # one listing, a thousand names a request
        folder, _, name = path.rpartition("/")
        if name == "run.json" and folder in present:
            present[folder].append([str(info.get(key)) for key in VERSION])
        elif folder.endswith("/metrics") and folder.removesuffix("/metrics") in present:
            present[folder.removesuffix("/metrics")].append(name)
    return {folder: present[folder.path] for folder in folders}


def _changed(path: Path) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:  # no metrics yet
        return 0, 0
    return found.st_mtime_ns, found.st_size


def _row(run: Summary, before: Row | None = None) -> Row:
    """Returns the row of `run`, whose speed is that of `before` where the metrics are the same."""
    speed = before.tokens_per_second if before else _speed(run)
    left = (run.length - run.updates) * run.batch_tokens / speed if run.state == "running" and speed > 0 else math.nan
    return Row(run=run, tokens_per_second=speed, seconds_left=left)


def _speed(run: Summary) -> float:
    """Tokens per second by the last segment of a run that has not ended, NaN where there is none."""
    if run.result is not None:
        return math.nan
    named = [name.removesuffix(".jsonl").split("-") for name in files.names(run.folder / "metrics")]
    newest = max(((int(a), int(b)) for a, b in (each for each in named if len(each) == 2)
                  if a.isdecimal() and b.isdecimal()), default=None)
    if newest is None:
        return math.nan
    seconds = []
    for line in files.read_bytes(run.folder / "metrics" / f"{newest[0]}-{newest[1]}.jsonl").splitlines():
        try:
            value = json.loads(line)["seconds"]
        except (ValueError, KeyError, TypeError):
            continue  # the full reader names it
        seconds += [value] if isinstance(value, (int, float)) and value > 0 else []
    return run.batch_tokens / statistics.median(seconds) if seconds else math.nan
