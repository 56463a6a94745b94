"""Which runs are still to be trained: by the records, the parents and the policy, without training any."""

import importlib

import pytest

from jaxlm.config import ConfigError
from jaxlm.sweep import RetryPolicy, Stage, Study
from jaxlm.sweep.pending import Pending, longest_first, recorded_states
from jaxlm.train import CheckpointConfig, Parent, RunConfig
from scaling import record
from scaling.errors import InputError


@pytest.fixture
def runs(tiny):
    trunk = tiny.run("trunk", updates=24, checkpoint=CheckpointConfig(keep=(12,)))
    branch = tiny.run("branch", updates=18, decay=6, parent=Parent(run=trunk.folder, step=12))
    return trunk, branch, tiny.run("single", updates=4)


def pending(root, runs, **policy):
    return Pending(Stage(title="s", runs=runs), root, RetryPolicy(**policy))


def names(runs):
    return [run.name for run in runs]


def test_what_has_ended_is_left_out_and_the_longest_path_comes_first(write, runs, tmp_path):
    assert names(pending(tmp_path, runs[::-1]).waiting) == ["trunk", "branch", "single"]
    write(tmp_path, runs[0], "finished")
    write(tmp_path, runs[2], "preempted")
    found = pending(tmp_path, runs)
    assert names(found.waiting) == ["branch", "single"]
    assert list(found.statuses.values()) == ["finished", "new", "preempted"]


def test_the_longest_first_order_takes_branches_of_branches_into_account(tiny):
    runs, parent = [tiny.run("alone", updates=25)], None
    for step in (10, 20, 30):
        runs.append(tiny.run(f"r{step}", updates=step, checkpoint=CheckpointConfig(keep=(step,)), parent=parent))
        parent = Parent(run=runs[-1].folder, step=step)
    assert names(longest_first(runs)) == ["r10", "alone", "r20", "r30"]


def test_a_branch_is_ready_when_its_checkpoint_is_there_and_lost_when_its_parent_ends_before(write, runs, tmp_path):
    found = pending(tmp_path, runs)
    assert not found.ready(runs[1]) and found.orphans() == []
    folder = write(tmp_path, runs[0], "diverged")
    found = pending(tmp_path, runs)
    assert names(found.orphans()) == ["branch"] and found.statuses[runs[1].folder] == "skipped"
    assert found.reasons[runs[1].folder] == f"its parent {runs[0].folder} ended diverged"
    (folder / "checkpoints" / "12").mkdir(parents=True)
    found = pending(tmp_path, runs)
    assert found.ready(runs[1]) and found.orphans() == []


def test_a_branch_whose_parent_finished_without_its_checkpoint_fails(write, runs, tmp_path):
    write(tmp_path, runs[0], "finished")
    for stage in (runs, runs[1:]):  # the parent in the same stage, and in an earlier one
        found = pending(tmp_path, stage)
        assert names(found.orphans()) == ["branch"] and found.statuses[runs[1].folder] == "failed"
        assert found.reasons[runs[1].folder] == f"its parent {runs[0].folder} has no checkpoint 12"


@pytest.mark.parametrize("earlier", ["skipped in the stage before", "skipped in this stage"])
def test_what_starts_from_a_run_that_was_skipped_is_skipped_too(write, tiny, tmp_path, earlier):
    trunk = tiny.run("trunk", updates=24, checkpoint=CheckpointConfig(keep=(12,)))
    branch = tiny.run("branch", updates=18, checkpoint=CheckpointConfig(keep=(15,)),
                      parent=Parent(run=trunk.folder, step=12))
    third = tiny.run("third", updates=20, parent=Parent(run=branch.folder, step=15))
    write(tmp_path, trunk, "diverged")
    runs = (third,) if earlier.endswith("before") else (third, trunk, branch)
    found = pending(tmp_path, runs)
    assert names(found.orphans()) == names([run for run in runs[::-1] if run is not trunk]) and found.waiting == []
    assert found.statuses[third.folder] == "skipped"
    assert found.reasons[third.folder].startswith(f"its parent {branch.folder} ")
    found = pending(tmp_path, (third,))
    assert found.orphans([branch.folder]) == [] and found.waiting == [third]  # somebody else trains its parent


def test_a_parent_in_a_later_stage_is_refused(runs):
    with pytest.raises(ConfigError, match=f"parent.run = '{runs[0].folder}': run branch branches off a run of a later"):
        Study(name="s", question="?", stages=(Stage(title="", runs=runs[1:]), Stage(title="", runs=runs[:1])))


