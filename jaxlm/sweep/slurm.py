"""The executor for Slurm, through submitit: arrays of jobs, one run each, branches after their trunks.

Runs whose checkpoint to start from is there, or that need none, make one array; the branches of a run that is under way
make another, which Slurm holds until that run's job has ended (`--dependency=afterany`). A job trains its run in a
process of its own, `jaxlm train`, and when Slurm preempts it or its time is up, lets it save its state and is requeued.

The driver only watches the jobs, decides by the records and starts again what the policy says. When it is stopped, the
jobs go on; started again while jobs of the study are in the queue, it says so and ends.

Source of the protocol of preemption: submitit's documentation, docs/checkpointing.md.
"""

import contextlib
import dataclasses
import io
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from jaxlm.config import ConfigError, require
from jaxlm.data.extras import load_extra
from jaxlm.sweep import job
from jaxlm.sweep.cache import cache_environment, check_cache
from jaxlm.sweep.compute import spend
from jaxlm.sweep.emit import parents_first, train_command
from jaxlm.sweep.executor import ENDED, RetryPolicy, StudyOutcome
from jaxlm.sweep.pending import Pending, recorded_states
from jaxlm.sweep.progress import Display
from jaxlm.sweep.study import Stage, Study, save_study
from jaxlm.train.config import RunConfig
from scaling import record

MISTAKE = 2
KNOWN = (*ENDED, "failed", "preempted")
JAXLM = (sys.executable, "-c", "from jaxlm.cli import main; raise SystemExit(main())")
# States of a job that Slurm took away before it could save: no fault of the run, which goes on.
LOST = ("BOOT_FAIL", "NODE_FAIL", "PREEMPTED", "TIMEOUT")
PATIENCE = 60.0  # seconds to wait for squeue
# A timeout, unlike a failure, is no reason to give a run up: it goes on from its checkpoint.
REQUEUES = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlurmConfig:
    """What the jobs ask of Slurm.

    Attributes:
      cluster: "slurm", or "local" for processes on this machine in its place, to try a study out.
      minutes: the time limit of a job; a run that needs longer is requeued.
      partition, account, qos, constraint, gres: as sbatch knows them; "" for its default.
      cpus: CPUs of a job. One run on one core is what the local pool does, and gives its bits.
      gpus: GPUs of a job.
      memory_gb: of a job; 0 for Slurm's default.
      parallel: the most jobs of an array that run at once.
      grace: seconds before the end at which Slurm tells a job, enough for a checkpoint.
      poll: seconds between two looks at the jobs.
      cache: folder or URL of the compilations that all runs share, see `jaxlm.sweep.cache`.
      mirrors: where rows are copied, of `jaxlm.train.mirrors.MIRRORS`.
    """

    cluster: Literal["slurm", "local"] = "slurm"
    minutes: int = 240
    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    gres: str = ""
    cpus: int = 1
    gpus: int = 0
    memory_gb: float = 0.0
    parallel: int = 256
    grace: int = 120
    poll: float = 5.0
    cache: str = ""
    mirrors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_cache(self.cache)
        for name, least in (("minutes", 1), ("cpus", 1), ("gpus", 0), ("memory_gb", 0), ("parallel", 1), ("grace", 1),
                            ("poll", 0)):
            require(getattr(self, name) >= least, name, getattr(self, name), f"must be at least {least}")
        require(self.grace < 60 * self.minutes, "grace", self.grace, f"must be less than minutes = {self.minutes}, in "
                                                                     "seconds")

    def parameters(self, name: str) -> dict[str, Any]:
        """Returns what submitit's AutoExecutor takes; for "local" it leaves out those of Slurm alone."""
        named = {"slurm_" + key: getattr(self, key) for key in ("partition", "account", "qos", "constraint", "gres")}
        return {"name": name, "timeout_min": self.minutes, "cpus_per_task": self.cpus,
                "slurm_signal_delay_s": self.grace, "slurm_array_parallelism": self.parallel,
                **({"gpus_per_node": self.gpus} if self.gpus else {}),
                **({"mem_gb": self.memory_gb} if self.memory_gb else {}),
                **{key: value for key, value in named.items() if value}}


