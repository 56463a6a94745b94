"""Runs through the command line, in processes of their own: branches and signals change no bit."""

import signal
import time

import numpy as np
import pytest
from processes import finish, runs_of, start

from scaling import record

pytestmark = pytest.mark.slow

# Long enough that a signal sent after the first checkpoint arrives long before the end.
STUDY = """
from jaxlm.data import DataConfig, Synthetic
from jaxlm.model import ModelConfig
from jaxlm.schedules import WSD
from jaxlm.sweep import Stage, Study
from jaxlm.train import CheckpointConfig, EvalConfig, Parent, RunConfig

def run(name, updates, decay=0, **fields):
    return RunConfig(
        name=name, updates=updates, batch=2, chunk=8, schedule=WSD(peak_lr=1e-2, warmup=3, decay=decay),
        model=ModelConfig(vocabulary=16, sequence=8, layers=1, width=8, heads=2, ff=8, tied=True, dropout=0.1),
        data=DataConfig(sources=(Synthetic(vocabulary=16, order=1, tokens=20_000),), sequence=8),
        evaluation=EvalConfig(every=450, sequences=8), **fields)

def study():
    trunk = run("trunk", 420, checkpoint=CheckpointConfig(keep=(401,)))
    branch = run("branch", 2400, decay=500, parent=Parent(run=trunk.folder, step=401))
    full = run("full", 2400, decay=500, checkpoint=CheckpointConfig(every=260))
    return Study(name="tiny", question="Are they equal?",
                 stages=(Stage(title="all", runs=(trunk, branch, full)),))
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The folder that holds the study file, and the cache of compiled programs."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "tiny.py").write_text(STUDY)
    return folder


def begin(study, *words, out):
    """Starts `jaxlm words --out out`; its processes share a cache of compiled programs."""
    return start(*words, "--out", out, cache=study / "xla")


@pytest.fixture(scope="module")
def undisturbed(study, tmp_path_factory):
    """The records of trunk, branch and full run, trained without a disturbance by one worker."""
    out = tmp_path_factory.mktemp("undisturbed")
    code, _, stderr = finish(begin(study, "study", str(study / "tiny.py"), "--workers", "1", out=out))
    assert code == 0, stderr
    return runs_of(out / "tiny")


def test_branch_equals_the_uninterrupted_run_bit_for_bit(undisturbed):
    branch, full = undisturbed["branch"], undisturbed["full"]
    assert branch.attempts[0]["first_step"] == 401
    for field in record.schema.METRICS:
        if field.kind == "result":
            np.testing.assert_array_equal(branch.metrics[field.name], full.metrics[field.name][401:],
                                          err_msg=field.name)
    assert branch.result == full.result


def interrupt(study, out, *, attempt, number):
    """Starts the full run, sends the signal once the attempt's first metrics are there; returns the exit code."""
    process = begin(study, "train", f"{study / 'tiny.py'}:full", out=out)
    deadline = time.monotonic() + 120
    while not list((out / "tiny").glob(f"full-*/metrics/{attempt}-*")) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    process.send_signal(number)
    return finish(process)[0]


def test_signals_leave_a_run_that_goes_on_bit_for_bit(study, undisturbed, tmp_path):
    reasons = {signal.SIGTERM: 75, signal.SIGINT: 130}
    for attempt, (number, expected) in enumerate(reasons.items()):
        assert interrupt(study, tmp_path, attempt=attempt, number=number) == expected
        assert runs_of(tmp_path / "tiny")["full"].status == {"state": "preempted", "reason": number.name, "result": None}
    code, stdout, stderr = finish(begin(study, "train", f"{study / 'tiny.py'}:full", out=tmp_path))
    assert code == 0, stderr
    run = runs_of(tmp_path / "tiny")["full"]
    assert len(run.attempts) == 3 and run.attempts[1]["first_step"] < run.attempts[2]["first_step"] < 2400
    assert record.equal(run, undisturbed["full"]) == [] and run.notes == ()
    assert "not bit for bit" not in stdout
