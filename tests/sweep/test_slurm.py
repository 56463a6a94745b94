"""Slurm: what is submitted, by a fake sbatch, and how jobs end, by submitit's own local executor. None is needed."""

import os
import re
import signal
import sys
import threading
import time
import types
from pathlib import Path

import pytest

from jaxlm.cli import main
from jaxlm.config import ConfigError
from jaxlm.sweep import RetryPolicy, Stage, Study
from jaxlm.train import CheckpointConfig, Parent
from scaling import record

pytest.importorskip("submitit")
from jaxlm.sweep import job, slurm  # noqa: E402
from jaxlm.sweep.pending import Pending, recorded_states  # noqa: E402

HERE = Path(__file__).parent
FAKE = str(HERE / "fake_run.py")
# sbatch numbers its jobs and keeps their scripts; the queue holds what the file says.
SBATCH = """#!/bin/sh
here=$(dirname "$0"); number=$(($(ls "$here"/job-* 2>/dev/null | wc -l) + 100))
cp "$1" "$here/job-$number"; echo "Submitted batch job $number"
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A folder with a fake sbatch, srun and squeue, first on the PATH."""
    programs = {"sbatch": SBATCH, "srun": "#!/bin/sh\n",
                "squeue": '#!/bin/sh\ncat "$(dirname "$0")/queue" 2>/dev/null || true\n'}
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


@pytest.fixture
def study(tiny):
    keep = CheckpointConfig(keep=(12, 24))
    trunks = [tiny.run(f"trunk{i}", updates=24, seed=i, checkpoint=keep) for i in (0, 1)]
    branches = [tiny.run(f"branch{i}-{j}", updates=updates, decay=6, seed=i,
                         parent=Parent(run=trunk.folder, step=updates - 6))
                for i, trunk in enumerate(trunks) for j, updates in enumerate((18, 30))]
    return Study(name="s", question="?", stages=(Stage(title="all", runs=(*trunks, *branches)),))


class Silent:
    """A display that nobody sees; it remembers how runs ended."""

    def __init__(self):
        self.seen = []

    def __getattr__(self, name):
        return lambda run, *args, **kwargs: self.seen.append((name, run.partition("-")[0], *args[:1]))


def test_arrays_branches_after_their_trunks(cluster, study, tmp_path):
    options = slurm.SlurmConfig(partition="cpu", minutes=30, parallel=7, memory_gb=2)
    executor = slurm.Slurm(study, tmp_path / "runs" / "s", tmp_path, options=options)
    pending = Pending(study.stages[0], tmp_path / "runs" / "s")
    executor._submit(pending, Silent())
    texts = [(cluster / f"job-{number}").read_text() for number in (100, 101, 102)]
    scripts = [dict(re.findall(r"#SBATCH --([\w-]+)=(\S+)", text)) for text in texts]
    assert [script.get("dependency") for script in scripts] == [None, "afterany:100_0", "afterany:100_1"]
    assert [script["array"] for script in scripts] == ["0-1%2"] * 3
    assert {(s["partition"], s["time"], s["mem"], s["cpus-per-task"], s["job-name"]) for s in scripts} == {
        ("cpu", "30", "2GB", "1", "s")}
    assert scripts[0]["signal"] == "USR2@120"
    assert pending.waiting == [] and len(executor._jobs) == 6


def test_jobs_in_the_queue_keep_a_second_driver_out(cluster, study, tmp_path):
    (cluster / "queue").write_text("100_[0-1]\n101_0\n")
    with pytest.raises(ConfigError, match=r"its jobs 100_\[0-1\], 101_0 are in Slurm's queue; wait for them"):
        slurm.Slurm(study, tmp_path / "s", tmp_path)


def test_without_slurm_one_line_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    words = ["study", str(HERE / "tiny_study.py"), "--executor", "slurm", "--out", str(tmp_path / "runs")]
    assert main(words) == 1
    assert "srun is not on the PATH" in capsys.readouterr().err and not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("squeue", "said"), [
    ("#!/bin/sh\necho slurmctld is down >&2; exit 1\n", "squeue failed: slurmctld is down"),
    ("#!/bin/sh\nexec sleep 9\n", "squeue has not answered for")])
