"""Summaries of many runs: what a listing shows, read without the metrics of finished runs."""

import dataclasses
import functools
import io
import json
import math
import os
from typing import Any

import numpy as np

from scaling.errors import InputError
from scaling.record import files, lock, reader, schema, writer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """One run as a listing shows it.

    Attributes:
      folder: folder of the run.
      identity, attempts, status: as in run.json.
      held: whether a live process holds the run's lock; asked only of runs recorded as running.
      length: updates of the whole run.
      peak_lr: largest learning rate of the schedule.
      updates: updates made. Of a run that has not finished, as the last segment of its latest
        attempt has them; so are the three below.
      tokens: D, tokens seen.
      train_loss: loss of the last update, in `loss_unit`; NaN where unknown and for finished runs.
      heldout_loss: last held-out loss, in `loss_unit`; NaN where none was recorded.
    """

    folder: files.AnyPath
    identity: dict[str, Any]
    attempts: tuple[dict[str, Any], ...]
    status: dict[str, Any]
    held: bool
    length: int
    peak_lr: float
    updates: int
    tokens: int
    train_loss: float
    heldout_loss: float

    @property
    def name(self) -> str:
        """Readable name of the run."""
        return self.identity["name"]

    @property
    def study(self) -> str:
        """Name of the study that the run belongs to, empty for none."""
        return self.identity["study"]

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self.identity["seed"]

    @property
    def state(self) -> str:
        """One of `schema.STATES`, or `interrupted`: recorded as running, but no process holds its lock."""
        state = self.status["state"]
        return "interrupted" if state == "running" and not self.held else state

    @property
    def result(self) -> dict[str, Any] | None:
        """What a finished run ended with, None for any other."""
        return self.status["result"]

    @property
    def initial(self) -> dict[str, Any] | None:
        """{"run", "step"} of the checkpoint with whose parameters a run that is no branch began, None without one."""
        found = self.identity["config"].get("initial")
        return found if isinstance(found, dict) and {"run", "step"} <= found.keys() else None

    @property
    def loss_unit(self) -> str:
        """Unit of every loss of the run."""
        return self.identity["loss_unit"]

    @property
    def batch_tokens(self) -> int:
        """Tokens in one update."""
        return self.identity["tokens_per_update"]

    @property
    def bits_per_byte(self) -> float:
        """Held-out loss in bits per byte; NaN where there is none or tokens have no size in bytes."""
        size = self.identity["bytes_per_token"]
        return self.heldout_loss / size / math.log(2) if size else math.nan

    def n(self, counting: str) -> int:
        """Returns the parameter count N by `counting`, one of `schema.COUNTINGS`."""
        if counting not in schema.COUNTINGS:
            raise InputError(f"counting = {counting!r}: must be one of {', '.join(schema.COUNTINGS)}")
        return int(self.identity["params"][counting])


def summaries(*roots: str | os.PathLike[str]) -> tuple[list[Summary], list[str]]:
    """Returns the runs at or under `roots`, each once, sorted by folder, and one line for each damaged one.

    Reads run.json and schedule.npy of each run, and one metrics segment of each that has not finished.
    Raises `InputError` where a root is no folder.
    """
    found, damaged = [], []
    for folder in sorted({folder for root in roots for folder in reader.find(root)}):
        try:
            found.append(summarise(folder))
        except InputError as error:
            damaged.append(str(error))
    return found, damaged


def summarise(folder: files.AnyPath) -> Summary:
    """Returns the summary of the run in `folder`; raises `InputError` naming a missing or corrupt file."""
    content = writer.load(folder)
    identity, status = content["identity"], content["status"]
    try:
        schema.check_identity(identity)
        schema.check_fields("status", status, schema.STATUS)
        if status["result"] is not None:
            schema.check_fields("result", status["result"], schema.RESULT)
        for number, attempt in enumerate(content["attempts"]):
            if not isinstance(attempt, dict):
                raise InputError(f"attempts[{number}] = {attempt!r}: must be a dict")
    except InputError as error:
        raise InputError(f"{folder / 'run.json'}: corrupt: {error}") from None
    length, peak_lr = _schedule(folder / "schedule.npy")
    result = status["result"]
    last = {} if result is not None else _last_row(folder / "metrics")
    done = result["updates"] if result is not None else last.get("step", -1) + 1
    return Summary(
        folder=folder, identity=identity, attempts=tuple(content["attempts"]), status=status,
        held=status["state"] == "running" and lock.is_held(folder), length=length, peak_lr=peak_lr,
        updates=done, tokens=(result or last).get("tokens", 0), train_loss=_number(last.get("train_loss")),
        heldout_loss=_number((result or last).get("heldout_loss")),
    )


def _schedule(path: files.AnyPath) -> tuple[int, float]:
    # Headers repeat from run to run, and parsing one costs NumPy more than reading the file.
    try:
        content = files.read_bytes(path)
        shape, _, dtype, start = _header(content[: 10 + int.from_bytes(content[8:10], "little")])
        rates = np.frombuffer(content, dtype, offset=start)
        if rates.shape != shape:
            raise ValueError(f"shape {rates.shape} against {shape}")
    except (OSError, ValueError, EOFError):
        rates = writer.load_schedule(path)  # reads any array, or says what is wrong
    if rates.size == 0:
        raise InputError(f"{path}: corrupt: it holds no rate")
    return rates.size, float(rates.max())


@functools.lru_cache(maxsize=64)
def _header(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Returns shape, order, dtype and length of the header of an .npy file of version 1."""
    file = io.BytesIO(head)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("another version")
    return *np.lib.format.read_array_header_1_0(file), len(head)


def _last_row(folder: files.AnyPath) -> dict[str, Any]:
    """Returns the last row of the newest segment, with the last held-out loss that the segment has."""
    named = []
    for name in files.names(folder):
        attempt, _, first = name.removesuffix(".jsonl").partition("-")
        if attempt.isdecimal() and first.isdecimal():
            named.append((int(attempt), int(first), name))
    if not named:
        return {}
    last: dict[str, Any] = {}
    for line in reversed(files.read_bytes(folder / max(named)[2]).splitlines()):
        if last and b'"heldout_loss"' not in line:
            continue
        try:
            row = json.loads(line)
        except ValueError:
            continue  # the full reader names it
        if isinstance(row, dict) and all(type(row.get(key)) is int for key in schema.INTEGER_METRICS):
            last = row | last
            if last.get("heldout_loss") is not None:
                break
    return last


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
