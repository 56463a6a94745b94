"""Copies of a run's recorded rows for TensorBoard and Weights & Biases, which never touch the run itself.

The record is the truth; a mirror is a view of it. Whatever goes wrong in one turns that mirror off
with one warning, and training goes on. Metrics keep the names of the record, so that
`scaling import tensorboard` reads a mirror back without naming a column.
"""

import dataclasses
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from jaxlm.config import ConfigError
from jaxlm.data.extras import load_extra

MIRRORS = ("tensorboard", "wandb")

# Seconds that a server out of reach may hold up the start or the end of a run.
_PATIENCE = 30.0

Rows = Sequence[Mapping[str, Any]]


class Mirror(Protocol):
    """Where rows are copied to. Any exception turns the mirror off."""

    def write(self, rows: Rows) -> None:
        """Copies rows of the record; their steps grow."""

    def close(self, state: str) -> None:
        """Ends the mirror; `state` is the run's in the record."""


class TensorBoard:
    """Event files in `folder`, one for each attempt, scalars in float32 under the record's names.

    An attempt begins with TensorBoard's mark of a session start at its first step, which tells it to
    drop what earlier attempts wrote from that step on. Files are named by attempt, so that their order
    does not hang on the clock, and are written here and not by `EventFileWriter`, whose `add_event` can wait
    for ever on a writer thread that a full disk has ended.
    """

    def __init__(self, folder: Path, attempt: int) -> None:
        record_writer = load_extra("tensorboard.summary.writer.record_writer", "track")
        self._event = load_extra("tensorboard.compat.proto.event_pb2", "track")
        self._summary = load_extra("tensorboard.compat.proto.summary_pb2", "track")
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{attempt:010d}.{socket.gethostname()}"
        self._writer = record_writer.RecordWriter(open(folder / name, "xb"))
        self._started = False
        self._add(file_version="brain.Event:2")

    def write(self, rows: Rows) -> None:
        """Appends the rows and flushes them to the file."""
        for row in rows:
            if not self._started:
                start = self._event.SessionLog(status=self._event.SessionLog.START)
                self._add(step=row["step"], session_log=start)
                self._started = True
            values = [self._summary.Summary.Value(tag=name, simple_value=value)
                      for name, value in _scalars(row)]
            self._add(step=row["step"], summary=self._summary.Summary(value=values))
        self._writer.flush()

    def close(self, state: str) -> None:
        """Closes the file; TensorBoard has no place for the state."""
        self._writer.close()

    def _add(self, **fields: Any) -> None:
        self._writer.write(self._event.Event(wall_time=time.time(), **fields).SerializeToString())


class WandB:
    """A run of Weights & Biases with the run folder's name as id; its files lie in `folder`/wandb.

    A resumed run goes on under the same id. W&B takes steps in growing order only: rows that repeat
    steps it has are left out online, where the record's later values win; offline each attempt is a
    folder of its own, and `wandb sync` drops what repeats. Settings of the environment (WANDB_MODE,
    WANDB_PROJECT, WANDB_ENTITY, WANDB_API_KEY) hold as usual; `WANDB_MODE=offline` uses no network.

    Args:
      folder: the run's folder.
      config: the resolved configuration, shown beside the run.
      project: default WANDB_PROJECT, else the name of the folder that holds the run.
      mode: default WANDB_MODE, else online.
    """

    def __init__(
        self, folder: Path, config: Mapping[str, Any], *, project: str | None = None,
        mode: Literal["online", "offline"] | None = None,
    ) -> None:
        # Reports of wandb's own errors would use the network offline too.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        wandb = load_extra("wandb", "track")
        options: dict[str, Any] = {
            "silent": True, "console": "off", "init_timeout": _PATIENCE, "login_timeout": _PATIENCE,
            "finish_timeout": _PATIENCE, "disable_git": True, "disable_code": True, "x_disable_stats": True,
            "x_disable_meta": True, "x_save_requirements": False}
        known = wandb.Settings.model_fields
        settings = wandb.Settings(**{name: value for name, value in options.items() if name in known})
        folder.mkdir(parents=True, exist_ok=True)
        # wandb replaces both to learn how the process ended; close() tells it.
        leave, hook = sys.exit, sys.excepthook
        try:
            self._run = wandb.init(
                project=project or os.environ.get("WANDB_PROJECT") or folder.resolve().parent.name,
                id=folder.name, name=folder.name, resume="allow", mode=mode, dir=str(folder),
                config=dict(config), reinit="create_new", settings=settings)
        finally:
            sys.exit, sys.excepthook = leave, hook
        self._next = self._run.step

    def write(self, rows: Rows) -> None:
        """Logs the rows that W&B does not have yet."""
        for row in rows:
            if row["step"] < self._next:
                continue
            self._run.log(dict(_scalars(row)), step=row["step"])
            self._next = row["step"] + 1

    def close(self, state: str) -> None:
        """Ends the run: finished, or failed in W&B's terms, with the record's state in its summary."""
        self._run.summary["state"] = state
        self._run.finish(exit_code=0 if state == "finished" else 1)


