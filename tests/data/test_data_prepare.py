"""Preparation: once, whole or not at all, digests that follow the tokens."""

import contextlib
import importlib
import json
import pathlib
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from jaxlm.config import ConfigError
from jaxlm.data import Bytes, DataConfig, Files, HuggingFace, Synthetic, describe, prepare, prepare_all
from jaxlm.data.store import TokenArray, TokenWriter, token_dtype

pytest.importorskip("tensorstore")

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def write_rows(path, rows):
    path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    return Files(paths=(str(path),))


@pytest.fixture
def source(tmp_path):
    return write_rows(tmp_path / "rows.jsonl", [f"row {i} " * (1 + i % 5) for i in range(100)])


def tokens(prepared, side):
    array = TokenArray(prepared.folder / side)
    return array.read([0], len(array))[0]


def test_splits_hold_all_documents_with_separators(source, tmp_path):
    done = prepare(source, Bytes(), tmp_path / "root")
    texts = {side: bytes(tokens(done, side)).decode().split("\0") for side in ("train", "heldout")}
    assert texts["train"].pop() == "" and texts["heldout"].pop() == ""
    assert sorted(texts["train"] + texts["heldout"]) == sorted(d.text for d in source.documents())


def test_counts_are_those_of_the_arrays(source, tmp_path):
    done = prepare(source, Bytes(), tmp_path / "root")
    assert done.train.tokens == done.train.bytes == len(tokens(done, "train"))
    assert done.train.documents == (tokens(done, "train") == 0).sum()


def test_heldout_share(source, tmp_path):
    done = prepare(source, Bytes(), tmp_path / "root", heldout_fraction=0.2)
    share = done.heldout.tokens / (done.heldout.tokens + done.train.tokens)
    assert abs(share - 0.2) < 0.02  # half of a document of 40 bytes, out of 2000


def test_one_text_file_is_cut(tmp_path):
    text = "\n".join(f"line {i}" for i in range(500))
    (tmp_path / "a.txt").write_text(text)
    done = prepare(Files(paths=(str(tmp_path / "a.txt"),)), Bytes(), tmp_path / "root")
    joined = bytes(tokens(done, "train")[:-1]) + bytes(tokens(done, "heldout")[:-1])
    assert done.meta["split"] == "cut" and joined.decode() == text


def test_text_too_small_to_divide(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ConfigError, match="its heldout split has no token"):
        prepare(Files(paths=(str(tmp_path / "a.txt"),)), Bytes(), tmp_path / "root")


def test_root_that_is_a_file(source, tmp_path):
    (tmp_path / "root").write_text("x")
    with pytest.raises(ConfigError, match="root = .*must be a folder"):
        prepare(source, Bytes(), tmp_path / "root")


def test_bad_fraction(source, tmp_path):
    with pytest.raises(ConfigError, match="heldout_fraction = 1.0: must lie in"):
        prepare(source, Bytes(), tmp_path / "root", heldout_fraction=1.0)


def test_second_call_reads_nothing_again(source, tmp_path, monkeypatch):
    first = prepare(source, Bytes(), tmp_path / "root")
    monkeypatch.setattr(Files, "documents", lambda self: pytest.fail("read again"))
    assert prepare(source, Bytes(), tmp_path / "root") == first


def test_digest_is_that_of_the_tokens(source, tmp_path):
    first = prepare(source, Bytes(), tmp_path / "one")
    copy = write_rows(tmp_path / "copy.jsonl", [d.text for d in source.documents()])
    assert prepare(copy, Bytes(), tmp_path / "two").digest == first.digest


def test_digest_changes_with_one_letter(source, tmp_path):
    first = prepare(source, Bytes(), tmp_path / "root")
    rows = [d.text for d in source.documents()]
    changed = write_rows(tmp_path / "rows.jsonl", [rows[0].replace("row", "Row"), *rows[1:]])
    assert prepare(changed, Bytes(), tmp_path / "root").digest != first.digest


def test_digest_changes_with_the_split(source, tmp_path):
    digests = {prepare(source, Bytes(), tmp_path / "root", heldout_fraction=f).digest for f in (0.1, 0.2)}
    assert len(digests) == 2


def test_folder_has_a_readable_name(source, tmp_path):
    assert prepare(source, Bytes(), tmp_path / "root").folder.name.startswith("rows-jsonl-")


def test_progress_reaches_the_end(source, tmp_path):
    calls = []
    prepare(source, Bytes(), tmp_path / "root", progress=lambda *call: calls.append(call))
    assert calls[-1][0] == "rows.jsonl" and calls[-1][1] == calls[-1][2]


KILLED = """
import os, signal, sys
from jaxlm.data import Bytes, Files, prepare
def kill_half_way(name, done, total):
    if done > total / 2:
        os.kill(os.getpid(), signal.SIGKILL)
prepare(Files(paths=(sys.argv[1],)), Bytes(), sys.argv[2], progress=kill_half_way)
"""


