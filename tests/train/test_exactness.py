"""n updates equal k updates, stop, fresh process, n - k updates: through the command line, bit for bit.

Dropout, accumulation 4, z-loss, a mixture whose sources repeat, diagnostics; stops inside chunks and
between checkpoints; AdamW and Muon; a branch of a branch; and a resume on another mesh, to rounding.
"""

import pathlib
import shutil

import numpy as np
import pytest
from processes import assert_same_end, finish, runs_of, start

from scaling import record

# Two and a half minutes; test_processes.py holds the short form of the same promise in the default suite.
pytestmark = pytest.mark.slow

# Sums of float32 in another order, carried on through eleven updates: 2e-7 was measured.
TOLERANCE = 2e-6
STUDY = pathlib.Path(__file__).parent / "exact_study.py"
# No ends of chunks of 4 (which evaluations, checkpoints and earlier stops shift), and no checkpoints.
STOPS = {"adamw": (5, 13, 22), "muon": (13,)}


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """All runs of the study without a stop, by one worker of the pool; and the cache of compiled programs."""
    out = tmp_path_factory.mktemp("straight")
    code, _, stderr = finish(start("study", STUDY, "--workers", 1, "--out", out, cache=out / "xla", quick=False))
    assert code == 0, stderr
    return runs_of(out / "exact"), out / "xla"


def train(name, out, cache, *options, flags=None):
    """Runs `jaxlm train` to its end; returns (exit code, standard output)."""
    code, stdout, stderr = finish(start("train", f"{STUDY}:{name}", "--out", out, *options, cache=cache, flags=flags,
                                        quick=False))
    assert code in (0, 75), stderr
    return code, stdout


def stop_and_check(name, out, cache, stop):
    assert train(name, out, cache, "--stop-at", stop)[0] == 75
    run = runs_of(out / "exact")[name]
    assert run.state == "preempted" and f"update {stop} as asked" in run.status["reason"]
    assert run.metrics["step"].tolist() == list(range(stop))


@pytest.fixture(scope="module")
def stopped_at_13(straight, tmp_path_factory):
    """The folder of the run `adamw`, stopped at 5 and at 13."""
    out = tmp_path_factory.mktemp("stopped")
    for stop in STOPS["adamw"][:2]:
        stop_and_check("adamw", out, straight[1], stop)
    return out


@pytest.mark.parametrize("name", STOPS)
def test_stopped_and_started_again_it_ends_the_same(straight, stopped_at_13, tmp_path, name):
    runs, cache = straight
    done = 2 if name == "adamw" else 0
    if done:
        shutil.copytree(stopped_at_13, tmp_path, dirs_exist_ok=True)
    for stop in STOPS[name][done:]:
        stop_and_check(name, tmp_path, cache, stop)
    assert train(name, tmp_path, cache)[0] == 0
    run = runs_of(tmp_path / "exact")[name]
    assert [attempt["first_step"] for attempt in run.attempts] == [0, *STOPS[name]]
    assert run.diagnostics["step"].tolist() == [4, 9, 14, 19]
    assert_same_end(run, runs[name])


def test_a_branch_of_a_branch_equals_the_run_without_branches(straight):
    runs, _ = straight
    twig, whole = runs["twig"], runs["adamw"]
    assert twig.attempts[0]["first_step"] == 13 and runs["branch"].attempts[0]["first_step"] == 7
    for field in record.schema.METRICS:
        if field.kind == "result":
            np.testing.assert_array_equal(twig.metrics[field.name], whole.metrics[field.name][13:], err_msg=field.name)
    assert twig.result == whole.result


def test_a_resume_on_another_mesh_warns_and_agrees_to_rounding(straight, stopped_at_13, tmp_path):
    runs, cache = straight
    shutil.copytree(stopped_at_13, tmp_path, dirs_exist_ok=True)
    flags = "--xla_force_host_platform_device_count=8"
    _, stdout = train("adamw", tmp_path, cache, "--stop-at", 17, "--mesh.data=2", "--mesh.tensor=2", flags=flags)
    assert "resumed under other conditions, not bit for bit: mesh: [1, 1, 1, 1, 1] before" in " ".join(stdout.split())
    code, stdout = train("adamw", tmp_path, cache)
    assert code == 0 and "devices: 8 before, 1 now" in " ".join(stdout.split())
    run, other = runs_of(tmp_path / "exact")["adamw"], runs["adamw"]
    assert [attempt["mesh"] for attempt in run.attempts[2:]] == [[1, 2, 1, 2, 1], [1, 1, 1, 1, 1]]
    assert [attempt["first_step"] for attempt in run.attempts] == [0, 5, 13, 17]
    assert run.identity == other.identity and run.notes == ()
    np.testing.assert_array_equal(run.metrics["train_loss"][:13], other.metrics["train_loss"][:13])
    for name in ("train_loss", "grad_l2", "grad_l1", "param_rms"):
        np.testing.assert_allclose(run.metrics[name], other.metrics[name], rtol=TOLERANCE, err_msg=name)
    assert abs(run.heldout_loss / other.heldout_loss - 1) < TOLERANCE
