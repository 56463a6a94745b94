"""One process per run folder: an advisory lock that dies with its process."""

import contextlib
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path

from jaxlm.config import ConfigError


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Holds the lock of a run's folder; raises `ConfigError` where another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as file:
        for wait in (0.05, 0.2, 0.5, None):  # a reader of `is_locked` holds it for an instant
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if wait is None:
                    raise ConfigError(f"run = {folder.name!r}: another process is training it") from error
                time.sleep(wait)
        yield


def is_locked(folder: Path) -> bool:
    """Whether a live process holds the lock of the run's folder."""
    path = folder / "lock"
    if not path.exists():
        return False
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
