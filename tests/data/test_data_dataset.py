"""Batches and held-out windows of a dataset."""

import dataclasses
import json

import numpy as np
import pytest

from jaxlm.config import ConfigError
from jaxlm.data import DataConfig, Files, Synthetic, describe, open_dataset

pytest.importorskip("grain")
pytest.importorskip("tensorstore")

SEQUENCE = 16


def write_rows(path, letter, rows):
    path.write_text("".join(json.dumps({"text": f"{letter}{i:05d} " * 3}) + "\n" for i in range(rows)))
    return Files(paths=(str(path),))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("dataset")


@pytest.fixture(scope="module")
def sources(folder):
    return (write_rows(folder / "a.jsonl", "a", 120), write_rows(folder / "b.jsonl", "b", 60))


@pytest.fixture(scope="module")
def config(sources):
    return DataConfig(sources=sources, sequence=SEQUENCE, seed=4)


@pytest.fixture(scope="module")
def dataset(config, folder):
    return open_dataset(config, folder / "root")


def reopen(config, folder, **options):
    return open_dataset(config, folder / "root", **options)


def test_batch_has_shape_and_type(dataset):
    batch = dataset.batch(0, 5)
    assert batch.shape == (5, SEQUENCE + 1) and batch.dtype == np.int32


def test_batches_are_pure_in_any_order(dataset, config, folder):
    again = reopen(config, folder)
    backwards = {k: again.batch(k, 4) for k in (90, 7, 0, 31)}
    for k in (0, 7, 31, 90):
        np.testing.assert_array_equal(dataset.batch(k, 4), backwards[k])


def test_batch_size_slices_one_order(dataset):
    small = np.concatenate([dataset.batch(k, 3) for k in range(8)])
    np.testing.assert_array_equal(small, np.concatenate([dataset.batch(k, 12) for k in range(2)]))


def test_a_far_batch_is_reached_at_once(dataset):
    assert dataset.batch(10**12, 4).shape == (4, SEQUENCE + 1)


def test_an_epoch_covers_every_window_once(dataset):
    epoch = np.concatenate([dataset.batch(k, 1) for k in range(dataset.train_windows)])
    expected = []
    for array in dataset._train._arrays:
        tokens = array.read([0], len(array))[0]
        count = (len(tokens) - 1) // SEQUENCE
        expected += [tokens[i * SEQUENCE:(i + 1) * SEQUENCE + 1].tolist() for i in range(count)]
    assert sorted(epoch.tolist()) == sorted(expected)


def test_second_epoch_has_the_same_windows_in_another_order(dataset):
    size = dataset.train_windows
    first, second = dataset.batch(0, size).tolist(), dataset.batch(1, size).tolist()
    assert first != second and sorted(first) == sorted(second)


def test_seed_changes_the_order(dataset, config, folder):
    other = reopen(dataclasses.replace(config, seed=5), folder)
    assert not np.array_equal(other.batch(0, 8), dataset.batch(0, 8))


def test_seed_changes_neither_digest_nor_heldout(dataset, config, folder):
    other = reopen(dataclasses.replace(config, seed=5), folder)
    assert other.digest == dataset.digest
    np.testing.assert_array_equal(other.heldout(6), dataset.heldout(6))


def test_reading_by_window_gives_the_same(dataset, config, folder):
    other = reopen(config, folder, memory_limit=0)
    np.testing.assert_array_equal(other.batch(3, 20), dataset.batch(3, 20))
    np.testing.assert_array_equal(other.heldout(4), dataset.heldout(4))


def source_of(batch):
    """Returns 0 for windows of the first source and 1 for those of the second, by their letters."""
    return np.array([0 if (row == ord("a")).any() else 1 for row in batch])


def test_mixture_keeps_the_weights(config, folder):
    mixed = reopen(dataclasses.replace(config, weights=(0.25, 0.75)), folder)
    count = int(source_of(mixed.batch(0, 400)).sum())
    assert abs(count - 300) < 4 * np.sqrt(400 * 0.25 * 0.75)  # four binomial standard errors


