"""Tries out whether a place can hold runs: writing, flushing to disk, locks."""

import contextlib
import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

from scaling.errors import InputError
from scaling.record import files, lock


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """A place for runs: where it was tried, free bytes (None: unknown), and what failed (None: works)."""

    path: str
    tried: str
    free_bytes: int | None
    write_error: str | None = None
    lock_error: str | None = None


def try_place(out: str | os.PathLike[str]) -> Place:
    """Returns what `out`, or its nearest parent that is there, can do; leaves nothing behind.

    Raises `InputError` where it is a file.
    """
    tried = files.folder(out)
    if isinstance(tried, Path):
        while not tried.exists() and tried != tried.parent:
            tried = tried.parent
        if not tried.is_dir():
            raise InputError(f"out = {os.fspath(out)!r}: {tried} is a file, not a folder")
    free = shutil.disk_usage(tried).free if isinstance(tried, Path) else None
    probe = tried / f".doctor-{os.getpid()}"
    found: dict[str, Any] = {"path": str(out), "tried": str(tried), "free_bytes": free}
    try:
        try:
            files.replace_atomically(probe / "probe", b"probe")  # flushed, renamed, and the folder flushed
            if files.read_bytes(probe / "probe") != b"probe":
                raise OSError("what was written reads otherwise")
        except OSError as error:
            return Place(**found, write_error=" ".join(str(error).split()))
        return Place(**found, lock_error=_try_lock(probe))
    finally:
        with contextlib.suppress(OSError):
            _remove(probe)


def _try_lock(probe: Any) -> str | None:
    try:
        with lock.run_lock(probe):
            if not lock.is_held(probe):
                return "a lock that is held looks free"
            try:
                with lock.run_lock(probe):
                    return "two processes may hold one lock"
            except InputError:
                pass
        return "a lock that was released looks held" if lock.is_held(probe) else None
    except (OSError, InputError) as error:
        return " ".join(str(error).split())


def _remove(probe: Any) -> None:
    if isinstance(probe, Path):
        shutil.rmtree(probe)
    else:
        probe.fs.rm(probe.path, recursive=True)
