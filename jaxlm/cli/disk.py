"""What runs hold on disk: committed checkpoints and bytes, found without Orbax."""

import os
from pathlib import Path

TEMPORARY = ".orbax-checkpoint-tmp"  # the mark of a checkpoint that Orbax has not committed, and cleans up


def tree_bytes(path: Path) -> int:
    """Returns the bytes of all files under `path`; what is not there, or vanishes meanwhile, has none."""
    if not isinstance(path, os.PathLike) or "://" in str(path):
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.exists() else 0
    return _local_bytes(os.fspath(path))


def saved_steps(folder: Path) -> list[int]:
    """Returns the steps of the committed checkpoints of the run in `folder`, ascending.

    Orbax commits by renaming to the step's number, on object stores by a marker file.
    """
    root = folder / "checkpoints"
    if not root.is_dir():
        return []
    remote = "://" in str(root)
    steps = [path for path in root.iterdir() if path.name.isdecimal() and path.is_dir()]
    return sorted(int(path.name) for path in steps if not remote or (path / "commit_success.txt").exists())


def leftovers(folder: Path) -> list[Path]:
    """Returns what interrupted saves and deletions have left among the checkpoints of the run in `folder`."""
    root = folder / "checkpoints"
    return sorted(path for path in root.iterdir() if TEMPORARY in path.name) if root.is_dir() else []


def _local_bytes(path: str) -> int:
    total = 0
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    total += _local_bytes(entry.path)
                else:
                    total += entry.stat(follow_symlinks=False).st_size
    except (FileNotFoundError, NotADirectoryError):
        pass
    return total
