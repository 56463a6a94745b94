"""The data configuration: validation with field, value and rule; round trip through a dict."""

import subprocess
import sys

import pytest

from jaxlm.config import ConfigError, config_hash, from_dict, to_dict
from jaxlm.data import Bytes, Corpus, DataConfig, Files, HuggingFace, StandardLibrary, Synthetic

CONFIGS = {
    "default": DataConfig(sequence=128),
    "mixture": DataConfig(sources=(StandardLibrary(), Files(paths=("a.txt", "b.jsonl"), text_field="body")),
                          weights=(0.75, 0.25), tokenizer=HuggingFace(path="t.json", separator="</s>"),
                          sequence=64, seed=3, heldout_fraction=0.2),
    "synthetic": DataConfig(sources=(Synthetic(vocabulary=16, order=1, tokens=5000),), sequence=32),
    "plays": DataConfig(sources=(Corpus(parts=("plays",)),), tokenizer=Bytes(), sequence=8),
}

BAD = {
    "no source": (dict(sources=()), "sources = "),
    "twice the same": (dict(sources=(StandardLibrary(), StandardLibrary())), "must not repeat"),
    "synthetic with text": (dict(sources=(Synthetic(), StandardLibrary())), "must not be mixed"),
    "two vocabularies": (dict(sources=(Synthetic(vocabulary=8), Synthetic(vocabulary=9))), "one vocabulary"),
    "weights of wrong length": (dict(weights=(0.5, 0.5)), "weights = "),
    "weight of zero": (dict(weights=(0.0,)), "must be positive"),
    "weight not finite": (dict(weights=(float("inf"),)), "must be positive and finite"),
    "sequence of zero": (dict(sequence=0), "sequence = 0: must be at least 1"),
    "negative seed": (dict(seed=-1), "seed = -1: "),
    "nothing held out": (dict(heldout_fraction=0.0), "heldout_fraction = 0.0: "),
    "most held out": (dict(heldout_fraction=0.6), "heldout_fraction = 0.6: "),
}

BAD_SOURCES = {
    "no part": (lambda: Corpus(parts=()), "parts = "),
    "unknown part": (lambda: Corpus(parts=("novels",)), "each must be one of plays"),
    "repeated part": (lambda: Corpus(parts=("plays", "plays")), "must not repeat"),
    "no path": (lambda: Files(paths=()), "paths = "),
    "repeated path": (lambda: Files(paths=("a", "a")), "must not repeat"),
    "unknown format": (lambda: Files(paths=("a",), format="csv"), "format = 'csv'"),
    "no field": (lambda: Files(paths=("a",), text_field=""), "text_field = ''"),
    "one token": (lambda: Synthetic(vocabulary=1), "vocabulary = 1: must be at least 2"),
    "order zero": (lambda: Synthetic(order=0), "order = 0: must be at least 1"),
    "order too large": (lambda: Synthetic(vocabulary=256, order=3), "order = 3: vocabulary \\*\\* "),
    "negative sharpness": (lambda: Synthetic(sharpness=-1.0), "sharpness = -1.0"),
    "no tokens": (lambda: Synthetic(tokens=1), "tokens = 1"),
    "no tokenizer file": (lambda: HuggingFace(path=""), "tokenizer.path = ''"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_round_trip_through_a_dict(name):
    config = CONFIGS[name]
    assert from_dict(DataConfig, to_dict(config)) == config


def test_hashes_of_different_configurations_differ():
    assert len({config_hash(config) for config in CONFIGS.values()}) == len(CONFIGS)


@pytest.mark.parametrize("name", BAD)
def test_bad_configuration_names_field_and_rule(name):
    changes, message = BAD[name]
    with pytest.raises(ConfigError, match=message):
        DataConfig(**({"sequence": 8} | changes))


@pytest.mark.parametrize("name", BAD_SOURCES)
def test_bad_source_names_field_and_rule(name):
    make, message = BAD_SOURCES[name]
    with pytest.raises(ConfigError, match=message):
        make()


def test_import_pulls_in_nothing_heavy():
    heavy = ("jax", "flax", "grain", "tensorstore", "tokenizers", "pyarrow", "sqlite3")
    code = f"import sys, jaxlm.data; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