def test_a_queue_that_does_not_answer_is_not_taken_for_an_empty_one(cluster, monkeypatch, squeue, said):
    monkeypatch.setattr(slurm, "PATIENCE", 0.3)
    (cluster / "squeue").write_text(squeue)
    with pytest.raises(OSError, match=said):
        slurm._check_queue("s")


def test_what_sbatch_refuses_is_one_line(cluster, tmp_path, capsys):
    (cluster / "sbatch").write_text("#!/bin/sh\necho sbatch: error: invalid account >&2; exit 1\n")
    words = ["study", str(HERE / "tiny_study.py"), "--executor", "slurm", "--option", "account=123"]
    assert main([*words, "--out", str(tmp_path / "runs")]) == 1
    stderr = capsys.readouterr().err
    assert "executor slurm: sbatch refused: sbatch: error: invalid account" in stderr and stderr.count("\n") == 1


class Ended:
    """A job that has ended with a code, or in a state without one."""

    job_id = "7"

    def __init__(self, folder, ended):
        self.paths, self._code = types.SimpleNamespace(folder=folder, result_pickle=folder / "result"), ended
        self.state = ended if isinstance(ended, str) else "COMPLETED"
        if not isinstance(ended, str):
            self.paths.result_pickle.touch()

    def result(self):
        return self._code

    def exception(self):
        return None

    def stderr(self):
        return "jaxlm: the last word\n"


@pytest.mark.parametrize(("recorded", "ended", "status", "again", "kept"), [
    ("preempted", 75, "preempted", True, "preempted"),
    ("preempted", 2, "failed", False, "preempted"),  # died before its start was on record
    ("preempted", 1, "failed", True, "preempted"),
    ("preempted", "FAILED", "failed", True, "preempted"),
    ("new", 2, "failed", False, "new"),
    ("failed", 2, "failed", False, "failed"),
    ("running", -9, "failed", True, "failed"),
    ("running", "OUT_OF_MEMORY", "failed", True, "failed"),
    ("running", "TIMEOUT", "preempted", True, "preempted"),
    ("preempted", "NODE_FAIL", "preempted", True, "preempted"),
    ("new", "TIMEOUT", "preempted", True, "new"),
    ("finished", "NODE_FAIL", "finished", False, "finished"),
    ("preempted", job.NOT_STARTED, "preempted", True, "preempted"),
])
def test_how_a_job_ended_decides_together_with_the_record(
        tiny, write, tmp_path, recorded, ended, status, again, kept):
    run, root = tiny.run("run", updates=4), tmp_path / "s"
    study = Study(name="s", question="?", stages=(Stage(title="all", runs=(run,)),))
    executor = slurm.Slurm(study, root, tmp_path, options=slurm.SlurmConfig(cluster="local"))
    pending = Pending(study.stages[0], root)
    pending.take(run)
    if recorded != "new":
        write(root, run, recorded)
    executor._settle(run, Ended(tmp_path, ended), pending, Silent())
    assert (pending.statuses[run.folder], pending.waiting == [run]) == (status, again)
    assert recorded_states(root, [run.folder])[run.folder] == kept


@pytest.mark.parametrize(("field", "value"), [
    ("minutes", 0), ("cpus", 0), ("grace", 0), ("parallel", 0), ("poll", -1.0)])
def test_options_out_of_range_are_refused(field, value):
    with pytest.raises(ConfigError, match=f"{field} = {value}: must be at least"):
        slurm.SlurmConfig(**{field: value})
    with pytest.raises(ConfigError, match="grace = 120: must be less than minutes = 2, in seconds"):
        slurm.SlurmConfig(minutes=2)


def told(monkeypatch, words):
    """Makes each run end as `words` say of the beginning of its name."""
    def command(program, root, run, **places):
        return (sys.executable, FAKE, str(root), run.folder, str(run.updates), *words[run.name].split())

    monkeypatch.setattr(slurm, "train_command", command)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]))


