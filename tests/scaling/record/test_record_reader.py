"""Reading run records: attempts, damage, comparison, export."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from scaling import record
from scaling.errors import InputError
from scaling.record import files

FIXTURES = Path(__file__).parent / "fixtures"
RESULT = {"updates": 8, "tokens": 512, "heldout_loss": 2.5, "params_digest": "ff"}


def identity(**changes):
    return json.loads((FIXTURES / "v1" / "run.json").read_text())["identity"] | changes


def rows(first, last, shift=0.0, **more):
    common = {"lr": 1e-3, "train_loss": 3 + shift} | more
    return [{"step": s, "tokens": 64 * (s + 1)} | common for s in range(first, last)]


def copy_of_v1(place):
    for path in FIXTURES.rglob("v1/**/*.*"):
        files.replace_atomically(place / path.relative_to(FIXTURES).as_posix(), path.read_bytes())
    return place / "v1"


@pytest.fixture
def folder(place):
    folder = place / "runs" / "a"
    record.create(folder, identity(), np.full(8, 1e-3), {})
    record.start_attempt(folder, {})
    return folder


def test_committed_record_of_version_1_stays_readable(place):
    run = record.read(copy_of_v1(place))
    assert record.equal(run, record.read(FIXTURES / "v1")) == []
    assert (run.name, run.state, run.tokens, run.n("with_head")) == ("fixture-s3", "finished", 256, 90)
    assert run.notes == ()
    np.testing.assert_array_equal(run.metrics["step"], np.arange(4))
    np.testing.assert_array_equal(run.metrics["heldout_loss"], [np.nan, 2.75, np.nan, 2.5])


def test_a_run_prints_its_path_or_url(place):
    assert repr(record.read(copy_of_v1(place))) == f"Run('{place}/v1', finished, 4 rows)"


def test_each_step_is_taken_from_the_latest_attempt(folder):
    record.write_segment(folder, 0, rows(0, 4))
    record.start_attempt(folder, {})
    record.write_segment(folder, 1, rows(2, 6, shift=1.0))
    np.testing.assert_array_equal(record.read(folder).metrics["train_loss"], [3, 3, 4, 4, 4, 4])


def test_changed_result_value_is_noted_once_with_its_count(folder):
    record.write_segment(folder, 0, rows(0, 4))
    record.start_attempt(folder, {})
    record.write_segment(folder, 1, rows(2, 6, shift=1.0))
    note = "step 2: train_loss 3.0 in attempt 0 became 4.0 in attempt 1 (and 1 further steps)"
    assert record.read(folder).notes == (note,)


def test_changed_measured_value_is_not_noted(folder):
    record.write_segment(folder, 0, rows(0, 2, seconds=1.0))
    record.start_attempt(folder, {})
    record.write_segment(folder, 1, rows(0, 2, seconds=2.0))
    assert record.read(folder).notes == ()


@pytest.mark.parametrize("damage", [b'{"step": 3, "tok', b"\xff\xfe", b'{"step": "x", "tokens": 1}', b"[]"])
def test_damaged_line_is_named_and_the_rest_is_read(folder, damage):
    record.write_segment(folder, 0, rows(0, 3))
    path = folder / "metrics" / "0-0.jsonl"
    path.write_bytes(path.read_bytes() + damage)
    run = record.read(folder)
    assert run.metrics["step"].tolist() == [0, 1, 2]
    assert len(run.notes) == 1 and run.notes[0].startswith("metrics/0-0.jsonl line 4: left out")


def test_gap_is_noted(folder):
    record.write_segment(folder, 0, rows(0, 3))
    record.write_segment(folder, 0, rows(6, 8))
    assert record.read(folder).notes == ("no rows for steps 3 to 5",)


def test_a_branch_has_no_gap_before_its_parents_step(place):
    for name, first, notes in (("whole", 5, ()), ("late", 7, ("no rows for steps 5 to 6",))):
        record.create(place / name, identity(parent={"run": "trunk", "step": 5}), np.full(12, 1e-3), {})
        record.write_segment(place / name, record.start_attempt(place / name, {}), rows(first, 12))
        assert record.read(place / name).notes == notes


def test_rows_every_tenth_update_are_no_gap(folder):
    record.write_segment(folder, 0, [row for row in rows(9, 80) if row["step"] % 10 == 9])
    assert record.read(folder).notes == ()


def test_corrupt_run_json_is_named(folder):
    (folder / "run.json").write_text("{")
    with pytest.raises(InputError, match="run.json: corrupt"):
        record.read(folder)


def test_newer_schema_is_refused(folder):
    content = json.loads((folder / "run.json").read_text()) | {"schema_version": 99}
    (folder / "run.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="schema_version = 99"):
        record.read(folder)


def test_folder_without_a_run_is_named(place):
    with pytest.raises(InputError, match="holds no run.json"):
        record.read(place)


def test_find_returns_sorted_run_folders(folder):
    other = folder.parent / "A"
    record.create(other, identity(), np.ones(2), {})
    assert record.find(folder.parent.parent) == [other, folder]


def test_final_heldout_loss_falls_back_to_the_last_evaluated(folder):
    segment = rows(0, 3)
    segment[1]["heldout_loss"] = 2.75
    record.write_segment(folder, 0, segment)
    assert record.read(folder).heldout_loss == 2.75


def test_unknown_counting_is_refused():
    with pytest.raises(InputError, match="counting = 'all'"):
        record.read(FIXTURES / "v1").n("all")


def test_equal_ignores_measured_fields(folder, place):
    record.write_segment(folder, 0, rows(0, 8, seconds=1.0))
    record.set_status(folder, "finished", result=RESULT)
    twin = place / "twin"
    record.create(twin, identity(), np.full(8, 1e-3), {})
    record.start_attempt(twin, {"host": "elsewhere"})
    record.write_segment(twin, 0, rows(0, 4, seconds=9.0))
    record.start_attempt(twin, {})
    record.write_segment(twin, 1, rows(4, 8))
    record.set_status(twin, "finished", result=RESULT)
    assert record.equal(record.read(folder), record.read(twin)) == []


def test_equal_names_every_result_difference(folder):
    record.write_segment(folder, 0, rows(0, 2))
    record.set_status(folder, "finished", result=RESULT)
    run = record.read(folder)
    loss = np.nextafter(run.metrics["train_loss"], 9)
    other = dataclasses.replace(
        run,
        identity=run.identity | {"seed": 4},
        schedule=run.schedule * 2,
        metrics=run.metrics | {"train_loss": loss},
        status=run.status | {"result": RESULT | {"params_digest": "ee"}},
    )
    found = [line.split(":")[0] for line in record.equal(run, other)]
    assert found == ["identity.seed", "schedule", "metrics.train_loss", "result.params_digest"]


def test_csv_has_one_row_a_run(place):
    run = record.read(copy_of_v1(place))
    record.to_csv([run], place / "runs.csv")
    (row,) = csv.DictReader(files.read_bytes(place / "runs.csv").decode().splitlines())
    assert row == {
        "run": "fixture-s3",
        "seed": "3",
        "N_total": "120",
        "N_non_embedding": "80",
        "N_with_head": "90",
        "D": "256",
        "peak_lr": "0.002",
        "batch_tokens": "64",
        "schedule_file": str(place / "v1" / "schedule.npy"),
        "loss": "2.5",
        "loss_unit": "nats/token",
        "status": "finished",
    }
