"""The local pool, with real worker processes, through the command line."""

import json
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from jaxlm.cli import main
from jaxlm.sweep import Pool
from jaxlm.sweep.pending import Pending
from jaxlm.sweep.pool import PoolConfig
from scaling import record

TINY = Path(__file__).with_name("tiny_study.py")
MAIN = [sys.executable, "-c", "from jaxlm.cli import main; raise SystemExit(main())", "study", str(TINY)]


def start(out, *options, cache=None, **environment):
    """Starts the study under `out`; compilations are shared through the `cache` of another output folder."""
    environment |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_DISABLE_MOST_OPTIMIZATIONS": "True",
                    "JAX_COMPILATION_CACHE_DIR": str((cache or out) / ".cache" / "xla")}
    return subprocess.Popen([*MAIN, "--out", str(out), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, env=os.environ | environment)


def finish(process):
    stdout, stderr = process.communicate(timeout=240)
    return process.returncode, stdout, stderr


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The tiny study with a run that diverges, trained once without a disturbance."""
    out = tmp_path_factory.mktemp("runs")
    return out, finish(start(out, "--workers", "1", TINY_WILD="1"))  # a second worker would start and load JAX again


def runs_of(out):
    return {run.identity["config"]["name"]: run for run in map(record.read, record.find(out / "tiny"))}


def test_all_runs_end_and_the_hook_is_called(undisturbed):
    out, (code, stdout, stderr) = undisturbed
    assert code == 0, stderr
    assert {name: run.state for name, run in runs_of(out).items()} == {
        "trunk": "finished", "t18": "finished", "t30": "finished", "wild": "diverged"}
    assert (out / "tiny" / "seen").read_text() == "yes"
    assert "5 runs to train" in stdout and "held-out loss" in stdout


def test_the_table_of_runs_shows_status_and_loss(undisturbed, capsys, tmp_path):
    out, _ = undisturbed
    assert main(["runs", str(out / "tiny"), "--csv", str(tmp_path / "runs.csv")]) == 0
    table = capsys.readouterr().out
    assert "finished" in table and "diverged" in table and f"{runs_of(out)['t18'].heldout_loss:.4f}" in table
    assert (tmp_path / "runs.csv").read_text().count("\n") == 5


def test_a_diverged_run_is_a_warning_and_keeps_its_record(undisturbed):
    out, (_, _, stderr) = undisturbed
    run = runs_of(out)["wild"]
    assert "diverged and left out: wild" in stderr
    assert run.status["reason"].startswith(f"update {run.metrics['step'][-1]}")
    checkpoints = out / "tiny" / run.name / "checkpoints"
    assert not [path for path in checkpoints.glob("[0-9]*") if int(path.name) > run.metrics["step"][-1]]


def test_a_branch_of_a_diverged_run_is_skipped_and_named(undisturbed):
    _, (code, stdout, _) = undisturbed
    assert code == 0
    assert "skipped, its parent wild" in " ".join(stdout.split())


def test_branches_start_where_their_parent_stood(undisturbed):
    out, _ = undisturbed
    run = runs_of(out)["t18"]
    assert run.identity["parent"]["step"] == 12
    assert list(run.metrics["step"]) == list(range(12, 18))


def test_finished_runs_are_not_repeated(undisturbed):
    out, _ = undisturbed
    before = {name: len(run.attempts) for name, run in runs_of(out).items()}
    code, stdout, stderr = finish(start(out, TINY_WILD="1"))
    assert code == 0, stderr
    assert "held-out loss" not in stdout
    assert {name: len(run.attempts) for name, run in runs_of(out).items()} == before


@pytest.mark.slow
def test_interrupted_and_started_again_it_ends_with_equal_records(undisturbed, tmp_path):
    out, _ = undisturbed
    process = start(tmp_path, "--workers", "1", cache=out)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "tiny").glob("trunk-*/metrics/*")) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    code, _, stderr = finish(process)
    assert code == 130, stderr
    assert "the same command goes on from here" in stderr
    code, _, stderr = finish(start(tmp_path, "--workers", "1", cache=out))
    assert code == 0, stderr
    for name, run in runs_of(tmp_path).items():
        assert record.equal(runs_of(out)[name], run) == []


@pytest.mark.slow
def test_a_run_whose_worker_is_killed_is_recorded_as_failed_and_started_again(undisturbed, tmp_path):
    out, _ = undisturbed
    process = start(tmp_path, "--workers", "1", cache=out)
    deadline = time.monotonic() + 120
    while not (locks := [path for path in (tmp_path / "tiny").glob("trunk-*/lock") if path.stat().st_size
                         and (path.parent / "metrics").exists()]) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    os.kill(json.loads(locks[0].read_text())["pid"], signal.SIGKILL)
    code, stdout, stderr = finish(process)
    assert code == 0, stderr
    assert "failed, its process ended with code -9" in " ".join(stdout.split()) and "it is started again" in stdout
    for name, run in runs_of(tmp_path).items():
        assert record.equal(runs_of(out)[name], run) == []
    assert len(runs_of(tmp_path)["trunk"].attempts) == 2


def test_a_worker_that_was_killed_while_idle_costs_its_run_nothing(tiny, tmp_path):
    study, shown = tiny.study(), []
    pool = Pool(study, tmp_path, tmp_path, options=PoolConfig(workers=1))
    pending, display = Pending(study.stages[0], tmp_path), types.SimpleNamespace(started=shown.append)
    with pool:
        pool._workers[0] = dead = subprocess.Popen(["true"], stdin=subprocess.PIPE, text=True)
        pool._idle.add(0)
        dead.wait()
        pool._dispatch(pending, display)
    assert {run.name for run in pending.waiting} == {"trunk", "t18", "t30"} and not (pool._busy or shown)
    assert pending.stopped(study.run("trunk"), "failed", "for the first time")  # so the policy still tries it again


def test_a_second_pool_on_a_study_is_refused(tmp_path, capsys):
    with record.run_lock(tmp_path / "tiny"):
        assert main(["study", str(TINY), "--out", str(tmp_path)]) == 2
    assert f"run = 'tiny': another process is writing it ({os.uname().nodename}, pid {os.getpid()})" in (
        capsys.readouterr().err)
    assert not list((tmp_path / "tiny").glob("trunk-*"))


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_equal_records(undisturbed, tmp_path, monkeypatch):
    """The short form of `make kills`, whose report is experiments/kills.md."""
    out, _ = undisturbed
    monkeypatch.syspath_prepend(TINY.parents[2] / "experiments")
    import kills

    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(out / ".cache" / "xla"))
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "True")
    hits, wrong = kills.disturb(str(TINY), tmp_path, 3, signals=["KILL"], longest=12.0, seed=1)
    assert wrong == [] and hits  # a quick machine may end the study before the third
    differences = kills.compare(out / "tiny", tmp_path / "tiny")
    assert [line.partition("-")[0] for line in differences] == ["wild"]  # a run that was not asked for this time