def test_branches_wait_while_a_run_that_had_failed_before_trains_again(write, runs, tmp_path):
    write(tmp_path, runs[0], "failed")
    found = pending(tmp_path, runs)
    found.take(runs[0])
    assert found.orphans() == [] and found.statuses[runs[0].folder] == "running"


def test_a_preempted_run_always_goes_on_a_failed_one_as_often_as_the_policy_says(runs, tmp_path):
    found, (trunk, branch, single) = pending(tmp_path, runs, failed=2), runs
    for run in runs:
        found.take(run)
    for _ in range(5):
        assert found.stopped(trunk, "preempted", "SIGTERM")
        found.take(trunk)
    for i in range(2):
        assert found.stopped(trunk, "failed", f"disk full {i}")
        found.take(trunk)
    assert not found.stopped(trunk, "failed", "disk full at last")
    assert found.statuses[trunk.folder] == "failed" and found.reasons[trunk.folder] == "disk full at last"
    assert not found.stopped(single, "failed", "model.width = 0", mistake=True)
    assert not found.stopped(branch, "diverged", "update 3") and found.waiting == []


def test_while_a_failed_parent_is_tried_again_its_branches_wait(runs, tmp_path):
    found = pending(tmp_path, runs)
    found.take(runs[0])
    assert found.stopped(runs[0], "failed", "lost")
    assert found.orphans() == []
    found.take(runs[0])
    assert not found.stopped(runs[0], "failed", "lost")
    assert names(found.orphans()) == ["branch"]


def test_a_diverged_run_goes_on_only_where_that_is_asked(write, runs, tmp_path):
    folder = write(tmp_path, runs[2], "diverged", reason="update 3: loss is NaN")
    assert "single" not in names(pending(tmp_path, runs).waiting)
    found = pending(tmp_path, runs, diverged=True)
    assert "single" in names(found.waiting) and record.read(folder).state == "diverged"
    found.take(runs[2])
    assert record.read(folder).status == {
        "state": "preempted", "reason": "diverged, to be tried again as asked: update 3: loss is NaN", "result": None}


def test_a_process_that_died_without_a_word_leaves_a_failed_record(write, runs, tmp_path):
    found, folder = pending(tmp_path, runs), write(tmp_path, runs[0], "running")
    found.record_death(runs[0], "its process ended with code -9")
    assert record.read(folder).status["state"] == "failed" and "code -9" in record.read(folder).status["reason"]
    found.record_death(runs[1], "nothing is recorded")  # has no record, and gets none
    assert not (tmp_path / runs[1].folder).exists()
    done = write(tmp_path, runs[2], "finished")
    found.record_death(runs[2], "after its end")
    assert record.read(done).state == "finished"


def test_a_corrupt_record_is_named(runs, tmp_path):
    (tmp_path / runs[0].folder).mkdir()
    (tmp_path / runs[0].folder / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run\.json: corrupt"):
        recorded_states(tmp_path, [runs[0].folder])


def test_states_on_an_object_store(write, runs, tmp_path):
    pytest.importorskip("upath")
    files = importlib.import_module("scaling.record.files")
    root = files.folder("memory://pending-test/s")
    assert recorded_states(root, ["a", "b"]) == {"a": "new", "b": "new"}
    write(root, runs[0], "preempted")
    assert recorded_states(root, [runs[0].folder, "b"]) == {runs[0].folder: "preempted", "b": "new"}


def test_a_circle_of_parents_is_refused(tiny, monkeypatch):
    """A folder name has the hash of its parent's, so a circle needs names that somebody forged."""
    monkeypatch.setattr(RunConfig, "folder", property(lambda run: run.name))
    keep = CheckpointConfig(keep=(2,))
    runs = [tiny.run(name, updates=8, checkpoint=keep, parent=Parent(run=other, step=2))
            for name, other in (("a", "b"), ("b", "c"), ("c", "a"))]
    with pytest.raises(ConfigError, match=r"study runs = \['a', 'b', 'c'\]: each starts from a checkpoint of the next"):
        Study(name="s", question="?", stages=(Stage(title="", runs=tuple(runs)),))


def test_a_negative_number_of_retries_is_refused():
    with pytest.raises(ConfigError, match="retries = -1: must not be negative"):
        RetryPolicy(failed=-1)