@dataclasses.dataclass(kw_only=True)
class Mirrors:
    """The mirrors of one attempt; none of its methods raises an `Exception`."""

    open: dict[str, Mirror]
    warn: Callable[[str], None]

    def write(self, rows: list[dict[str, Any]]) -> None:
        """Copies rows that are in the record to every mirror that still works."""
        for name in list(self.open):
            self._guarded(name, lambda mirror: mirror.write(rows))

    def close(self, state: str) -> None:
        """Ends every mirror; `state` is the run's in the record. A second call does nothing."""
        for name in list(self.open):
            self._guarded(name, lambda mirror: mirror.close(state))
            self.open.pop(name, None)

    def _guarded(self, name: str, call: Callable[[Mirror], None]) -> None:
        try:
            call(self.open[name])
        except Exception as error:
            del self.open[name]
            self.warn(_warning(name, error))


def check_mirrors(names: Sequence[str]) -> None:
    """Raises `ConfigError` for an unknown mirror, `ModuleNotFoundError` for one whose package is missing."""
    for name in names:
        if name not in MIRRORS:
            raise ConfigError(f"mirror = {name!r}: must be one of {', '.join(MIRRORS)}")
        load_extra(name, "track")


def open_mirrors(
    names: Sequence[str], folder: Path, config_dict: dict[str, Any], attempt: int,
    *, warn: Callable[[str], None] = lambda text: None,
) -> Mirrors:
    """Returns the mirrors of an attempt; one that cannot be opened is left out with a warning.

    Args:
      names: of `MIRRORS`; see `check_mirrors`, which refuses wrong ones before a run starts.
      folder: the run's folder, local; TensorBoard's files go to `folder`/tensorboard.
      config_dict: the resolved configuration.
      attempt: the number that `record.start_attempt` returned.
      warn: gets one line for each mirror that is turned off.
    """
    mirrors = Mirrors(open={}, warn=warn)
    for name in dict.fromkeys(names):
        try:
            check_mirrors([name])
            if "://" in str(folder):
                raise ConfigError(f"{folder} is not a local folder")
            folder = Path(folder)
            mirrors.open[name] = (TensorBoard(folder / "tensorboard", attempt) if name == "tensorboard"
                                  else WandB(folder, config_dict))
        except Exception as error:
            warn(_warning(name, error))
    return mirrors


def _scalars(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yields name and value of everything in a row but its step; lists as name/0, name/1 and so on."""
    for name, value in row.items():
        if isinstance(value, (list, tuple)):
            yield from ((f"{name}/{index}", item) for index, item in enumerate(value) if item is not None)
        elif name != "step" and value is not None:
            yield name, value


def _warning(name: str, error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"mirror {name} is off, the record goes on: {reason}"