def test_killed_preparation_leaves_nothing_that_is_used(source, tmp_path):
    root = tmp_path / "root"
    died = subprocess.run([sys.executable, "-c", KILLED, source.paths[0], str(root)], cwd=REPOSITORY)
    left = [path.name for path in root.iterdir() if path.is_dir()]
    assert died.returncode == -signal.SIGKILL and len(left) == 1 and left[0].startswith(".")
    done = prepare(source, Bytes(), root)
    done.verify()
    assert [path for path in root.iterdir() if path.is_dir()] == [done.folder]


def test_failed_preparation_leaves_nothing(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "fine"}\n{"body": "not"}\n')
    with pytest.raises(ConfigError):
        prepare(Files(paths=(str(path),)), Bytes(), tmp_path / "root")
    assert not [path for path in (tmp_path / "root").iterdir() if path.is_dir()]


def test_two_at_once_agree(source, tmp_path):
    results, started = [], []

    def work():
        results.append(prepare(source, Bytes(), tmp_path / "root",
                               progress=lambda *call: started.append(threading.get_ident())))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0] == results[1] == results[2] and len(set(started)) == 1


def test_without_locks_the_first_rename_wins(source, tmp_path):
    module = importlib.import_module("jaxlm.data.preparation")
    first = []

    @contextlib.contextmanager
    def no_lock(folder):
        yield False

    def another_is_faster(name, done, total):
        if not first:
            first.append(None)
            first[0] = prepare(source, Bytes(), tmp_path / "root")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_locked", no_lock)
        second = prepare(source, Bytes(), tmp_path / "root", progress=another_is_faster)
    assert second == first[0]
    assert [path.name for path in (tmp_path / "root").iterdir()] == [second.folder.name]


def damage_meta(folder):
    (folder / "meta.json").write_text("{")


def lose_meta(folder):
    (folder / "meta.json").unlink()


def edit_meta(folder):
    meta = json.loads((folder / "meta.json").read_text())
    meta["train"]["tokens"] -= 1
    (folder / "meta.json").write_text(json.dumps(meta))


def lose_array(folder):
    (folder / "train" / "zarr.json").unlink()


@pytest.mark.parametrize("harm", [damage_meta, lose_meta, edit_meta, lose_array])
def test_damaged_folder_is_named(source, tmp_path, harm):
    harm(prepare(source, Bytes(), tmp_path / "root").folder)
    with pytest.raises(ConfigError, match="rows-jsonl-.*remove the folder"):
        prepare(source, Bytes(), tmp_path / "root")


def test_verify_finds_changed_tokens(source, tmp_path):
    done = prepare(source, Bytes(), tmp_path / "root")
    chunk = next(path for path in (done.folder / "train" / "c").rglob("*") if path.is_file())
    content = bytearray(chunk.read_bytes())
    content[10] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(ConfigError, match="train.* is damaged: its tokens do not match meta.json"):
        done.verify()


def test_missing_tensorstore_names_the_extra(source, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'jaxlm\[train\]'"):
        prepare(source, Bytes(), tmp_path / "root")


def test_synthetic_does_not_read_the_tokenizer(tmp_path):
    source = Synthetic(vocabulary=8, order=1, tokens=100)
    absent = HuggingFace(path=str(tmp_path / "none.json"))
    assert prepare(source, absent, tmp_path).digest == prepare(source, Bytes(), tmp_path).digest


def test_all_sources_are_prepared_in_order(source, tmp_path):
    other = write_rows(tmp_path / "other.jsonl", [f"another {i}" for i in range(50)])
    config = DataConfig(sources=(other, source), sequence=8)
    assert [done.name for done in prepare_all(config, tmp_path / "root")] == ["other.jsonl", "rows.jsonl"]


def test_description_of_prepared_data(source, tmp_path):
    done = prepare(source, Bytes(), tmp_path / "root")
    assert f"{done.train.tokens:,}" in describe(done) and done.digest[:16] in describe([done])


def test_description_of_a_configuration_names_what_is_missing(source, tmp_path):
    config = DataConfig(sources=(source, Files(paths=(str(tmp_path / "none.txt"),))), sequence=8)
    table = describe(config).splitlines()
    assert "of 100" in table[1] and "no such file" in table[2]


@pytest.mark.parametrize("vocabulary, name", [(256, "uint8"), (257, "uint16"), (65536, "uint16"),
                                              (65537, "uint32")])
def test_token_type(vocabulary, name):
    assert token_dtype(vocabulary).name == name


def test_array_of_several_shards(tmp_path, monkeypatch):
    store = sys.modules[TokenWriter.__module__]
    monkeypatch.setattr(store, "SHARD_TOKENS", 256)
    monkeypatch.setattr(store, "CHUNK_TOKENS", 64)
    expected = np.random.default_rng(0).integers(0, 1000, 1000).astype(np.uint16)
    writer = TokenWriter(tmp_path / "array", token_dtype(1000))
    for part in np.split(expected, [3, 100, 700, 701]):
        writer.append(part)
    count, sha256 = writer.close()
    array = TokenArray(tmp_path / "array", memory_limit=0)
    assert (count, array.sha256(), array.in_memory) == (1000, sha256, False)
    np.testing.assert_array_equal(array.read([0, 250], 600)[1], expected[250:850])
