"""Faults at named points, in processes of their own: nothing recorded is lost, and the end is the same."""

import json
import os
import pathlib
import shutil
import time

import pytest
from fault_program import KILLS
from processes import FAULTY, MAIN, assert_same_end, finish, runs_of, start

from scaling import record

HERE = pathlib.Path(__file__).parent
STUDY = HERE / "fault_study.py"


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The short run without a fault; the folder also holds the cache of compiled programs."""
    out = tmp_path_factory.mktemp("straight")
    code, _, stderr = finish(start("train", f"{STUDY}:short", "--out", out, cache=out / "xla"))
    assert code == 0, stderr
    return runs_of(out / "faults")["short"], out / "xla"


def train(out, cache, fault=None, name="short"):
    """Runs `jaxlm train` with a fault; returns (exit code, standard output, standard error)."""
    words = ("train", f"{STUDY}:{name}", "--out", out)
    return finish(start(*([fault] if fault else []), *words, cache=cache, program=FAULTY if fault else MAIN))


def recorded(out):
    """What a reader sees of the run, None before there is a record."""
    runs = runs_of(out / "faults") if (out / "faults").is_dir() else {}
    return runs.get("short")


def segments(run):
    """{name: content} of all metrics segments."""
    return {path.name: path.read_text() for path in (run.folder / "metrics").glob("*.jsonl")} if run else {}


def set_clock_forward(run):
    """Makes the first attempt one of the far future, as if the clock had been set back since."""
    content = json.loads((run.folder / "run.json").read_text())
    content["attempts"][0]["started"] = "2099-01-01T00:00:00+00:00"
    (run.folder / "run.json").write_text(json.dumps(content))
    os.utime(run.folder / "run.json", (4e9, 4e9))


@pytest.mark.slow
def test_killed_at_every_named_point_with_a_clock_that_jumps_it_ends_the_same(straight, tmp_path):
    whole, cache = straight
    before: dict[str, str] = {}
    for fault in KILLS:
        code, _, stderr = train(tmp_path, cache, fault)
        assert code == -9, f"{fault}: {code} {stderr}"
        run = recorded(tmp_path)
        # Segments are never rewritten and never go; what a reader sees has no contradiction.
        assert before.items() <= segments(run).items(), fault
        before = segments(run)
        if run is not None:
            assert run.state == "running" and not record.is_held(run.folder)
            assert run.notes == () and run.metrics["step"].tolist() == list(range(run.metrics["step"].size))
            steps = [int(path.name) for path in (run.folder / "checkpoints").glob("[0-9]*") if path.name.isdecimal()]
            assert max(steps, default=0) <= run.metrics["step"].size, fault  # metrics first, then the checkpoint
            if fault == "in a checkpoint":
                set_clock_forward(run)
    code, _, stderr = train(tmp_path, cache)
    assert code == 0, stderr
    run = recorded(tmp_path)
    # Two starts ended before there was an attempt, and one before it was recorded.
    assert len(run.attempts) == len(KILLS) - 3 + 1
    assert len({attempt["first_step"] for attempt in run.attempts}) > 3
    assert run.attempts[0]["started"] > run.attempts[-1]["started"]
    assert_same_end(run, whole)
    left = [path for path in run.folder.rglob("*") if path.name.endswith(".tmp") or "orbax-checkpoint-tmp" in path.name]
    assert left == []


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(straight, tmp_path):
    whole, cache = straight
    # Bytes a file may have: too few for the tokens, for the record, for a checkpoint.
    for limit, words in ((100, "tokens cannot be written"), (500, "File too large"), (5000, "checkpoint")):
        if limit > 100:
            shutil.copytree(cache.parent / ".cache", tmp_path / ".cache", dirs_exist_ok=True)
        code, _, stderr = train(tmp_path, cache, f"full:{limit}")
        assert code == 1 and stderr.count("\n") == 1 and stderr.startswith("jaxlm: ") and words in stderr, stderr
        run = recorded(tmp_path)
        assert (run is None) == (limit < 5000)
    assert run.state == "failed" and "checkpoint" in run.status["reason"] and run.notes == ()
    assert train(tmp_path, cache)[0] == 0
    assert_same_end(recorded(tmp_path), whole)


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_one_line(straight, tmp_path):
    _, cache = straight
    (tmp_path / "faults").mkdir()
    code, _, stderr = train(tmp_path, cache, f"read-only:{tmp_path / 'faults'}")
    assert code == 1 and stderr.count("\n") == 1, stderr
    assert "Read-only file system" in stderr and str(tmp_path / "faults") in stderr
    assert recorded(tmp_path) is None


@pytest.mark.slow
def test_a_second_process_on_a_run_is_refused_and_the_first_unharmed(straight, tmp_path):
    _, cache = straight
    first = start("train", f"{STUDY}:long", "--out", tmp_path, cache=cache)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "faults").glob("long-*/metrics/*")) and time.monotonic() < deadline:
        assert first.poll() is None, first.communicate()[1]
        time.sleep(0.05)
    code, _, stderr = train(tmp_path, cache, name="long")
    assert code == 2 and stderr.count("\n") == 1, stderr
    assert f"another process is writing it ({os.uname().nodename}, pid {first.pid})" in stderr
    assert first.poll() is None
    first.terminate()
    assert finish(first)[0] == 75
    run = runs_of(tmp_path / "faults")["long"]
    assert run.status == {"state": "preempted", "reason": "SIGTERM", "result": None}
    assert len(run.attempts) == 1 and run.notes == ()
