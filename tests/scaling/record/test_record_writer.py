"""Writing run records: what is refused, and what a reader may count on."""

import json

import numpy as np
import pytest

from scaling import record
from scaling.errors import InputError
from scaling.record import files

SCHEDULE = np.linspace(0.0, 1e-3, 8)


def identity(**changes):
    fields = {
        "name": "tiny-s0",
        "study": "test",
        "seed": 0,
        "parent": None,
        "config": {"model": {"width": 8}},
        "config_hash": "abcd1234",
        "params": {"total": 120, "non_embedding": 80, "with_head": 100},
        "tokens_per_update": 64,
        "flops_per_token": {"attention": 1.0, "head": 2.0},
        "corpus": {"name": "synthetic", "digest": "00"},
        "loss_unit": "nats/token",
        "bytes_per_token": 1.0,
    }
    return fields | changes


def rows(first, last, loss=3.0):
    steps = range(first, last)
    return [{"step": s, "tokens": 64 * (s + 1), "lr": 1e-3, "train_loss": loss - 0.1 * s} for s in steps]


@pytest.fixture
def folder(place):
    record.create(place / "run", identity(), SCHEDULE, {"source": "test"})
    record.start_attempt(place / "run", {"host": "here"})
    return place / "run"


def test_new_record_is_running_and_keeps_identity_and_schedule(folder):
    run = record.read(folder)
    assert (run.state, run.identity, run.provenance) == ("running", identity(), {"source": "test"})
    np.testing.assert_array_equal(run.schedule, SCHEDULE)


def test_creating_the_same_run_again_leaves_it(folder):
    record.write_segment(folder, 0, rows(0, 2))
    before = (folder / "run.json").read_bytes()
    record.create(folder, identity(), SCHEDULE, {"source": "test"})
    assert (folder / "run.json").read_bytes() == before


def test_another_identity_in_the_folder_is_refused_by_field(folder):
    with pytest.raises(InputError, match="these differ: seed$"):
        record.create(folder, identity(seed=1), SCHEDULE, {})


def test_another_schedule_in_the_folder_is_refused(folder):
    with pytest.raises(InputError, match="another schedule"):
        record.create(folder, identity(), SCHEDULE * 2, {})


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"seed": "0"}, "identity.seed"),
        ({"colour": 1}, "identity.colour"),
        ({"params": {"total": 1}}, "identity.params.non_embedding"),
        ({"parent": {"run": "a"}}, "identity.parent"),
        ({"config": {"x": float("nan")}}, "identity"),
    ],
)
def test_wrong_identity_is_refused_naming_the_field(place, changes, field):
    with pytest.raises(InputError, match=f"^{field}"):
        record.create(place / "run", identity(**changes), SCHEDULE, {})


def test_missing_identity_field_is_refused(place):
    fields = identity()
    del fields["corpus"]
    with pytest.raises(InputError, match="^identity.corpus: missing"):
        record.create(place / "run", fields, SCHEDULE, {})


def test_attempts_count_up_and_set_running(folder):
    record.set_status(folder, "preempted", "SIGTERM")
    assert record.start_attempt(folder, {"host": "there"}) == 1
    run = record.read(folder)
    assert [a["host"] for a in run.attempts] == ["here", "there"]
    assert run.status == {"state": "running", "reason": None, "result": None}


def test_segment_is_never_rewritten(folder):
    record.write_segment(folder, 0, rows(0, 2))
    with pytest.raises(InputError, match="0-0.jsonl: this segment stands already"):
        record.write_segment(folder, 0, rows(0, 3))
    assert record.read(folder).metrics["step"].tolist() == [0, 1]


def test_the_same_segment_again_is_a_call_made_again(folder):
    record.write_segment(folder, 0, rows(0, 2))
    record.write_segment(folder, 0, rows(0, 2))
    assert record.read(folder).metrics["step"].tolist() == [0, 1]


def test_attempt_of_a_segment_is_not_given_again_when_run_json_is_an_older_one(folder):
    older = files.read_bytes(folder / "run.json")
    record.write_segment(folder, record.start_attempt(folder, {}), rows(0, 2))
    files.replace_atomically(folder / "run.json", older)
    assert record.start_attempt(folder, {}) == 2
    assert record.start_attempt(folder, {}) == 3


def test_not_finite_values_are_null(folder):
    record.write_segment(
        folder, 0, [{"step": 0, "tokens": 64, "train_loss": np.float32("nan"), "lr": float("inf")}]
    )
    assert json.loads((folder / "metrics" / "0-0.jsonl").read_text()) == {
        "step": 0,
        "tokens": 64,
        "train_loss": None,
        "lr": None,
    }


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([], "at least one row"),
        ([{"step": 0, "tokens": 1, "loss": 2.0}], "rows.0..loss: no such metric"),
        ([{"step": 0}], "rows.0..tokens = None"),
        ([{"step": 0, "tokens": 1, "lr": "x"}], "rows.0..lr = 'x'"),
        (rows(1, 2) + rows(0, 1), "steps must grow"),
    ],
)
def test_wrong_rows_are_refused(folder, bad, message):
    with pytest.raises(InputError, match=message):
        record.write_segment(folder, 0, bad)


def test_numpy_and_jax_like_scalars_are_accepted(folder):
    record.write_segment(
        folder, 0, [{"step": np.int32(0), "tokens": np.int64(64), "train_loss": np.array(2.5)}]
    )
    assert record.read(folder).metrics["train_loss"].tolist() == [2.5]


def test_finished_needs_a_whole_result(folder):
    with pytest.raises(InputError, match="^result.params_digest: missing"):
        record.set_status(folder, "finished", result={"updates": 1, "tokens": 2, "heldout_loss": 3.0})


def test_unknown_state_is_refused(folder):
    with pytest.raises(InputError, match="state = 'done'"):
        record.set_status(folder, "done")


def test_no_temporary_file_is_left(folder):
    record.write_segment(folder, 0, rows(0, 2))
    assert not [path for path in folder.rglob("*") if path.suffix == ".tmp"]


def test_failed_replacement_leaves_the_old_file(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    record.create(tmp_path / "run", identity(), SCHEDULE, {})
    before = (tmp_path / "run" / "run.json").read_bytes()
    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        record.set_status(tmp_path / "run", "failed", "x")
    assert (tmp_path / "run" / "run.json").read_bytes() == before


def test_store_that_cannot_be_asked_is_not_taken_for_an_empty_folder(place, monkeypatch):
    def unreachable(*_, **__):
        raise RuntimeError("no connection")

    folder = files.folder("memory://reach/run")
    record.create(folder, identity(), SCHEDULE, {})
    before = files.read_bytes(folder / "run.json")
    with monkeypatch.context() as patch:
        patch.setattr(type(folder.fs), "info", unreachable)
        with pytest.raises(OSError, match="RuntimeError: no connection.*memory://reach/run/run.json"):
            record.create(folder, identity(seed=1), SCHEDULE, {})
    assert files.read_bytes(folder / "run.json") == before
