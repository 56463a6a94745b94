"""Studies: what a study file may say, and what is refused in one line."""

import contextlib
import dataclasses
from pathlib import Path

import pytest

from jaxlm.config import ConfigError
from jaxlm.sweep import Stage, Study, load_study
from jaxlm.train import CheckpointConfig, Parent

TINY = Path(__file__).with_name("tiny_study.py")


def test_a_study_file_is_loaded_by_path():
    study = load_study(str(TINY))
    assert [run.name for run in study.runs] == ["trunk", "t18", "t30"]


def test_shipped_studies_load_by_name():
    study = load_study("quickstart")
    assert study.name == "quickstart" and len(study.stages) == 2


@pytest.mark.parametrize(("name", "rule"), [
    ("quickstrat", "did you mean 'quickstart'"), ("nowhere.py", "no such file"), ("zzz", "known: .*kills, .*optimizers, optimizers_full, quickstart")])
def test_a_missing_study_is_named(name, rule):
    with pytest.raises(ConfigError, match=rule):
        load_study(name)


def test_a_file_without_a_study_is_refused(tmp_path):
    (tmp_path / "empty.py").write_text("x = 1\n")
    with pytest.raises(ConfigError, match=r"must define a function study\(\)"):
        load_study(str(tmp_path / "empty.py"))


def test_a_run_is_found_by_name_and_the_nearest_is_offered():
    study = load_study(str(TINY))
    assert study.run("t18").updates == 18
    with pytest.raises(ConfigError, match="did you mean 'trunk'"):
        study.run("trunc")


def test_a_run_may_stand_in_a_study_once(tiny):
    run = tiny.run("a", updates=4)
    with pytest.raises(ConfigError, match="each run may stand in a study once"):
        Study(name="x", question="?", stages=(Stage(title="s", runs=(run, run)),))


def test_a_branch_needs_its_parent_in_the_study(tiny):
    run = dataclasses.replace(tiny.run("a", updates=4), parent=Parent(run="b-00000000", step=2))
    with pytest.raises(ConfigError, match="branches off no run of the study"):
        Study(name="x", question="?", stages=(Stage(title="s", runs=(run,)),))


def test_the_quick_start_keeps_the_largest_size_out_of_its_fit():
    study = load_study("quickstart")
    first, second = (stage.runs for stage in study.stages)
    largest = max(run.model.width for run in study.runs)
    assert largest not in {run.model.width for run in first}
    assert {run.updates for run in second if run.model.width == largest and run.parent} == {256, 512, 1024}


def test_a_rate_grid_whose_best_lies_at_its_edge_is_refused():
    import sys

    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "experiments"))
    try:
        import quickstart
    finally:
        sys.path.pop(0)
    assert quickstart.best_rate([(1.0, 3.0), (2.0, 2.0), (4.0, 3.0)]) == pytest.approx(2.0)
    with pytest.raises(ConfigError, match="must lie inside"):
        quickstart.best_rate([(1.0, 1.0), (2.0, 2.0), (4.0, 3.0)])


@pytest.mark.parametrize(("step", "checkpoint", "kept"), [
    (4, CheckpointConfig(keep=(4,)), True), (4, CheckpointConfig(every=2, keep_every=2), True),
    (8, CheckpointConfig(), True), (4, CheckpointConfig(every=2), False), (5, CheckpointConfig(keep=(4,)), False)])
def test_a_branch_needs_a_checkpoint_that_is_kept(tiny, step, checkpoint, kept):
    trunk = tiny.run("trunk", updates=8, checkpoint=checkpoint)
    runs = (trunk, tiny.run("branch", updates=12, parent=Parent(run=trunk.folder, step=step)))
    with contextlib.nullcontext() if kept else pytest.raises(
            ConfigError, match=rf"parent.step = {step}: run branch branches off trunk there, which must name it"):
        Study(name="s", question="?", stages=(Stage(title="", runs=runs),))


def test_a_stage_plans_runs_by_the_records_before_it(tiny, tmp_path):
    (tmp_path / "best").write_text("7")
    plan = lambda root: (tiny.run("chosen", updates=int((root / "best").read_text())),)  # noqa: E731
    study = Study(name="x", question="?", stages=(Stage(title="grid", runs=(tiny.run("a", updates=4),)),
                                                  Stage(title="best", plan=plan)))
    assert [run.name for run in study.runs] == ["a"]
    assert study.planned(0, tmp_path) is study
    assert [run.name for run in study.planned(1, tmp_path).runs] == ["a", "chosen"]
    assert study.planned(1, tmp_path).run("chosen").updates == 7


def test_a_planned_run_is_checked_like_any_other(tiny, tmp_path):
    orphan = tiny.run("b", updates=4).replace(parent=Parent(run="gone-01234567", step=2))
    study = Study(name="x", question="?", stages=(Stage(title="s", runs=(tiny.run("a", updates=4),)),
                                                  Stage(title="t", plan=lambda root: (orphan,))))
    with pytest.raises(ConfigError, match="run b branches off no run of the study"):
        study.planned(1, tmp_path)
