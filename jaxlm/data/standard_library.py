"""The source text of Python's own standard library: always there, a few MB of code."""

import dataclasses
import pathlib
import platform
import sysconfig
from collections.abc import Iterator
from typing import ClassVar

from jaxlm.data.document import Document

# Tests, bundled third-party code, tables written as code, and what differs between builds of Python.
_EXCLUDED_FOLDERS = frozenset({
    "test", "tests", "idle_test", "idlelib", "turtledemo", "site-packages", "dist-packages",
    "__pycache__", "_bundled", "lib-dynload", "lib2to3",
    "encodings", "pydoc_data",
})
_EXCLUDED_PREFIXES = ("_sysconfigdata", "sitecustomize", "usercustomize")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StandardLibrary:
    """Python's standard library, one document per `.py` file; the key is the path inside it."""

    kind: ClassVar[str] = "standard_library"

    @property
    def name(self) -> str:
        return f"Python {platform.python_version()} standard library"

    @property
    def note(self) -> str:
        return "the text, and so the digest, depends on the version of Python"

    def fingerprint(self) -> dict[str, str]:
        """Returns the version of Python whose library is read."""
        return {"python": platform.python_version(), "implementation": platform.python_implementation()}

    def documents(self) -> Iterator[Document]:
        """Yields the files by path; those that are empty, or not UTF-8 text, are passed over."""
        root = pathlib.Path(sysconfig.get_path("stdlib"))
        paths = {path.relative_to(root).as_posix(): path for path in root.rglob("*.py")}
        for key in sorted(paths):
            *folders, name = key.split("/")
            if _EXCLUDED_FOLDERS.intersection(folders) or name.startswith(_EXCLUDED_PREFIXES):
                continue
            try:
                text = paths[key].read_text(encoding="utf-8")
            except (UnicodeDecodeError, OSError):
                continue
            if text and "\0" not in text:
                yield Document(key=key, text=text)
