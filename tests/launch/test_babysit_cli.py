"""`jaxlm launch --babysit`: stage by stage, and with which code it ends."""

import types

import pytest
from launch_study import study
from test_babysit import POLICY

from jaxlm.cli.launch import _babysit
from jaxlm.launch import babysit, progress, tools
from jaxlm.launch.babysit import Decision
from jaxlm.launch.progress import Progress
from jaxlm.sweep.study import save_study

FINISHED = Decision(phase="finished")
RUN = study().runs[0]
SECOND = RUN.replace(name="second")


@pytest.fixture
def watch(tmp_path, monkeypatch):
    """Watches a job whose stages have these runs, and end as told; returns the exit code and what was looked at."""
    def call(stages, outcomes, *, run=None):
        stages, outcomes, seen = list(stages), list(outcomes), []

        def emit(words):
            if stages:  # later calls write the same
                runs = stages.pop(0)
                save_study(types.SimpleNamespace(name="spots", question="", runs=runs), tmp_path / "emit/study.json")

        def watched(cloud, look, policy, say):
            seen.append([each.name for each in look()])
            outcome = outcomes.pop(0)
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        monkeypatch.setattr(tools, "run", emit)
        monkeypatch.setattr(progress, "read_progress", lambda root, runs: runs)
        monkeypatch.setattr(babysit, "babysit", watched)
        job = types.SimpleNamespace(name="job", out=str(tmp_path.parent), before=() if run else (("emit",),))
        code = _babysit(types.SimpleNamespace(name=tmp_path.name), types.SimpleNamespace(job=job), POLICY, run)
        assert not outcomes
        return code, seen

    return call


def ended(**fields):
    return FINISHED, Progress(updates=9, pending=0, **fields)


def test_a_study_is_watched_until_no_stage_adds_a_run(watch):
    assert watch([[RUN], [RUN, SECOND]], [ended(), ended()]) == (0, [["spot"], ["spot", "second"]])


def test_one_run_is_watched_alone(watch):
    assert watch([], [ended()], run=RUN) == (0, [["spot"]])


def test_a_study_without_runs_has_nothing_to_watch(watch):
    assert watch([[]], []) == (0, [])


def test_runs_that_diverged_are_told_and_make_the_code_where_no_other_is_left(watch, capsys):
    folders = RUN.folder, SECOND.folder
    assert watch([[RUN, SECOND]], [ended(diverged=folders[:1])])[0] == 0
    assert capsys.readouterr().err == f"jaxlm: warning: diverged: {RUN.folder}\n"
    assert watch([[RUN, SECOND]], [ended(diverged=folders[:1], lost=folders[1:])])[0] == 3
    assert f"jaxlm: warning: lost: {SECOND.folder}\n" in capsys.readouterr().err


def test_a_job_that_failed_ends_the_study(watch, capsys):
    failed = Decision(phase="failed", reason="failed: spot"), Progress(updates=0, pending=1)
    assert watch([[RUN], [RUN, SECOND]], [failed])[0] == 1
    assert capsys.readouterr().err == "jaxlm: job: failed: spot\n"


def test_ctrl_c_leaves_the_slices_and_says_so(watch, capsys):
    with pytest.raises(KeyboardInterrupt):
        watch([[RUN]], [KeyboardInterrupt()])
    assert "the slices are left as they are; the same command goes on watching" in capsys.readouterr().err