def test_mixture_is_pure(config, folder):
    weighted = dataclasses.replace(config, weights=(0.25, 0.75))
    first, second = reopen(weighted, folder), reopen(weighted, folder)
    second.batch(50, 4)
    np.testing.assert_array_equal(first.batch(9, 4), second.batch(9, 4))


def test_digest_follows_the_weights(dataset, config, folder):
    digests = {reopen(dataclasses.replace(config, weights=weights), folder).digest
               for weights in (None, (0.5, 0.5), (0.25, 0.75), (1.0, 3.0))}
    # .25 : .75 and 1 : 3 are the same mixture.
    assert len(digests) == 3 and dataset.digest in digests


def test_heldout_windows_are_of_all_sources(dataset):
    assert set(source_of(dataset.heldout(dataset.heldout_windows))) == {0, 1}


def test_heldout_windows_are_distinct_and_evenly_spaced(dataset):
    every = dataset.heldout(dataset.heldout_windows).tolist()
    half = [every.index(row) for row in dataset.heldout(dataset.heldout_windows // 2).tolist()]
    assert set(np.diff(half)) <= {2, 3}


def test_heldout_text_is_not_trained_on(dataset):
    train = np.unique(dataset.batch(0, dataset.train_windows), axis=0).tolist()
    heldout = dataset.heldout(dataset.heldout_windows).tolist()
    assert not {tuple(row) for row in train} & {tuple(row) for row in heldout}


def test_more_heldout_than_there_is(dataset):
    with pytest.raises(ConfigError, match=f"sequences = 1000: .* has {dataset.heldout_windows} windows"):
        dataset.heldout(1000)


def test_sequence_longer_than_the_text(config, folder):
    with pytest.raises(ConfigError, match="sequence = 100000: needs 100001 training tokens, a.jsonl has"):
        reopen(dataclasses.replace(config, sequence=100_000), folder)


@pytest.mark.parametrize("k, size, message", [(-1, 4, "k = -1"), (0, 0, "batch_size = 0")])
def test_bad_batch(dataset, k, size, message):
    with pytest.raises(ConfigError, match=message):
        dataset.batch(k, size)


@pytest.mark.parametrize("harm", [lambda file: file.unlink(), lambda file: file.write_bytes(b"short")])
def test_damaged_tokens_are_noticed(config, tmp_path, harm):
    dataset = open_dataset(config, tmp_path)
    harm(dataset.prepared[0].folder / "train" / "c" / "0")
    with pytest.raises(ConfigError, match="a-jsonl-.*train.* is damaged"):
        open_dataset(config, tmp_path)


def test_name_and_numbers(dataset):
    assert dataset.name == "a.jsonl + b.jsonl, bytes"
    assert (dataset.vocabulary, dataset.bytes_per_token) == (256, 1.0)
    assert dataset.train_tokens + dataset.heldout_tokens == 120 * 22 + 60 * 22


def test_name_of_a_mixture_shows_the_weights(config, folder):
    mixed = reopen(dataclasses.replace(config, weights=(1.0, 3.0)), folder)
    assert mixed.name == "0.25 x (a.jsonl) + 0.75 x (b.jsonl), bytes"
    assert mixed.weights == (0.25, 0.75)


def test_description(dataset):
    lines = describe(dataset).splitlines()
    assert dataset.digest[:16] in lines[0] and lines[2].startswith("a.jsonl ")


def test_synthetic_dataset(folder):
    source = Synthetic(vocabulary=300, order=1, tokens=2000)
    dataset = open_dataset(DataConfig(sources=(source,), sequence=8), folder / "root")
    assert (dataset.vocabulary, dataset.bytes_per_token, dataset.name) == (300, None, source.name)
    assert dataset.batch(0, 50).max() >= 256  # wide ids survive
