"""Runs that start with another run's parameters, in a study: the other one first, its checkpoint kept."""

import pytest

from jaxlm.config import ConfigError
from jaxlm.sweep import Stage, Study
from jaxlm.sweep.pending import Pending
from jaxlm.train import CheckpointConfig, Initial, train


def study_of(*runs):
    return Study(name="s", question="?", stages=(Stage(title="", runs=runs),))


@pytest.mark.parametrize(("step", "kept"), [(4, True), (8, True), (5, False), (9, False)])
def test_the_checkpoint_must_be_kept(tiny, step, kept):
    first = tiny.run("first", updates=8, checkpoint=CheckpointConfig(keep=(4,)))
    second = tiny.run("second", updates=4, initial=Initial(run=first.folder, step=step))
    if kept:
        assert study_of(first, second).run("second").updates == 4
    else:
        with pytest.raises(ConfigError, match=rf"initial.step = {step}: run second branches off first there"):
            study_of(first, second)


def test_the_other_run_must_stand_in_the_study(tiny):
    with pytest.raises(ConfigError, match="initial.run = 'x-00000000': run second branches off no run of the study"):
        study_of(tiny.run("second", updates=4, initial=Initial(run="x-00000000", step=2)))


@pytest.mark.slow
def test_it_waits_for_the_checkpoint(tiny, tmp_path):
    first = tiny.run("first", updates=3)
    second = tiny.run("second", updates=9, initial=Initial(run=first.folder, step=3))
    # The costlier path is started first, not the costlier run; a second phase costs all its updates.
    alone = tiny.run("alone", updates=11)
    pending = Pending(Stage(title="", runs=(second, alone, first)), tmp_path)
    assert pending.waiting == [first, alone, second]
    assert pending.ready(first) and not pending.ready(second)
    train(first, tmp_path, tmp_path)
    assert pending.ready(second)


def test_a_run_whose_start_failed_is_skipped(tiny, write, tmp_path):
    first = tiny.run("first", updates=3)
    second = tiny.run("second", updates=9, initial=Initial(run=first.folder, step=3))
    write(tmp_path, first, "diverged")
    pending = Pending(Stage(title="", runs=(first, second)), tmp_path)
    assert pending.orphans() == [second] and pending.waiting == []
    assert pending.statuses[second.folder] == "skipped"
    assert pending.reasons[second.folder] == f"its parent {first.folder} ended diverged"
