"""Files of a record, on local paths and on object-store URLs: atomic replacement, whole reads, strict JSON.

A URL names an object store: any fsspec protocol whose PUT is atomic (s3, gs, memory). What a store
refuses is raised as the `OSError` that a local file system would raise, with the URL as its file name.
"""

import contextlib
import errno
import importlib
import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from scaling.errors import InputError

if TYPE_CHECKING:
    from upath import UPath

AnyPath: TypeAlias = "Path | UPath"
_URL = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_LEFTOVER = re.compile(r"^\..+\.\d+\.tmp$")
_DRIVERS = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}
_CODES = {FileNotFoundError: errno.ENOENT, FileExistsError: errno.EEXIST, PermissionError: errno.EACCES}


def folder(path: "str | os.PathLike[str] | UPath") -> AnyPath:
    """Returns a local path or `file://` URL as a `Path`, another URL as a `UPath` that caches no listing.

    Raises `InputError` for an unknown protocol and for a missing package, `OSError` where the store's
    driver cannot be set up.
    """
    if isinstance(path, Path):  # the local kinds of UPath, whose parts are no URL, are Paths too
        return Path(path)
    options = dict(getattr(path, "storage_options", {}))
    url = str(path) if hasattr(path, "storage_options") else os.fspath(path)
    match = _URL.match(url)
    if match is None or match[1] in ("file", "local"):
        return Path(url[match.end():] if match else url)
    if options.get("use_listings_cache") is False:
        return path
    # A doubled slash is a folder without a name to an object store, and a slip to whoever typed it.
    return _open_store(match[0] + re.sub("/{2,}", "/", url[match.end():]), match[1], options)


def read_bytes(path: AnyPath) -> bytes:
    """Returns the content of `path` as it stood at one moment; raises `OSError`."""
    with _errors_of(path):
        # A whole GET. Opened as a file, the object may have another size by the time it is read.
        return path.read_bytes() if isinstance(path, Path) else path.fs.cat_file(path.path)


def read_all(path: AnyPath, present: list[str]) -> list[bytes]:
    """Returns the content of each file of the folder `path` named in `present`; raises `OSError`."""
    if isinstance(path, Path):
        return [read_bytes(path / name) for name in present]
    with _errors_of(path):  # side by side: one after the other, a thousand segments take a minute
        return path.fs.cat_ranges([(path / name).path for name in present], None, None, on_error="raise")


def exists(path: AnyPath) -> bool:
    """Whether `path` is there; raises `OSError` where that cannot be found out, instead of saying no."""
    try:
        with _errors_of(path):
            path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def names(path: AnyPath) -> list[str]:
    """Returns the names in the folder `path`, sorted; an empty list where it is absent."""
    try:
        with _errors_of(path):
            if isinstance(path, Path):
                return sorted(os.listdir(path))
            return sorted(name.rstrip("/").rpartition("/")[2] for name in path.fs.ls(path.path, detail=False))
    except (FileNotFoundError, NotADirectoryError):
        return []


def folders_with(root: AnyPath, name: str) -> list[AnyPath] | None:
    """Returns the topmost folders at or under `root` that hold a file `name`; None where `root` is absent."""
    if isinstance(root, Path):
        if not root.is_dir():
            return None
        found = []
        for path, below, present in os.walk(root):
            if name in present:
                found.append(Path(path))
                below.clear()
        return found
    present: list[str] = []
    with contextlib.suppress(FileNotFoundError), _errors_of(root):
        # One listing, a thousand names a request, instead of a request for every folder.
        present = [path.removeprefix(root.path).strip("/") for path in root.fs.find(root.path)]
    holders = {tuple(path.split("/")[:-1]) for path in present if path.rpartition("/")[2] == name}
    topmost = [parts for parts in holders if not any(parts[:depth] in holders for depth in range(len(parts)))]
    return [root.joinpath(*parts) for parts in topmost] if present else None


def replace_atomically(path: AnyPath, data: bytes) -> None:
    """Writes `data` as `path`, durable when this returns; raises `OSError`.

    A reader, or a machine that dies at any moment, sees the old file or the new one, never a part: on
    an object store by one PUT, locally through a temporary file beside it, flushed to disk before it
    takes the name.
    """
    if not isinstance(path, Path):
        with _errors_of(path):
            path.fs.pipe_file(path.path, data)
        return
    _make_folder(path.parent)
    # Not tempfile: its mode 0600 would keep colleagues from reading the record.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def create(path: AnyPath, data: bytes) -> None:
    """Writes `data` as the new file `path`; raises `FileExistsError` where one stands.

    Of several processes exactly one succeeds. An object store must know conditional PUTs (S3's
    If-None-Match, Google's ifGenerationMatch); locally a reader may see the file before its content.
    """
    if isinstance(path, Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "xb") as file:
            file.write(data)
        return
    with _errors_of(path):
        path.fs.pipe_file(path.path, data, mode="create")


def remove(path: AnyPath) -> None:
    """Deletes the file `path` if it is there."""
    with contextlib.suppress(FileNotFoundError), _errors_of(path):
        if isinstance(path, Path):
            path.unlink()
        else:
            path.fs.rm_file(path.path)


def remove_leftovers(path: AnyPath) -> None:
    """Deletes the temporary files that killed writers left in the run folder `path` and one level below.

    For the holder of the run's lock: nobody else's `replace_atomically` may be under way. Object stores
    have none.
    """
    if isinstance(path, Path):
        for leftover in [*path.glob(".*.tmp"), *path.glob("*/.*.tmp")]:
            if _LEFTOVER.match(leftover.name):
                leftover.unlink(missing_ok=True)


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


def _open_store(url: str, protocol: str, options: dict[str, Any]) -> "UPath":
    try:
        upath = importlib.import_module("upath")
        # Another process writes: what this one listed a moment ago may be out of date.
        path = upath.UPath(url, **options | {"use_listings_cache": False})
        with _errors_of(path, but=(ImportError, ValueError)):
            path.fs  # imports the driver and sets it up
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        package = {"upath": "universal-pathlib"}.get(missing) or _DRIVERS.get(protocol) or missing
        if protocol in _DRIVERS or missing in ("upath", "fsspec"):
            text = f"the package {package!r} is not installed: pip install 'jaxlm[remote]'"
        else:
            text = _first_line(error)
        raise InputError(f"path = {url!r}: {text}") from None
    except ValueError as error:
        raise InputError(f"path = {url!r}: {_first_line(error)}") from None
    return path


@contextlib.contextmanager
def _errors_of(path: AnyPath, *, but: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turns what a store's driver raises (botocore's and aiohttp's own classes) into an `OSError`."""
    try:
        yield
    except but:
        raise
    except Exception as error:
        if isinstance(path, Path):
            raise
        code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), errno.EIO)
        kind = "" if code != errno.EIO else f"{type(error).__name__}: "
        raise OSError(code, f"{os.strerror(code)} ({kind}{_first_line(error)})", str(path)) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")


def _plain(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} {value!r}")


def _make_folder(path: Path) -> None:
    """Makes `path` and its parents, each of them durable."""
    if not path.is_dir():
        _make_folder(path.parent)
        path.mkdir(exist_ok=True)
        _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    # A name is durable only once its folder is; Windows cannot open a folder.
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