def execute(study, root, **policy):
    options = slurm.SlurmConfig(cluster="local", poll=0.1)
    with slurm.Slurm(study, root, root, options=options, policy=RetryPolicy(**policy)) as executor:
        return executor.run_stage(study.stages[0])


def attempts(root, run):
    return len(record.read(root / run.folder).attempts)


def test_preempted_jobs_are_requeued_failed_ones_tried_again_and_diverged_ones_left(tiny, tmp_path, monkeypatch):
    trunk = tiny.run("trunk", updates=24, checkpoint=CheckpointConfig(keep=(12,)))
    wild = tiny.run("wild", updates=24, seed=1, checkpoint=CheckpointConfig(keep=(12,)))
    branch, orphan = (tiny.run(name, updates=18, decay=6, seed=run.seed, parent=Parent(run=run.folder, step=12))
                      for name, run in (("branch", trunk), ("orphan", wild)))
    told(monkeypatch, {"trunk": "preempted finished", "wild": "diverged", "branch": "killed finished", "orphan": "x"})
    study = Study(name="s", question="?", stages=(Stage(title="all", runs=(branch, orphan, trunk, wild)),))
    outcome = execute(study, tmp_path / "s")
    assert {name.partition("-")[0]: status for name, status in outcome.statuses.items()} == {
        "trunk": "finished", "wild": "diverged", "branch": "finished", "orphan": "skipped"}
    assert attempts(tmp_path / "s", trunk) == 2 and attempts(tmp_path / "s", branch) == 2
    assert outcome.failed == [] and len(outcome.diverged) == 1
    # Requeued inside its job: the trunk had one, and the driver saw it end once.
    assert len(list((tmp_path / "s" / "slurm").glob("*/*_submitted.pkl"))) == 4


@pytest.mark.slow
def test_a_failure_that_stays_is_told_with_its_reason(tiny, tmp_path, monkeypatch):
    told(monkeypatch, {"run": "failed", "shot": "killed"})
    runs = tuple(tiny.run(name, updates=4) for name in ("run", "shot"))
    study = Study(name="s", question="?", stages=(Stage(title="all", runs=runs),))
    outcome = execute(study, tmp_path / "s", failed=2)
    assert outcome.failed == [run.folder for run in runs] and outcome.logs == tmp_path / "s" / "slurm"
    for run, reason in zip(runs, ("told: failed", "ended with -9"), strict=True):
        assert reason in outcome.reasons[run.folder]
        assert attempts(tmp_path / "s", run) == 3 and record.read(tmp_path / "s" / run.folder).state == "failed"


@pytest.mark.slow
def test_a_job_that_is_told_to_go_lets_its_run_save_and_goes_on_later(tiny, tmp_path, monkeypatch):
    told(monkeypatch, {"run": "wait finished"})
    study = Study(name="s", question="?", stages=(Stage(title="all", runs=(tiny.run("run", updates=4),)),))
    root, run = tmp_path / "s", study.runs[0]

    def preempt():
        while not (root / run.folder / "waiting").exists():
            time.sleep(0.05)
        # As Slurm does: the signal goes to the job's task, not to the process that it has started.
        trainer = next(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()
                       and FAKE.encode() in _words(entry))
        parent = int((Path("/proc") / str(trainer) / "stat").read_text().rpartition(")")[2].split()[1])
        os.kill(parent, signal.SIGUSR2)

    thread = threading.Thread(target=preempt)
    thread.start()
    outcome = execute(study, root)
    thread.join()
    assert outcome.statuses == {run.folder: "finished"} and attempts(root, run) == 2


@pytest.mark.slow
def test_a_study_is_trained_by_local_jobs(tmp_path):
    words = ["study", str(HERE / "tiny_study.py"), "--executor", "slurm", "--option", "cluster=local", "--option",
             "poll=0.2", "--out", str(tmp_path)]
    assert main(words) == 0
    assert {run.name.partition("-")[0]: run.state for run in map(record.read, record.find(tmp_path / "tiny"))} == {
        "trunk": "finished", "t18": "finished", "t30": "finished"}
    assert (tmp_path / "tiny" / "seen").read_text() == "yes"


def _words(entry):
    try:
        return (entry / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return []
