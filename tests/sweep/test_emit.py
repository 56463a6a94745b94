"""The executor that writes down what is to be trained: files for pods, nothing executed."""

import json
import shutil
from pathlib import Path

import pytest

from jaxlm.cli import main
from jaxlm.config import ConfigError
from jaxlm.sweep import Stage, Study, load_study
from jaxlm.sweep.emit import Emit, parents_first
from scaling import record

TINY = Path(__file__).with_name("tiny_study.py")


def emit(out, *options, study=TINY):
    return main(["study", str(study), "--executor", "emit", "--out", str(out), *options])


def lines(out):
    return [json.loads(line) for line in (out / "tiny" / "emit" / "runs.jsonl").read_text().splitlines()]


def test_a_line_has_command_dependencies_and_estimate(tmp_path, capsys):
    assert emit(tmp_path, "--option", "arguments=--mesh.fsdp=1 --stop-at 3", "--option", "cache=gs://bucket/xla") == 0
    trunk, *branches = lines(tmp_path)
    study = tmp_path / "tiny" / "emit" / "study.json"
    assert trunk["command"] == ["jaxlm", "train", f"{study}:{trunk['run']}", "--out", str(tmp_path), "--mesh.fsdp=1",
                                "--stop-at", "3"]
    assert (trunk["after"], trunk["checkpoint"], trunk["status"]) == ([], None, "new")
    assert trunk["environment"] == {"JAX_COMPILATION_CACHE_DIR": "gs://bucket/xla"}
    assert {tuple(branch["after"]) for branch in branches} == {(trunk["run"],)}
    assert sorted(branch["checkpoint"]["step"] for branch in branches) == [12, 24]
    # 24 updates of 4 sequences of 16 tokens; AdamW holds two numbers a parameter, and counters.
    estimate = trunk["estimate"]
    assert (estimate["updates"], estimate["tokens"]) == (24, 1536)
    assert 0 <= estimate["state_bytes"] - 12 * estimate["parameters"] < 64
    out = capsys.readouterr().out
    assert "3 runs to train, written to" in out and "goes on from their records and draws the report" in out


def test_nothing_is_executed_and_the_same_records_give_the_same_bytes(tmp_path):
    assert emit(tmp_path) == 0
    first = {path.name: path.read_bytes() for path in (tmp_path / "tiny" / "emit").iterdir()}
    assert emit(tmp_path) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "tiny" / "emit").iterdir()} == first
    assert record.find(tmp_path) == [] and not (tmp_path / ".cache").exists()


def test_what_has_ended_is_left_out_and_its_branches_wait_for_nothing(write, tmp_path):
    study = load_study(str(TINY))
    folder = write(tmp_path / "tiny", study.run("trunk"), "finished")
    for step in (12, 24):
        (folder / "checkpoints" / str(step)).mkdir(parents=True)
    write(tmp_path / "tiny", study.run("t18"), "preempted")
    assert emit(tmp_path) == 0
    assert sorted((line["run"].partition("-")[0], line["status"], line["after"]) for line in lines(tmp_path)) == [
        ("t18", "preempted", []), ("t30", "new", [])]


def test_what_starts_from_a_diverged_run_is_left_out_to_the_last_generation(write, tmp_path):
    (tmp_path / "three.py").write_text(THREE.format(folder=str(TINY.parent)))
    study = load_study(str(tmp_path / "three.py"))
    assert emit(tmp_path, study=tmp_path / "three.py") == 0
    assert [len(line["after"]) for line in lines(tmp_path)] == [0, 1, 1]  # the last stands in a stage of its own
    write(tmp_path / "tiny", study.run("trunk"), "diverged")
    assert emit(tmp_path, study=tmp_path / "three.py") == 0
    assert lines(tmp_path) == []


THREE = '''
import sys
sys.path.insert(0, "{folder}")
from tiny_study import run
from jaxlm.sweep import Stage, Study
from jaxlm.train import CheckpointConfig, Parent

def study():
    trunk = run("trunk", updates=24, checkpoint=CheckpointConfig(keep=(12,)))
    branch = run("b", updates=18, checkpoint=CheckpointConfig(keep=(15,)), parent=Parent(run=trunk.folder, step=12))
    third = run("c", updates=20, parent=Parent(run=branch.folder, step=15))
    return Study(name="tiny", question="?", stages=(
        Stage(title="first", runs=(trunk, branch)), Stage(title="second", runs=(third,))))
'''


def test_both_files_are_written_at_once_when_all_stages_are_known(tiny, tmp_path):
    study = Study(name="tiny", question="?", stages=(Stage(title="a", runs=(tiny.run("a", updates=4),)),
                                                     Stage(title="b", runs=(tiny.run("b", updates=4),))))
    with Emit(study, tmp_path / "tiny", tmp_path) as executor:
        for stage in study.stages:
            executor.run_stage(stage)
            assert not (tmp_path / "tiny").exists()
    assert [line["stage"] for line in lines(tmp_path)] == ["a", "b"]


