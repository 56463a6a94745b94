"""The user's own text: plain files, JSON lines, Parquet."""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from jaxlm.config import ConfigError, require
from jaxlm.data.document import Document
from jaxlm.data.extras import load_extra

Format = Literal["auto", "text", "jsonl", "parquet"]

_SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
_BINARY_SUFFIXES = (".gz", ".bz2", ".xz", ".zst", ".zip", ".tar", ".npy", ".bin")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Files:
    """The user's files: a document per file (text), per line (jsonl) or per row (parquet).

    `format` "auto" goes by suffix (.jsonl and .ndjson, .parquet, anything else text); `text_field` is
    the JSON field or Parquet column that holds the text. A document's split key is the SHA-256 of its
    text, so copies fall on the same side and the split does not depend on file names. All text is
    UTF-8 without NUL; lines that are blank and rows whose text is empty are passed over.
    """

    kind: ClassVar[str] = "files"

    paths: tuple[str, ...]
    format: Format = "auto"
    text_field: str = "text"

    def __post_init__(self) -> None:
        require(len(self.paths) > 0, "paths", self.paths, "must name at least one file")
        require(len(set(self.paths)) == len(self.paths), "paths", self.paths, "must not repeat a file")
        formats = ("auto", "text", "jsonl", "parquet")
        require(self.format in formats, "format", self.format, f"must be one of {', '.join(formats)}")
        require(self.text_field != "", "text_field", self.text_field, "must name a field")

    @property
    def name(self) -> str:
        first = pathlib.Path(self.paths[0]).name
        return first if len(self.paths) == 1 else f"{first} and {len(self.paths) - 1} more"

    @property
    def note(self) -> str | None:
        return None

    def fingerprint(self) -> dict[str, Any]:
        """Returns size and time of change of every file, so that an edited file is prepared anew.

        Raises `ConfigError` for a file that is missing, a folder, or empty.
        """
        return {path: _file_state(path) for path in self.paths}

    def documents(self) -> Iterator[Document]:
        """Yields the documents in the order of `paths`; raises `ConfigError` naming file and place."""
        readers = {"text": _read_text, "jsonl": _read_jsonl, "parquet": _read_parquet}
        for path in self.paths:
            _file_state(path)
            chosen = self.format
            if chosen == "auto":
                chosen = _SUFFIXES.get(pathlib.Path(path).suffix.lower(), "text")
            found = False
            for where, text in readers[chosen](path, self.text_field):
                require("\0" not in text, "paths", where, "must be text: it holds a NUL byte")
                if text:
                    found = True
                    yield Document(key=hashlib.sha256(_utf8(text, where)).hexdigest(), text=text)
            require(found, "paths", path, "must hold text: it has none")


def _file_state(path: str) -> dict[str, Any]:
    file = pathlib.Path(path)
    require(file.exists(), "paths", path, "no such file")
    require(file.is_file(), "paths", path, "must be a file, not a folder")
    require(os.access(path, os.R_OK), "paths", path, "must be readable")
    stat = file.stat()
    require(stat.st_size > 0, "paths", path, "must not be empty")
    return {"path": str(file.resolve()), "bytes": stat.st_size, "changed_ns": stat.st_mtime_ns}


def _utf8(text: str, where: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:  # JSON can spell half of a surrogate pair
        raise ConfigError(f"paths = {where!r}: must be Unicode text: it holds a lone surrogate") from None


def _decode(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        packed = where.lower().endswith(_BINARY_SUFFIXES)
        hint = " (unpack it first)" if packed else ""
        raise ConfigError(f"paths = {where!r}: must be UTF-8 text: byte {error.start} "
                          f"cannot be decoded{hint}") from None


def _read_text(path: str, text_field: str) -> Iterator[tuple[str, str]]:
    del text_field
    yield path, _decode(pathlib.Path(path).read_bytes(), path)


def _read_jsonl(path: str, text_field: str) -> Iterator[tuple[str, str]]:
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            where = f"{path}:{number}"
            if line.strip():
                yield where, _text_of_line(_decode(line, where), text_field, where)


def _text_of_line(line: str, text_field: str, where: str) -> str:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ConfigError(f"paths = {where!r}: must be a line of JSON ({error.msg})") from None
    require(isinstance(row, dict), "paths", where, "must be a JSON object")
    if text_field not in row:
        raise ConfigError(f"text_field = {text_field!r}: {where} has no such field; "
                          f"it has {', '.join(map(str, row))}")
    text = row[text_field]
    require(isinstance(text, str), "text_field", text_field,
            f"must hold text; {where} holds {type(text).__name__}")
    return text


def _read_parquet(path: str, text_field: str) -> Iterator[tuple[str, str]]:
    pyarrow = load_extra("pyarrow", "tables")
    parquet = load_extra("pyarrow.parquet", "tables")
    try:
        table = parquet.ParquetFile(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"paths = {path!r}: must be a Parquet file ({reason})") from None
    with table:
        columns = table.schema_arrow.names
        if text_field not in columns:
            raise ConfigError(f"text_field = {text_field!r}: {path} has no such column; "
                              f"it has {', '.join(columns)}")
        row = 0
        for batch in table.iter_batches(columns=[text_field], batch_size=1024):
            for text in batch.column(0).to_pylist():
                require(isinstance(text, str), "text_field", text_field,
                        f"must hold text; row {row} of {path} holds {type(text).__name__}")
                yield f"{path} row {row}", text
                row += 1
