"""Local files of a record: atomic, durable replacement and strict JSON."""

import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from scaling.errors import InputError


def local(path: str | os.PathLike[str]) -> Path:
    """Returns `path` as a `Path`; raises `InputError` for a URL, which no local file call can serve."""
    if re.match(r"^[A-Za-z][A-Za-z0-9+.-]*://", os.fspath(path)):
        raise InputError(f"path = {os.fspath(path)!r}: a run record is kept on a local path, not a URL")
    return Path(path)


def replace_atomically(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Writes `path` through a temporary file beside it, flushed to disk before it takes the name.

    A reader, or a machine that dies at any moment, sees the old file or the new one, never a part.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile: its mode 0600 would keep colleagues from reading the record.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def to_json(data: Any, where: str, *, indent: int | None = None) -> str:
    """Returns `data` as strict JSON; numpy scalars and arrays become numbers and lists.

    Raises `InputError` naming `where` for what JSON cannot hold, NaN and infinity included.
    """
    try:
        return json.dumps(data, indent=indent, allow_nan=False, default=_plain)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: not JSON data: {error}") from None


def null_if_not_finite(value: Any) -> Any:
    """Returns None for NaN and infinity, anything else unchanged."""
    return None if isinstance(value, (float, np.floating)) and not math.isfinite(value) else value


def _plain(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} {value!r}")


def _sync_folder(folder: Path) -> None:
    # The rename itself is durable only once the folder is; Windows cannot open a folder.
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