@pytest.mark.parametrize(("out", "cache"), [
    ("s3://bucket", "s3://bucket/.cache/xla"), ("s3://bucket/runs", "s3://bucket/runs/.cache/xla"),
    ("http://x/y", None)])
def test_the_cache_lies_beside_the_studies_on_a_store_that_has_one(tiny, tmp_path, out, cache):
    pytest.importorskip("upath")
    from scaling.record import files

    study, root = tiny.study(), files.folder(out) / "tiny"
    if cache is None:
        with pytest.raises(ConfigError, match=r"must be a local folder or .*; --option cache=PLACE gives one"):
            Emit(study, root, tmp_path)
    else:
        assert Emit(study, root, tmp_path)._environment == {"JAX_COMPILATION_CACHE_DIR": cache}


def test_when_all_have_ended_the_hook_is_called(write, tmp_path):
    study = load_study(str(TINY))
    for run in study.runs:
        write(tmp_path / "tiny", run, "finished")
    assert emit(tmp_path) == 0
    assert lines(tmp_path) == [] and (tmp_path / "tiny" / "seen").read_text() == "yes"


def test_the_saved_study_serves_wherever_a_study_is_named(tmp_path, capsys):
    assert emit(tmp_path) == 0
    saved, study = load_study(str(tmp_path / "tiny" / "emit" / "study.json")), load_study(str(TINY))
    assert saved.runs == study.runs and saved.name == study.name
    command = next(line["command"] for line in lines(tmp_path) if line["run"].startswith("t18"))
    capsys.readouterr()
    assert main([*command[1:], "--show"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "t18"


PLANNED = """
from tests_tiny import run
from jaxlm.sweep import Stage, Study

def study():
    runs = (run("a", updates=4), run("b", updates=6))
    plan = lambda root: (run("chosen", updates=8),)
    return Study(name="tiny", question="?", stages=(
        Stage(title="grid", runs=runs[:1]), Stage(title="more", runs=runs[1:]), Stage(title="best", plan=plan)))
"""


def test_planned_stages_follow_when_the_records_are_there(write, tmp_path, capsys):
    shutil.copy(TINY, tmp_path / "tests_tiny.py")
    (tmp_path / "planned.py").write_text(PLANNED)
    study = tmp_path / "planned.py"
    assert emit(tmp_path, study=study) == 0
    assert [line["stage"] for line in lines(tmp_path)] == ["grid", "more"]
    assert "plans the stage best" in capsys.readouterr().out
    for run in load_study(str(study)).runs:
        write(tmp_path / "tiny", run, "finished")
    assert emit(tmp_path, study=study) == 0
    assert [line["run"].partition("-")[0] for line in lines(tmp_path)] == ["chosen"]
    assert load_study(str(tmp_path / "tiny" / "emit" / "study.json")).run("chosen").updates == 8


def test_runs_come_after_their_parents(tiny):
    runs = list(tiny.study().runs)
    assert [run.name for run in parents_first(runs[::-1])] == ["trunk", "t30", "t18"]


@pytest.mark.parametrize(("options", "message"), [
    (["--executor", "emitt"], "executor = 'emitt': no such executor; did you mean 'emit'?"),
    (["--executor", "emit", "--workers", "2"], "option workers = '2': executor emit has no such option"),
    (["--option", "partition=cpu"], "option partition = 'cpu': executor pool has no such option"),
    (["--option", "workrs=2"], "did you mean 'workers'?"),
    (["--option", "workers"], "option = 'workers': must be NAME=VALUE"),
    (["--workers", "-1"], "workers = -1: must not be negative"),
    (["--option", "cache=ftp://x"], "cache = 'ftp://x': must be a local folder or a URL of gs://, s3://, az://"),
    (["--retries", "-1"], "retries = -1: must not be negative"),
    (["--flops-per-second", "1e9"], "must be positive, and goes with --estimate"),
    (["--executor", "emit", "--option", "program= "], "program = ' ': must name a command"),
    (["--executor", "emit", "--option", "arguments=--mesh.fsdp=1 --batch 8"],
     "option arguments = '--mesh.fsdp=1 --batch 8': batch makes another run of trunk: set it in the study"),
    (["--executor", "emit", "--option", "arguments=--model.wdth=8"], "did you mean 'width'?"),
    (["--executor", "emit", "--retry-diverged"], "executor emit only reads the records"),
])
def test_a_mistake_is_one_line_and_nothing_is_created(tmp_path, capsys, options, message):
    assert main(["study", str(TINY), "--out", str(tmp_path), *options]) == 2
    stderr = capsys.readouterr().err
    assert message in stderr and stderr.count("\n") == 1, stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"name": "x", "question": "?", "runs": [{"name": "a"}]}'])
def test_a_file_that_is_no_saved_study_is_refused(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ConfigError):
        load_study(str(tmp_path / "x.json"))
    with pytest.raises(ConfigError, match="no such file"):
        load_study(str(tmp_path / "y.json"))
