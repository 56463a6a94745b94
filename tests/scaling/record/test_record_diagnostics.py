"""The stream of diagnostics: optional, segmented like metrics, lists and numbers as columns."""

import json
from pathlib import Path

import numpy as np
import pytest

from scaling import record
from scaling.diagnostics import noise_scale, update_ratio
from scaling.errors import InputError

IDENTITY = json.loads((Path(__file__).parent / "fixtures" / "v1" / "run.json").read_text())["identity"] | {
    "name": "tiny-s0", "tokens_per_update": 64}
SCHEDULE = np.linspace(0.0, 1e-3, 8)


def rows(first, last):
    return [{"step": s, "tokens": 64 * (s + 1), "lr": 1e-3, "train_loss": 3 - 0.1 * s} for s in range(first, last)]


@pytest.fixture
def folder(place):
    record.create(place / "run", IDENTITY, SCHEDULE, {"source": "test"})
    record.start_attempt(place / "run", {})
    record.write_segment(place / "run", 0, rows(0, 8))
    return place / "run"


def diagnosed(first, last, shift=0.0):
    return [{"step": s, "small_batch": 1, "small_grad_sq": 5.0 + shift, "residual_rms": [1.0 + shift, 2.0]}
            for s in range(first, last)]


def test_a_record_without_the_stream_has_empty_columns(folder):
    columns = record.read(folder).diagnostics
    assert list(columns) == [field.name for field in record.schema.DIAGNOSTICS]
    assert all(column.size == 0 for column in columns.values())


def test_rows_come_back_as_columns(folder):
    record.write_diagnostics(folder, 0, [
        {"step": np.int64(3), "big_grad_sq": np.float32(0.5), "residual_rms": np.array([1.5, np.nan, 2.0], np.float32)},
        {"step": 7, "small_grad_sq": float("inf"), "residual_rms": (4.0, 5.0)}])
    run = record.read(folder)
    columns = run.diagnostics
    np.testing.assert_array_equal(columns["step"], [3, 7])
    np.testing.assert_array_equal(columns["big_grad_sq"], [0.5, np.nan])
    np.testing.assert_array_equal(columns["small_grad_sq"], [np.nan, np.nan])
    np.testing.assert_array_equal(columns["residual_rms"], [[1.5, np.nan, 2.0], [4.0, 5.0, np.nan]])
    assert columns["step"].dtype == np.int64 and columns["residual_rms"].dtype == np.float64
    assert run.notes == () and run.metrics["step"].size == 8


def test_each_step_is_of_the_latest_attempt_and_a_contradiction_is_noted(folder):
    record.write_diagnostics(folder, 0, diagnosed(0, 4))
    record.start_attempt(folder, {})
    record.write_diagnostics(folder, 1, diagnosed(2, 6, shift=1.0))
    run = record.read(folder)
    np.testing.assert_array_equal(run.diagnostics["small_grad_sq"], [5, 5, 6, 6, 6, 6])
    assert run.notes == (
        "step 2: small_grad_sq 5.0 in attempt 0 became 6.0 in attempt 1 (and 1 further steps)",
        "step 2: residual_rms [1.0, 2.0] in attempt 0 became [2.0, 2.0] in attempt 1 (and 1 further steps)")


def test_a_segment_is_never_rewritten(folder):
    record.write_diagnostics(folder, 0, diagnosed(0, 2))
    with pytest.raises(InputError, match="segments are never rewritten"):
        record.write_diagnostics(folder, 0, diagnosed(0, 1))


@pytest.mark.parametrize(("row", "text"), [
    ({"step": 0, "entropy": 1.0}, "rows[0].entropy: no such diagnostic; known: step,"),
    ({"step": 0, "residual_rms": "high"}, "rows[0].residual_rms = 'high': must be a number, a list of numbers"),
    ({"step": 0, "residual_rms": [1.0, [2.0]]}, "rows[0].residual_rms = [1.0, [2.0]]: must be a number"),
    ({"step": 0, "residual_rms": [True]}, "rows[0].residual_rms = [True]: must be a number"),
    ({"residual_rms": [1.0]}, "rows[0].step = None: must be an integer from 0"),
    ({"step": -1}, "rows[0].step = -1: must be an integer from 0"),
])
def test_wrong_rows_are_refused(folder, row, text):
    with pytest.raises(InputError) as error:
        record.write_diagnostics(folder, 0, [row])
    assert str(error.value).startswith(text)


