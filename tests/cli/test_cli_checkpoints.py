"""`jaxlm checkpoints`: the dry list is what --delete removes, and some checkpoints are never removed."""

import fcntl
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from jaxlm.cli import checkpoints, disk, main
from scaling import record

STEPS = (10, 20, 30, 40)
LOSSES = {10: 2.0, 20: 3.0, 30: 2.5, 40: 2.8}


def make(root, name, *, state="finished", parent=None, policy=None, steps=STEPS):
    """A record with folders in the place of checkpoints; held-out losses after each of `STEPS`."""
    folder = root / name
    config = {"model": {"width": 8}}
    if policy is not None:
        config["checkpoint"] = {"every": 10, "latest": 2, "keep": []} | policy
    record.create(folder, {
        "name": name, "study": root.name, "seed": 0, "parent": parent, "config": config, "config_hash": "0",
        "params": {"total": 1, "non_embedding": 1, "with_head": 1}, "tokens_per_update": 1, "flops_per_token": {},
        "corpus": {"name": "", "digest": ""}, "loss_unit": "nats/token", "bytes_per_token": None,
    }, np.ones(40), {})
    attempt = record.start_attempt(folder, {})
    record.write_segment(folder, attempt, [{"step": step - 1, "tokens": step, "heldout_loss": LOSSES[step]}
                                           for step in STEPS])
    result = {"updates": 40, "tokens": 40, "heldout_loss": 2.8, "params_digest": "0"}
    record.set_status(folder, state, result=result if state == "finished" else None)
    for step in steps:
        inner = folder / "checkpoints" / str(step) / "default"
        inner.mkdir(parents=True)
        (inner / "data").write_bytes(b"0" * 1000)
    return folder


def going(folder, changes=None):
    """The steps that would go, by the plan that the table shows."""
    entries = checkpoints.plan(folder, changes or {}, checkpoints.StudyFolder(folder.parent))[1]
    return [entry.name for entry in entries if not entry.reasons]


@pytest.fixture
def study(tmp_path):
    root = tmp_path / "study"
    make(root, "trunk", policy={"keep": [10]})
    make(root, "branch", parent={"run": "trunk", "step": 20}, policy={"latest": 1, "best": 1})
    make(root, "stopped", state="preempted", policy={"latest": 1, "keep_every": 20})
    make(root, "foreign")
    return root


def test_reasons(study):
    entries = {name: {e.name: e.reasons for e in checkpoints.plan(study / name, {}, checkpoints.StudyFolder(study))[1]}
               for name in ("trunk", "branch", "stopped", "foreign")}
    assert entries["trunk"] == {"10": ("pinned",), "20": ("branch point of branch",), "30": ("latest 2",),
                                "40": ("latest 2", "final")}
    assert entries["branch"] == {"10": ("best 1",), "20": (), "30": (), "40": ("latest 1", "final")}
    assert entries["stopped"] == {"10": (), "20": ("every 20",), "30": (),
                                  "40": ("latest 1", "every 20", "newest of an unfinished run")}
    assert set(entries["foreign"]["10"]) == {"no policy recorded"}


def test_nothing_goes_without_delete_and_with_it_exactly_the_dry_list(study, capsys):
    before = {name: disk.saved_steps(study / name) for name in ("trunk", "branch", "stopped", "foreign")}
    dry = {name: [int(step) for step in going(study / name)] for name in before}
    assert main(["checkpoints", str(study)]) == 0
    assert "nothing was deleted; --delete" in capsys.readouterr().out
    assert {name: disk.saved_steps(study / name) for name in before} == before
    assert main(["checkpoints", str(study), "--delete"]) == 0
    assert f"deleted {sum(map(len, dry.values()))}, 3.9 KiB" in capsys.readouterr().out
    for name, steps in before.items():
        assert disk.saved_steps(study / name) == [step for step in steps if step not in dry[name]]
        assert not disk.leftovers(study / name)


def test_another_policy_never_takes_branch_points_and_the_newest(study):
    assert main(["checkpoints", str(study), "--latest", "1", "--every", "0", "--best", "0", "--delete"]) == 0
    assert disk.saved_steps(study / "trunk") == [10, 20, 40]
    assert disk.saved_steps(study / "stopped") == [40]
    assert disk.saved_steps(study / "foreign") == [40]


