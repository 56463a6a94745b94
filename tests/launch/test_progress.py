"""How far the runs of a job are: what has ended, what still can, and what waits in vain."""

import numpy as np
import pytest
from launch_study import study

from jaxlm.launch.progress import Progress, read_progress
from jaxlm.train import Parent
from scaling import record

TRUNK = study().runs[0].replace(name="trunk", updates=100)


def branch(name, step, parent=TRUNK):
    return TRUNK.replace(name=name, parent=Parent(run=parent.folder, step=step))


EARLY, LATE = branch("early", 40), branch("late", 80)
TWIG, OTHER = branch("twig", 90, LATE), TRUNK.replace(name="other")
RUNS = [TRUNK, EARLY, LATE, TWIG, OTHER]


def write(root, run, state, *, updates=0, starts=()):
    """Records a run as it would stand."""
    folder = root / run.folder
    record.create(folder, {
        "name": run.folder, "study": "s", "seed": 0, "parent": None, "config": {}, "config_hash": "0" * 8,
        "params": {"total": 1, "non_embedding": 1, "with_head": 1}, "tokens_per_update": 64,
        "flops_per_token": {"head": 1}, "corpus": {"name": "made", "digest": "0"}, "loss_unit": "nats/token",
        "bytes_per_token": None}, np.ones(run.updates), {})
    for started in starts or ("2026-01-01T10:00:00+00:00",):
        attempt = record.start_attempt(folder, {"host": "here", "started": started})
    if updates:
        record.write_segment(folder, attempt, [{"step": updates - 1, "tokens": 64 * updates}])
    result = {"updates": run.updates, "tokens": 64, "heldout_loss": 1.0, "params_digest": "0"}
    record.set_status(folder, state, result=result if state == "finished" else None)


def test_without_records_nothing_has_been_done(tmp_path):
    assert read_progress(tmp_path / "nothing", RUNS) == Progress(updates=0, pending=5)


def test_what_starts_from_a_diverged_run_behind_its_end_is_lost_with_what_starts_from_that(tmp_path):
    write(tmp_path, TRUNK, "diverged", updates=60)
    found = read_progress(tmp_path, RUNS)
    assert (found.updates, found.pending, found.blocked, found.diverged) == (60, 2, 0, (TRUNK.folder,))
    assert found.lost == tuple(sorted([LATE.folder, TWIG.folder]))
    # The same where the trunk is not among the runs, and for a branch that was started all the same and failed.
    write(tmp_path, LATE, "failed")
    assert read_progress(tmp_path, [LATE]) == Progress(updates=0, pending=0, lost=(LATE.folder,))
    write(tmp_path, EARLY, "finished")
    write(tmp_path, OTHER, "finished")
    assert read_progress(tmp_path, RUNS).pending == 0


@pytest.mark.parametrize(("updates", "blocked"), [(30, 3), (60, 2), (80, 0)])
def test_what_waits_for_a_failed_run_is_blocked_until_its_checkpoint_is_there(updates, blocked, tmp_path):
    starts = ("2026-01-01T10:00:00+00:00", "2026-01-01T11:00:00+00:00")
    write(tmp_path, TRUNK, "failed", updates=updates, starts=starts)
    found = read_progress(tmp_path, RUNS)
    assert (found.pending, found.blocked, found.lost) == (5, blocked, ())
    assert found.failed == {TRUNK.folder: starts}


def test_a_run_that_ended_counts_as_ended_whatever_it_started_from(tmp_path):
    write(tmp_path, TRUNK, "diverged", updates=60)
    write(tmp_path, LATE, "finished")
    assert read_progress(tmp_path, [TRUNK, LATE, TWIG]).pending == 1
