"""What every importer reads a foreign log into: metrics by step, in the order in which they were written."""

import dataclasses
import hashlib
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from scaling.errors import InputError
from scaling.record.schema import METRIC_KIND

# What `--columns` may name: every metric of a record, the step included.
METRICS = tuple(METRIC_KIND)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Log:
    """A training log read from foreign files.

    Attributes:
      format: `maxtext`, `tensorboard` or `wandb`.
      files: (name, SHA-256) of every file read.
      columns: metric of a record -> name in the log.
      attempts: for each start of the run its rows: {"step", metric: value}, ordered by step; a value
        that is not finite is None.
      notes: what a reader of the record should know about the log.
    """

    format: str
    files: tuple[tuple[str, str], ...]
    columns: Mapping[str, str]
    attempts: tuple[tuple[dict, ...], ...]
    notes: tuple[str, ...] = ()


def chosen_columns(
    where: object, asked: Mapping[str, str], defaults: Mapping[str, str], present: Collection[str]
) -> dict[str, str]:
    """Returns metric -> name in the log: those asked for, and the defaults that the log has.

    Raises `InputError` for an unknown metric, for a name asked for that the log lacks, and where
    neither loss is there; the names that there are stand in the message.
    """
    known = ", ".join(sorted(map(str, present))) or "none"
    for metric, name in asked.items():
        if metric not in METRICS:
            raise InputError(f"--columns {metric}={name}: no such metric; known: {', '.join(METRICS)}")
        if name not in present:
            raise InputError(f"{where}: no {name!r} for {metric}; there are: {known}")
    columns = {metric: name for metric, name in defaults.items() if name in present} | dict(asked)
    if not {"train_loss", "heldout_loss"} & set(columns):
        raise InputError(
            f"{where}: neither train_loss nor heldout_loss; name one with --columns train_loss=...; "
            f"there are: {known}"
        )
    return columns


def split_attempts(points: Iterable[tuple[int, Mapping[str, float]] | None]) -> tuple[tuple[dict, ...], ...]:
    """Returns the rows of every attempt from `points` in the order in which they were written.

    A point is (step, metrics), or None where the log itself says that the run was started again. A
    metric whose step repeats or goes back starts the next attempt too; metrics are looked at one by
    one, since logs write an evaluation before or after the row of its update.
    """
    attempts: list[dict[int, dict]] = [{}]
    last: dict[str, int] = {}
    for point in points:
        if point is None or any(point[0] <= last.get(metric, -1) for metric in point[1]):
            attempts.append({})
            last = {}
        if point is None:
            continue
        step, metrics = point
        last.update(dict.fromkeys(metrics, step))
        row = attempts[-1].setdefault(step, {"step": step})
        row.update({metric: _finite(value) for metric, value in metrics.items()})
    return tuple(tuple(rows[step] for step in sorted(rows)) for rows in attempts if rows)


def as_step(value: object, where: str) -> int:
    """Returns a step as an integer; logs keep it as 3, 3.0 or "3". Raises `InputError` otherwise."""
    try:
        number = float(value)  # type: ignore[arg-type]
        if isinstance(value, bool) or not number.is_integer() or number < 0:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{where}: step = {value!r}: must be an integer from 0") from None
    return int(value) if isinstance(value, int) else int(number)


def as_number(value: object, where: str) -> float | None:
    """Returns a logged value as a number, None for null, an empty field and what is not finite."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        if isinstance(value, bool):
            raise TypeError
        return _finite(float(value))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InputError(f"{where} = {value!r}: must be a number") from None


def text_lines(path: Path) -> list[str]:
    """Returns the lines of a text file; raises `InputError` naming the file where it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"source = {str(path)!r}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file") from None
    # Not splitlines: a field may hold one of the rarer line separators.
    lines = text.split("\n")
    if not text.strip():
        raise InputError(f"{path}: is empty")
    return lines


def digests(paths: Sequence[Path]) -> tuple[tuple[str, str], ...]:
    """Returns (name, SHA-256) of each file."""
    return tuple((path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths)


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value