def test_a_run_that_is_being_trained_is_left_alone(study, capsys):
    (study / "stopped" / "checkpoints" / "50.orbax-checkpoint-tmp").mkdir()
    with open(study / "stopped" / "lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert going(study / "stopped") == []
        assert main(["checkpoints", str(study / "stopped"), "--delete"]) == 0
    assert disk.saved_steps(study / "stopped") == list(STEPS)
    assert disk.leftovers(study / "stopped")


def test_a_damaged_record_protects_what_it_may_branch_from(study):
    (study / "branch" / "run.json").write_text("{")
    assert going(study / "stopped") == [] and going(study / "trunk") == []


def test_a_branch_that_comes_after_the_list_is_seen_before_deletion(study):
    folder = checkpoints.StudyFolder(study)
    entries = [e for e in checkpoints.plan(study / "stopped", {}, folder)[1] if not e.reasons]
    assert [e.name for e in entries] == ["10", "30"]
    make(study, "late", parent={"run": "stopped", "step": 30}, policy={}, steps=())
    gone = checkpoints.delete_entries(study / "stopped", {}, folder, going=entries)
    assert [e.name for e in gone] == ["10"]
    assert disk.saved_steps(study / "stopped") == [20, 30, 40]


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from jaxlm.cli import checkpoints
def rmtree(path):  # dies with the first of the files gone
    next(p for p in Path(path).rglob("*") if p.is_file()).unlink()
    os.kill(os.getpid(), signal.SIGKILL)
shutil.rmtree = rmtree
checkpoints.remove(Path(sys.argv[1]))
"""


def test_a_deletion_killed_half_way_never_looks_committed(tmp_path):
    import orbax.checkpoint as ocp

    folder = make(tmp_path / "s", "run", policy={"latest": 1}, steps=())
    root = folder / "checkpoints"
    with ocp.CheckpointManager(root) as manager:
        for step in (10, 20):
            manager.save(step, args=ocp.args.StandardSave({"w": np.ones(4)}))
    done = subprocess.run([sys.executable, "-c", KILLED, str(root / "10")], timeout=60)
    assert done.returncode == -9
    assert disk.saved_steps(folder) == [20] and len(disk.leftovers(folder)) == 1
    with ocp.CheckpointManager(root, options=ocp.CheckpointManagerOptions(read_only=True)) as manager:
        assert list(manager.all_steps()) == [20]
    assert going(folder) == [disk.leftovers(folder)[0].name]
    # The next start of the run clears it away, and so does the command.
    with ocp.CheckpointManager(root, options=ocp.CheckpointManagerOptions(cleanup_tmp_directories=True)) as manager:
        manager.save(30, args=ocp.args.StandardSave({"w": np.ones(4)}))
    assert not disk.leftovers(folder)
    (root / "40.orbax-checkpoint-tmp").mkdir()
    assert main(["checkpoints", str(folder), "--delete"]) == 0
    assert not disk.leftovers(folder) and disk.saved_steps(folder) == [30]


def test_a_deletion_that_left_the_same_name_before_is_done_again(tmp_path):
    folder = make(tmp_path / "s", "run", policy={"latest": 1})
    (folder / "checkpoints" / f"10{disk.TEMPORARY}" / "default").mkdir(parents=True)
    checkpoints.remove(folder / "checkpoints" / "10")
    assert sorted(os.listdir(folder / "checkpoints")) == ["20", "30", "40"]


def test_checkpoints_may_lie_elsewhere(study, tmp_path):
    elsewhere = tmp_path / "elsewhere" / "study" / "stopped"
    elsewhere.mkdir(parents=True)
    (study / "stopped" / "checkpoints").rename(elsewhere / "checkpoints")
    assert main(["checkpoints", str(study / "stopped"), "--delete"]) == 0
    assert disk.saved_steps(elsewhere) == list(STEPS)
    assert main(["checkpoints", str(study / "stopped"), "--checkpoints", str(tmp_path / "elsewhere"), "--delete"]) == 0
    assert disk.saved_steps(elsewhere) == [20, 40]


@pytest.mark.parametrize(("words", "message"), [
    (["--checkpoints", "memory://x", "--delete"], "delete = True: only local checkpoints are deleted"),
    (["--latest", "0"], "checkpoint.latest = 0: must be at least 1"),
    (["--best", "-1"], "checkpoint.best = -1: must not be negative"),
    (["--every", "-5"], "checkpoint.keep_every = -5: must not be negative"),
    (["--latest", "x"], "argument --latest: invalid int value: 'x'"),
    (["nowhere"], "root = 'nowhere': no such folder"),
    (["--delte"], "--delte: no such option"),
])
def test_a_mistake_is_one_line(words, message, tmp_path, capsys):
    roots = [] if words == ["nowhere"] else [str(tmp_path)]
    assert main(["checkpoints", *roots, *words]) == 2
    stderr = capsys.readouterr().err
    assert message in stderr and stderr.count("\n") == 1, stderr


def test_a_damaged_run_is_named(study, capsys):
    content = json.loads((study / "foreign" / "run.json").read_text())
    del content["identity"]["seed"]
    (study / "foreign" / "run.json").write_text(json.dumps(content))
    assert main(["checkpoints", str(study)]) == 0
    assert "damaged, left out" in capsys.readouterr().err
