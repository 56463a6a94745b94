"""One process per run folder: a file lock that dies with its process, or a lease where there is none."""

import contextlib
import errno
import os
import platform
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from scaling.record import files, lease

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_BUSY = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
_READERS_INSTANT = 0.5  # seconds; `is_held` takes the lock for a moment


class Hold(Protocol):
    """What the holder of a run asks before each write."""

    def check(self) -> None:
        """Raises `LeaseLost` where this process may write the run no longer."""


class _FileLock:
    def check(self) -> None:
        """A file lock is held as long as its process lives."""


@contextlib.contextmanager
def run_lock(
    folder: str | os.PathLike[str], *, wait: float = 0.0, timing: lease.Timing | None = None
) -> Iterator[Hold]:
    """Holds the run folder for this process, and clears it of the temporary files of dead ones.

    A local folder by flock on `lock`, a URL, or a file system without flock, by `lease`. Ask the `Hold`
    for `check()` before each write.

    Args:
      folder: folder of the run; made where absent.
      wait: seconds to try again before giving up.
      timing: times of a lease; by default `Timing.from_environment()`.

    Raises `InputError` naming host and pid of another process that holds it, `OSError` where the folder
    cannot be written.
    """
    folder = files.folder(folder)
    with contextlib.ExitStack() as stack:
        hold = stack.enter_context(_flocked(folder, wait)) if isinstance(folder, Path) and fcntl else None
        if hold is None:
            hold = stack.enter_context(_leased(folder, wait, timing or lease.Timing.from_environment()))
        files.remove_leftovers(folder)
        yield hold


def is_held(folder: str | os.PathLike[str]) -> bool:
    """Whether a process holds the run folder; for a lease an estimate, see `lease.is_held`."""
    folder = files.folder(folder)
    if isinstance(folder, Path) and fcntl:
        if not (folder / "lock").exists():
            return False
        with open(folder / "lock", "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return False
            except OSError as error:
                if error.errno in _BUSY:
                    return True
    return lease.is_held(folder)


@contextlib.contextmanager
def _flocked(folder: Path, wait: float) -> Iterator[Hold | None]:
    """Holds `folder`/lock; yields None where the file system has no flock."""
    folder.mkdir(parents=True, exist_ok=True)
    # Opened without truncation: it names the process that holds it.
    with open(folder / "lock", "a+b") as file:
        deadline = time.monotonic() + max(wait, _READERS_INSTANT)
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in _BUSY:
                    yield None
                    return
                if time.monotonic() >= deadline:
                    file.seek(0)
                    raise lease.held(folder.name, file.read()) from None
            time.sleep(0.05)
        file.truncate(0)
        file.write(files.to_json({"host": platform.node(), "pid": os.getpid()}, "lock").encode())
        file.flush()
        yield _FileLock()


@contextlib.contextmanager
def _leased(folder: files.AnyPath, wait: float, timing: lease.Timing) -> Iterator[Hold]:
    held = lease.Lease(folder, timing)
    held.acquire(wait)
    stop = threading.Event()

    def heartbeat() -> None:
        while not stop.wait(timing.beat):
            with contextlib.suppress(OSError):  # a missed beat; `check` counts the time since the last
                held.beat()

    thread = threading.Thread(target=heartbeat, name=f"lease of {folder.name}", daemon=True)
    thread.start()
    try:
        yield held
    finally:
        stop.set()
        thread.join(timing.beat)
        # A beat still under way would undo the release. Unreleased, the lease ends by itself.
        if not thread.is_alive():
            with contextlib.suppress(OSError):
                held.release()