def test_steps_must_grow(folder):
    with pytest.raises(InputError, match="steps must grow"):
        record.write_diagnostics(folder, 0, diagnosed(3, 4) + diagnosed(3, 4))


def test_a_damaged_line_is_left_out_and_noted(tmp_path):
    record.create(tmp_path, IDENTITY, SCHEDULE, {})
    record.start_attempt(tmp_path, {})
    record.write_diagnostics(tmp_path, 0, diagnosed(0, 2))
    path = tmp_path / "diagnostics" / "0-0.jsonl"
    path.write_text(path.read_text() + json.dumps({"step": 2, "unknown": 1}) + "\n{")
    run = record.read(tmp_path)
    np.testing.assert_array_equal(run.diagnostics["step"], [0, 1])
    assert [note.partition(": left out")[0] for note in run.notes] == [
        "diagnostics/0-0.jsonl line 3", "diagnostics/0-0.jsonl line 4"]


def other_run(place, **changes):
    folder = place / "other"
    record.create(folder, IDENTITY, SCHEDULE, {"source": "test"})
    record.start_attempt(folder, {})
    record.write_segment(folder, 0, rows(0, 8))
    record.write_diagnostics(folder, 0, [row | changes for row in diagnosed(0, 3)])
    return record.read(folder)


@pytest.mark.parametrize(("changes", "line"), [
    ({}, None),
    ({"residual_rms": [1.0, 2.5]}, "diagnostics.residual_rms: 3 rows differ, first at step 0: [1.0, 2.0] against [1.0, 2.5]"),
    ({"residual_rms": [1.0]}, "diagnostics.residual_rms: shape (3, 2) against (3, 1)"),
    ({"small_grad_sq": None}, "diagnostics.small_grad_sq: 3 rows differ, first at step 0: 5.0 against nan"),
])
def test_runs_are_compared_on_their_diagnostics(folder, place, changes, line):
    record.write_diagnostics(folder, 0, diagnosed(0, 3))
    assert record.equal(record.read(folder), other_run(place, **changes)) == ([line] if line else [])


def test_a_run_without_diagnostics_is_not_equal_to_one_with(folder, place):
    assert record.equal(record.read(folder), other_run(place)) == ["diagnostics.step: 0 rows against 3, or other steps"]


def test_noise_scale_of_a_record(folder):
    # |G|^2 = 3, tr(Sigma) = 24; 64 tokens in an update of 16 sequences.
    record.write_diagnostics(folder, 0, [
        {"step": s, "small_batch": 2, "small_grad_sq": 3 + 24 / 2, "big_batch": 16, "big_grad_sq": 3 + 24 / 16}
        for s in (1, 3)])
    found = noise_scale(record.read(folder))
    np.testing.assert_array_equal(found.steps, [1, 3])
    np.testing.assert_allclose(found.sequences, 8, rtol=1e-12)
    np.testing.assert_allclose(found.tokens, 32, rtol=1e-12)


def test_noise_scale_of_a_record_without_it_is_refused(folder):
    record.write_diagnostics(folder, 0, diagnosed(0, 3))
    with pytest.raises(InputError, match="run tiny-s0: diagnostics hold no gradient norms of two batch sizes"):
        noise_scale(record.read(folder))


def test_update_ratio_of_a_record(folder):
    record.write_diagnostics(folder, 0, [
        {"step": 0, "block_update_rms": [0.5, 1.0, 0.0], "block_param_rms": [2.0, 0.25, 0.0]}])
    np.testing.assert_array_equal(update_ratio(record.read(folder)), [[0.25, 4.0, np.nan]])