class Slurm:
    """Trains the stages of a study with jobs; use as a context manager."""

    def __init__(
        self, study: Study, root: Path, data_root: Path, *, options: SlurmConfig = SlurmConfig(),
        policy: RetryPolicy = RetryPolicy(),
    ) -> None:
        self._study, self._root, self._config, self._policy = study, Path(root).absolute(), options, policy
        self._submitit = load_extra("submitit", "launch")
        load_extra("cloudpickle", "launch").register_pickle_by_value(job)
        self._stages: list[Stage] = []
        self._jobs: dict[str, Any] = {}
        self._stopped: str | None = None
        if options.cluster == "slurm":
            if not shutil.which("srun"):
                raise OSError("executor slurm: srun is not on the PATH, so this is no machine of a Slurm cluster; "
                              "--option cluster=local runs its jobs here")
            _check_queue(study.name)

    def __enter__(self) -> Self:
        self._handlers = {number: signal.signal(number, self._on_signal)
                          for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def run_stage(self, stage: Stage) -> StudyOutcome:
        """Submits the runs of a stage that have not ended and waits for their jobs, or for a signal."""
        self._stages.append(stage)
        pending, when = Pending(stage, self._root, self._policy), ""
        if pending.waiting:
            known = dataclasses.replace(self._study, stages=tuple(self._stages))
            save_study(known, self._root / "slurm" / "study.json")
            by_folder = {run.folder: run for run in stage.runs}
            work = {run.folder: spend(run).flops for run in pending.waiting}
            with Display(stage.title, work=work) as display:
                while (pending.waiting or self._jobs) and not self._stopped:
                    for run in pending.orphans():
                        display.ended(run.folder, pending.statuses[run.folder], None, pending.reasons[run.folder])
                    self._submit(pending, display)
                    time.sleep(self._config.poll)
                    for name in [name for name, submitted in self._jobs.items() if submitted.done()]:
                        self._settle(by_folder[name], self._jobs.pop(name), pending, display)
            if self._stopped and self._jobs:
                ends = (f"scancel --name={self._study.name} ends them" if self._config.cluster == "slurm" else
                        "they are processes of this machine")
                when = f" when the {len(self._jobs)} jobs under way have ended; {ends}"
        return StudyOutcome(statuses=pending.statuses, reasons=pending.reasons, stopped=self._stopped, when=when,
                            logs=self._root / "slurm")

    def _submit(self, pending: Pending, display: Display) -> None:
        """Submits the waiting runs that can start, and to Slurm those whose parent's job is in the queue too."""
        groups: dict[str, list[RunConfig]] = {}
        coming = {run.folder for run in pending.waiting} | self._jobs.keys()
        for run in parents_first(pending.waiting):
            if pending.ready(run):
                groups.setdefault("", []).append(run)
            elif self._config.cluster == "slurm" and run.origin.run in coming:  # local jobs know no dependencies
                groups.setdefault(run.origin.run, []).append(run)
        for parent, runs in groups.items():  # parents come before their branches
            self._jobs |= dict(zip((run.folder for run in runs), self._submit_array(runs, parent), strict=True))
            for run in runs:
                pending.take(run)
                display.started(run.folder, updates=run.updates, first=run.parent.step if run.parent else 0)

    def _submit_array(self, runs: Sequence[RunConfig], parent: str) -> list[Any]:
        """Submits `runs` as one array, to start when the job of the run `parent` has ended ("" for at once)."""
        executor = self._submitit.AutoExecutor(
            folder=self._root / "slurm" / "%j", cluster=self._config.cluster, slurm_max_num_timeout=REQUEUES)
        executor.update_parameters(**self._config.parameters(self._study.name))
        if parent:
            executor.update_parameters(slurm_dependency=f"afterany:{self._jobs[parent].job_id}")
        environment = cache_environment(self._config.cache, self._root.parent)
        jobs = []
        for run in runs:
            command = train_command(list(JAXLM), self._root, run, study=self._root / "slurm" / "study.json",
                                    mirrors=self._config.mirrors)
            needs = run.origin and str(self._root / run.origin.run / "checkpoints" / str(run.origin.step))
            jobs.append(job.TrainJob(command, environment, needs))
        try:
            with contextlib.redirect_stderr(io.StringIO()), executor.batch():  # submitit prints what it raises
                return [executor.submit(each) for each in jobs]
        except self._submitit.core.utils.FailedJobError as error:
            raise OSError(f"executor slurm: sbatch refused: {error}") from None

    def _settle(self, run: RunConfig, submitted: Any, pending: Pending, display: Display) -> None:
        """Decides by its record what becomes of a run whose job has ended."""
        name = run.folder
        code = submitted.result() if submitted.paths.result_pickle.exists() and submitted.exception() is None else None
        if code == job.NOT_STARTED:  # its parent stopped short, and is started again or not
            pending.stopped(run, "preempted", None)
            return
        ended = f"job {submitted.job_id} ended " + (submitted.state if code is None else f"with {code}")
        lost = code is None and submitted.state in LOST
        pending.record_death(run, f"its {ended}; see {submitted.paths.folder}", state="preempted" if lost else "failed")
        status, reason, loss = self._recorded(run)
        if lost and status not in ENDED:
            status, reason = "preempted", ended
        elif code == MISTAKE or status not in KNOWN or (status == "preempted" and code != job.PREEMPTED):
            # The record is of an earlier start, or of none.
            why = "another process trains it" if status == "running" else _last_line(submitted.stderr())
            status, reason = "failed", f"{ended}: {why}"
        if pending.stopped(run, status, reason, mistake=code == MISTAKE):
            display.again(name, status, reason)
        else:
            display.ended(name, status, loss, reason)

    def _recorded(self, run: RunConfig) -> tuple[str, str | None, float | None]:
        if recorded_states(self._root, [run.folder])[run.folder] == "new":
            return "new", None, None
        found = record.summarise(self._root / run.folder)
        return found.state, found.status["reason"], found.result["heldout_loss"] if found.result else None

    def _on_signal(self, number: int, frame: Any) -> None:
        if not self._jobs:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(job.PREEMPTED)
        self._stopped = signal.Signals(number).name


def _check_queue(name: str) -> None:
    """Raises `ConfigError` while jobs of that name are in the queue: submitted twice, a run would be trained once.

    Raises `OSError` where Slurm does not say.
    """
    if not shutil.which("squeue"):
        return
    words = ["squeue", "--me", "--noheader", f"--name={name}", "--format=%i"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=True)
    except subprocess.TimeoutExpired:
        raise OSError(f"executor slurm: squeue has not answered for {PATIENCE:g} s") from None
    except subprocess.CalledProcessError as error:
        raise OSError(f"executor slurm: squeue failed: {_last_line(error.stderr)}") from None
    found = done.stdout.split()
    if found:
        raise ConfigError(f"study {name!r}: its jobs {', '.join(found[:5])}{' ...' if len(found) > 5 else ''} are in "
                          f"Slurm's queue; wait for them, or scancel --name={name}")


def _last_line(text: str | None) -> str:
    return next((line for line in reversed((text or "").splitlines()) if line.strip()), "nothing on stderr")
