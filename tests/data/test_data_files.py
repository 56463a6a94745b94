"""The user's own files: what is read, and every way in which a file can be bad."""

import json
import sys

import pytest

from jaxlm.config import ConfigError
from jaxlm.data import Files


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def write_parquet(path, columns):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet
    parquet.write_table(pyarrow.table(columns), path)
    return str(path)


def texts(*paths, **options):
    return [document.text for document in Files(paths=paths, **options).documents()]


def test_text_is_one_document_a_file(tmp_path):
    first, second = write(tmp_path / "a.txt", "one\ntwo"), write(tmp_path / "b.md", "drei ä")
    assert texts(first, second) == ["one\ntwo", "drei ä"]


def test_jsonl_is_one_document_a_line(tmp_path):
    rows = [{"text": "eins"}, {"text": "zwei", "more": 1}]
    path = write(tmp_path / "a.jsonl", "\n\n".join(map(json.dumps, rows)) + "\n")
    assert texts(path) == ["eins", "zwei"]


def test_parquet_is_one_document_a_row(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", {"body": ["eins", "", "drei"], "n": [1, 2, 3]})
    assert texts(path, text_field="body") == ["eins", "drei"]


def test_format_overrules_the_suffix(tmp_path):
    path = write(tmp_path / "a.txt", '{"text": "eins"}\n')
    assert texts(path, format="jsonl") == ["eins"]


def test_key_is_that_of_the_text_and_not_of_the_file(tmp_path):
    first, second = write(tmp_path / "a.txt", "same"), write(tmp_path / "b.txt", "same")
    keys = {document.key for document in Files(paths=(first, second)).documents()}
    assert len(keys) == 1


def test_fingerprint_follows_the_content(tmp_path):
    path = write(tmp_path / "a.txt", "one")
    before = Files(paths=(path,)).fingerprint()
    write(tmp_path / "a.txt", "longer")
    assert Files(paths=(path,)).fingerprint() != before


BAD = {
    "empty": ("a.txt", b"", "must not be empty"),
    "nul byte": ("a.txt", b"ab\0cd", "holds a NUL byte"),
    "not utf-8": ("a.txt", b"caf\xe9 au lait", "must be UTF-8 text: byte 3"),
    "packed": ("a.txt.gz", b"\x1f\x8b\x08\x00", "unpack it first"),
    "not json": ("a.jsonl", b'{"text": "x"}\n{oops\n', r"a.jsonl:2'?: must be a line of JSON"),
    "not an object": ("a.jsonl", b'["x"]\n', "must be a JSON object"),
    "missing field": ("a.jsonl", b'{"body": "x"}\n', r"text_field = 'text': .*a.jsonl:1 has no such field; "
                                                    "it has body"),
    "field not text": ("a.jsonl", b'{"text": 3}\n', "must hold text; .*a.jsonl:1 holds int"),
    "escaped nul": ("a.jsonl", b'{"text": "a\\u0000b"}\n', "holds a NUL byte"),
    "lone surrogate": ("a.jsonl", b'{"text": "a\\ud800b"}\n', "holds a lone surrogate"),
    "only blank lines": ("a.jsonl", b"\n \n", "must hold text: it has none"),
    "not parquet": ("a.parquet", b"not a table", "must be a Parquet file"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_file_is_one_line(tmp_path, name):
    file, content, message = BAD[name]
    if file.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    path = write(tmp_path / file, content)
    with pytest.raises(ConfigError, match=message) as caught:
        texts(path)
    assert file in str(caught.value) and "\n" not in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="nowhere.txt'?: no such file"):
        Files(paths=(str(tmp_path / "nowhere.txt"),)).fingerprint()


def test_folder(tmp_path):
    with pytest.raises(ConfigError, match="must be a file, not a folder"):
        texts(str(tmp_path))


def test_parquet_without_the_column(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", {"body": ["x"]})
    with pytest.raises(ConfigError, match="has no such column; it has body"):
        texts(path)


def test_parquet_null(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", {"text": ["x", None]})
    with pytest.raises(ConfigError, match="row 1 of .* holds NoneType"):
        texts(path)


def test_missing_pyarrow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'jaxlm\[tables\]'"):
        texts(write(tmp_path / "a.parquet", "x"))
