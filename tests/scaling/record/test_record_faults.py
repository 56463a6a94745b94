"""A writer killed at each of its writes: the record stays readable, and a second start completes it."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest

from scaling import record
from scaling.record import files
from scaling.record.lease import Timing

IDENTITY = json.loads((Path(__file__).parent / "fixtures" / "v1" / "run.json").read_text())["identity"]
UPDATES, SEGMENT = 8, 2
WRITES = 2 + 1 + 1 + UPDATES // SEGMENT + 1  # schedule, run.json, attempt, segments, status
RESULT = {"updates": UPDATES, "tokens": 64 * UPDATES, "heldout_loss": 2.0, "params_digest": "ff"}
QUICK = Timing(beat=0.02, patience=0.1)


class Killed(BaseException):
    """Stands for kill -9: nothing of the writer runs after it."""


def train(folder, first=0):
    """A trainer without a lock, so that nothing is cleared up when it is killed."""
    record.create(folder, IDENTITY, np.full(UPDATES, 2e-3), {"source": "test"})
    attempt = record.start_attempt(folder, {})
    for start in range(first, UPDATES, SEGMENT):
        steps = range(start, start + SEGMENT)
        rows = [{"step": step, "tokens": 64 * (step + 1), "train_loss": 3 - step / 7, "seconds": attempt}
                for step in steps]
        record.write_segment(folder, attempt, rows)
    record.set_status(folder, "finished", result=RESULT)


def killed(monkeypatch, write, moment):
    """Makes write number `write` the last, killed before it, in its middle, or after it."""
    replace, count = files.replace_atomically, iter(range(1000))

    def patched(path, data):
        if next(count) < write:
            replace(path, data)
            return
        if moment == "after":
            replace(path, data)
        elif moment == "middle" and isinstance(path, Path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(f".{path.name}.4194304.tmp").write_bytes(data[: len(data) // 2])
        raise Killed

    monkeypatch.setattr(files, "replace_atomically", patched)


def durable(folder):
    """Steps in the record of a killed writer, which must read without a complaint."""
    if not files.exists(folder / "run.json"):
        return 0
    run = record.read(folder)
    assert run.notes == () and run.state in ("running", "finished")
    assert run.metrics["step"].tolist() == list(range(run.metrics["step"].size))
    return run.metrics["step"].size


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    train(folder)
    return record.read(folder)


@pytest.mark.parametrize("moment", ["before", "middle", "after"])
@pytest.mark.parametrize("write", range(WRITES))
def test_a_killed_writer_is_completed(place, undisturbed, monkeypatch, write, moment):
    folder = place / "run"
    with monkeypatch.context() as patch:
        killed(patch, write, moment)
        with pytest.raises(Killed):
            train(folder)
    done = durable(folder)
    with record.run_lock(folder, timing=QUICK):
        # The checkpoint is one segment older than the record: rows are redone.
        train(folder, first=max(done - SEGMENT, 0))
    run = record.read(folder)
    assert record.equal(run, undisturbed) == [] and run.notes == ()
    assert [entry["attempt"] for entry in run.attempts] == list(range(len(run.attempts)))
    assert [str(found) for found in record.find(place)] == [str(folder)]
    leftovers = [path for path in folder.rglob("*") if path.name.endswith(".tmp")]
    assert leftovers == []


def test_the_count_of_writes_is_that_of_the_trainer(tmp_path, monkeypatch):
    killed(monkeypatch, WRITES, "before")
    with contextlib.suppress(Killed):
        train(tmp_path / "run")
    assert record.read(tmp_path / "run").state == "finished"


@pytest.mark.parametrize("write", range(WRITES))
def test_each_call_may_be_made_again_when_its_answer_is_lost(place, undisturbed, monkeypatch, write):
    folder, replace, count = place / "run", files.replace_atomically, iter(range(1000))

    def patched(path, data):
        replace(path, data)
        if next(count) == write:
            raise OSError("the answer was lost")

    def again(call):
        def insistent(*args, **kwargs):
            try:
                return call(*args, **kwargs)
            except OSError:
                return call(*args, **kwargs)
        return insistent

    monkeypatch.setattr(files, "replace_atomically", patched)
    for name in ("create", "start_attempt", "write_segment", "set_status"):
        monkeypatch.setattr(record, name, again(getattr(record, name)))
    train(folder)
    run = record.read(folder)
    assert record.equal(run, undisturbed) == [] and run.notes == ()
    assert len(run.attempts) == (2 if write == 3 else 1)  # a start whose answer was lost counts as one
