"""The pair of files in which a schedule is exchanged: `schedule.npy` and, saying where it came from, `schedule.json`."""

import io
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from scaling.errors import InputError
from scaling.record import files


def save_schedule(folder: str | os.PathLike[str], rates: np.ndarray, provenance: Mapping[str, Any]) -> None:
    """Writes `rates` [updates] and `provenance` into `folder`, which is made where absent.

    `jaxlm.schedules.FromArray(path=folder)` trains with it. Raises `InputError` where another schedule or
    provenance stands there already; equal files are left as they are.
    """
    place, stored = files.folder(folder), io.BytesIO()
    np.save(stored, rates)
    text = files.to_json(dict(provenance), "schedule", indent=1) + "\n"
    contents = {"schedule.npy": stored.getvalue(), "schedule.json": text.encode()}
    missing = [name for name in contents if not files.exists(place / name)]
    for name, data in contents.items():
        if name not in missing and files.read_bytes(place / name) != data:
            raise InputError(f"folder = {str(folder)!r}: holds another {name}; nothing is overwritten")
    for name in missing:
        files.replace_atomically(place / name, contents[name])
