"""Runs whose records lie on an object store and whose checkpoints lie on a local disk."""

import contextlib
import pathlib

import pytest
from processes import FAULTY, MAIN, finish, start
from tiny_run import RUN

from jaxlm.train import Parent, train
from scaling import record

HERE = pathlib.Path(__file__).parent
STUDY = HERE / "fault_study.py"


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.mark.parametrize("where", [pytest.param("s3", marks=pytest.mark.slow), "memory"])
def test_a_run_and_its_branch_recorded_on_a_store_equal_local_ones(store, data_root, tmp_path, where):
    root = f"{store}/exact" if where == "s3" else "memory://exact"
    branch = RUN.replace(name="branch", parent=Parent(run=RUN.folder, step=5))
    places = {"checkpoint_root": tmp_path / "states"}
    assert train(RUN, root, data_root, stop_at=10, **places).status == "preempted"
    for config in (RUN, branch):
        assert train(config, root, data_root, **places) == train(config, tmp_path / "local", data_root)
        remote = record.read(f"{root}/{config.folder}")
        assert record.equal(remote, record.read(tmp_path / "local" / config.folder)) == [] and remote.notes == ()
    assert [folder.name for folder in record.find(root)] == sorted((RUN.folder, branch.folder))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["local", "states"]


def test_a_run_that_was_taken_over_writes_no_more(data_root, tmp_path, monkeypatch):
    class Lost:
        def check(self):
            raise record.LeaseLost("run = 'tiny': another process has taken it over")

    monkeypatch.setattr(record, "run_lock", lambda folder, wait: contextlib.nullcontext(Lost()))
    with pytest.raises(record.LeaseLost, match="taken it over"):
        train(RUN, tmp_path, data_root)
    run = record.read(tmp_path / RUN.folder)
    assert run.state == "running" and run.metrics["step"].size == 0
    assert not list((run.folder / "checkpoints").iterdir())


@pytest.mark.slow
def test_killed_on_a_store_another_process_takes_the_lease_over_and_goes_on(store, tmp_path, monkeypatch):
    monkeypatch.setenv("SCALING_LEASE_BEAT", "0.5")  # seconds; a silent holder counts as dead after six
    words = ("train", f"{STUDY}:short", "--updates=12", "--out", f"{store}/killed", "--checkpoints", tmp_path / "states")
    code, _, stderr = finish(start("before a commit", *words, cache=tmp_path / "xla", program=FAULTY))
    assert code == -9, stderr
    folder = record.find(f"{store}/killed")[0]
    assert record.read(folder).state == "running"
    code, _, stderr = finish(start(*words, cache=tmp_path / "xla", program=MAIN))
    assert code == 0, stderr
    run = record.read(folder)
    assert run.state == "finished" and len(run.attempts) == 2 and run.notes == ()
    assert run.metrics["step"].tolist() == list(range(12))
