"""Prepares a source once: a folder of token arrays and a meta.json, made whole or not at all."""

import contextlib
import dataclasses
import json
import os
import pathlib
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from jaxlm.config import ConfigError, config_hash, require, to_dict
from jaxlm.data.config import DataConfig, Source
from jaxlm.data.extras import load_extra
from jaxlm.data.split_writer import Progress, splits_digest, write_splits
from jaxlm.data.store import MEMORY_LIMIT, TokenArray
from jaxlm.data.synthetic import Synthetic
from jaxlm.data.tokenizer import Tokenizer

FORMAT = 1
_REMEDY = "remove the folder to prepare it anew"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
    """One side of a prepared source; `bytes` (text, one per separator) is None without text."""

    tokens: int
    documents: int
    bytes: int | None
    sha256: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
    """A source tokenised on disk. `meta` is the whole of its meta.json."""

    folder: pathlib.Path
    name: str
    digest: str
    vocabulary: int
    train: Split
    heldout: Split
    meta: dict[str, Any] = dataclasses.field(repr=False, compare=False)

    @property
    def bytes_per_token(self) -> float | None:
        """The bytes of text per token over both splits, each separator one byte; None without text."""
        if self.train.bytes is None:
            return None
        return (self.train.bytes + self.heldout.bytes) / (self.train.tokens + self.heldout.tokens)

    def verify(self) -> None:
        """Reads every token again; raises `ConfigError` if they are not those that were written."""
        for side in ("train", "heldout"):
            self.open(side, memory_limit=0, check=True)

    def open(self, side: Literal["train", "heldout"], *, memory_limit: int = MEMORY_LIMIT,
             check: bool = False) -> TokenArray:
        """Returns the tokens of one side; those read into memory, or all with `check`, are verified.

        Raises `ConfigError` if they are not the tokens that were written: a lost file of the array
        would otherwise read as zeros.
        """
        try:
            array = TokenArray(self.folder / side, memory_limit=memory_limit)
            unchecked = not (check or array.in_memory)
            intact = unchecked or array.sha256() == getattr(self, side).sha256
        except ValueError:  # TensorStore's own word for a broken file
            intact = False
        require(intact, "data", str(self.folder / side),
                f"is damaged: its tokens do not match meta.json; {_REMEDY}")
        return array


def prepare(source: Source, tokenizer: Tokenizer, root: str | os.PathLike, *,
            heldout_fraction: float = 0.1, progress: Progress | None = None) -> Prepared:
    """Returns `source` tokenised under `root`/<name>-<hash>/; done once, later calls reopen it.

    The hash covers the configuration, the tokenizer's file and the state of what is read (package
    versions; size and time of files), so an edited file is prepared anew. The folder appears by one
    rename when it is complete. Of several processes one prepares and the others wait for it; where
    the file system has no locks each prepares and the first rename wins. Raises `ConfigError` for
    bad input or a damaged folder. `progress` is called with (name, done, total).
    """
    require(0 < heldout_fraction <= 0.5, "heldout_fraction", heldout_fraction, "must lie in (0, 0.5]")
    identity = _identity(source, tokenizer, heldout_fraction)
    folder = pathlib.Path(root) / f"{_slug(source.name)}-{config_hash(identity)}"
    if not folder.is_dir():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"root = {str(root)!r}: must be a folder ({error.strerror})") from None
        with _locked(folder) as alone:
            if not folder.is_dir():
                if alone:
                    _remove_abandoned(folder)
                _make(source, tokenizer, folder, identity=identity, progress=progress)
    return _reopen(folder, identity)


def prepare_all(config: DataConfig, root: str | os.PathLike, *,
                progress: Progress | None = None) -> tuple[Prepared, ...]:
    """Returns every source of `config` prepared under `root`, in the order of `config.sources`."""
    return tuple(prepare(source, config.tokenizer, root, heldout_fraction=config.heldout_fraction,
                         progress=progress) for source in config.sources)


def _identity(source: Source, tokenizer: Tokenizer, heldout_fraction: float) -> dict[str, Any]:
    chosen = None if isinstance(source, Synthetic) else tokenizer
    return {
        "format": FORMAT,
        "source": to_dict(source),
        "read": source.fingerprint(),
        "tokenizer": to_dict(chosen),
        "tokenizer_file": {} if chosen is None else chosen.fingerprint(),
        "heldout_fraction": heldout_fraction,
    }


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60]


def _make(source: Source, tokenizer: Tokenizer, folder: pathlib.Path, *, identity: dict[str, Any],
          progress: Progress | None) -> None:
    work = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        splits = write_splits(source, tokenizer, work, progress=progress,
                              heldout_fraction=identity["heldout_fraction"])
        digest = splits_digest(splits, identity["tokenizer_file"])
        meta = {"name": source.name, "digest": digest, "note": source.note, "identity": identity,
                **splits, "versions": _versions(identity["tokenizer"])}
        with open(work / "meta.json", "w", encoding="utf-8") as file:
            json.dump(meta, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        _publish(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _publish(work: pathlib.Path, folder: pathlib.Path) -> None:
    work.chmod(0o755)  # mkdtemp makes folders private
    try:
        os.rename(work, folder)
    except OSError:
        # A rename onto a folder that holds files fails: another process was first, and its result
        # is the same.
        if not folder.is_dir():
            raise


def _remove_abandoned(folder: pathlib.Path) -> None:
    # Under the lock nobody else works on this folder: what lies here was left by a killed process.
    for left in folder.parent.glob(f".{folder.name}.*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[bool]:
    """Holds the lock of `folder`; yields False where the system or file system has no such locks."""
    try:
        import fcntl
    except ImportError:
        yield False
        return
    # The kernel drops the lock with the process, however that ends; the empty file stays.
    with open(folder.parent / f".{folder.name}.lock", "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            alone = True
        except OSError:
            alone = False
        yield alone


def _versions(tokenizer: dict[str, Any] | None) -> dict[str, str]:
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    if tokenizer is not None and tokenizer["kind"] == "huggingface":
        versions["tokenizers"] = load_extra("tokenizers", "tokenizers").__version__
    return versions


def _reopen(folder: pathlib.Path, identity: dict[str, Any]) -> Prepared:
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        splits = {side: Split(**meta[side]) for side in ("train", "heldout")}
        digest = splits_digest(meta, identity["tokenizer_file"])
        intact = meta["identity"] == identity and meta["digest"] == digest
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(f"data = {str(folder)!r}: its meta.json is missing or damaged; {_REMEDY}") from None
    require(intact, "data", str(folder), f"its meta.json does not belong to it; {_REMEDY}")
    for side, split in splits.items():
        try:
            # A limit of zero reads no token here, only the array's own metadata.
            array = TokenArray(folder / side, memory_limit=0)
            intact = len(array) == split.tokens and array.dtype.name == meta["dtype"]
        except ValueError:
            intact = False
        require(intact, "data", str(folder / side), f"is damaged: not the array of meta.json; {_REMEDY}")
    return Prepared(folder=folder, name=meta["name"], digest=digest, vocabulary=meta["vocabulary"],
                    meta=meta, **splits)
