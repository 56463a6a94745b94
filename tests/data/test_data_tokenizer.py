"""Tokenizers: bytes, and files of the tokenizers library."""

import json
import sys

import numpy as np
import pytest

from jaxlm.config import ConfigError
from jaxlm.data import Bytes, Files, HuggingFace, prepare

SAMPLE = ["the cat sat on the mat", "the dog ate the cat", "ein Ähnliches"] * 20


def train(path, *, special, truncation=None):
    tokenizers = pytest.importorskip("tokenizers")
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
    model.train_from_iterator(SAMPLE, trainer)
    if truncation:
        model.enable_truncation(truncation)
        model.enable_padding(length=truncation)
    model.save(str(path))
    return str(path)


def test_bytes_are_utf8():
    ids = Bytes().encoder().encode(["aä"])[0]
    np.testing.assert_array_equal(ids, [97, 195, 164])


def test_common_separator_is_found(tmp_path):
    path = train(tmp_path / "t.json", special=["<unk>", "<|endoftext|>"])
    assert HuggingFace(path=path).encoder().separator == 1


def test_named_separator_wins(tmp_path):
    path = train(tmp_path / "t.json", special=["<stop>", "<|endoftext|>"])
    assert HuggingFace(path=path, separator="<stop>").encoder().separator == 0


def test_text_comes_back(tmp_path):
    path = train(tmp_path / "t.json", special=["</s>"])
    encoder = HuggingFace(path=path).encoder()
    tokenizers = pytest.importorskip("tokenizers")
    loaded = tokenizers.Tokenizer.from_file(path)
    assert [loaded.decode(ids.tolist()) for ids in encoder.encode(SAMPLE[:3])] == SAMPLE[:3]


def test_truncation_and_padding_of_the_file_are_off(tmp_path):
    path = train(tmp_path / "t.json", special=["</s>"], truncation=4)
    encoder = HuggingFace(path=path).encoder()
    long, short = encoder.encode(["the cat sat on the mat " * 50, "cat"])
    assert len(long) > 100 and len(short) < 4


def test_ids_lie_below_the_vocabulary(tmp_path):
    path = train(tmp_path / "t.json", special=["</s>"])
    encoder = HuggingFace(path=path).encoder()
    assert max(ids.max() for ids in encoder.encode(SAMPLE)) < encoder.vocabulary <= 300


def test_missing_separator_lists_what_was_tried(tmp_path):
    path = train(tmp_path / "t.json", special=["<unk>"])
    with pytest.raises(ConfigError, match=r"tokenizer.separator = None: .*<\|endoftext\|>"):
        HuggingFace(path=path).encoder()


def test_unknown_separator(tmp_path):
    path = train(tmp_path / "t.json", special=["</s>"])
    with pytest.raises(ConfigError, match="tokenizer.separator = '<halt>': must be a token of"):
        HuggingFace(path=path, separator="<halt>").encoder()


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="tokenizer.path = .*No such file"):
        HuggingFace(path=str(tmp_path / "none.json")).encoder()


def test_file_that_is_no_tokenizer(tmp_path):
    pytest.importorskip("tokenizers")
    path = tmp_path / "t.json"
    path.write_text(json.dumps({"a": 1}))
    with pytest.raises(ConfigError, match="must be a tokenizers JSON file"):
        HuggingFace(path=str(path)).encoder()


def test_missing_library_names_the_extra(tmp_path, monkeypatch):
    path = tmp_path / "t.json"
    path.write_text("{}")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'jaxlm\[tokenizers\]'"):
        HuggingFace(path=str(path)).encoder()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    path = train(folder / "t.json", special=["</s>"])
    text = folder / "text.jsonl"
    text.write_text("".join(json.dumps({"text": f"{line} {i}"}) + "\n" for i, line in enumerate(SAMPLE)))
    return prepare(Files(paths=(str(text),)), HuggingFace(path=path), folder / "root"), folder


def test_prepared_bytes_per_token_are_measured(prepared):
    source, _ = prepared
    text_bytes = sum(len(f"{line} {i}".encode()) + 1 for i, line in enumerate(SAMPLE))
    tokens = source.train.tokens + source.heldout.tokens
    assert source.bytes_per_token == text_bytes / tokens and source.bytes_per_token > 2


def test_prepared_type_fits_the_vocabulary(prepared):
    assert prepared[0].meta["dtype"] == "uint16"


def test_another_tokenizer_gives_another_digest(prepared):
    source, folder = prepared
    # A second special token moves every id by one.
    other = train(folder / "other.json", special=["</s>", "<pad>"])
    again = prepare(Files(paths=(str(folder / "text.jsonl"),)), HuggingFace(path=other), folder / "root")
    assert again.digest != source.digest
