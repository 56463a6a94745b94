"""The local executor: one pinned process per core trains the runs of a study, parents first.

What has ended is read from the records, so a study that was interrupted goes on where it was.
"""

import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from jaxlm import config as configs
from jaxlm.sweep.compute import spend
from jaxlm.sweep.progress import Display
from jaxlm.sweep.study import Stage, Study
from jaxlm.train.config import RunConfig
from scaling import record

ENDED = ("finished", "diverged")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """How a study is executed; nothing here changes a result.

    Attributes:
      workers: processes, each pinned to a core of its own; 0 for one per core at hand.
      platform: the JAX platform of the workers; the pool is made for "cpu".
      mirrors: where the workers copy the rows of the records, of `jaxlm.train.mirrors.MIRRORS`.
    """

    workers: int = 0
    platform: str = "cpu"
    mirrors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        configs.require(self.workers >= 0, "workers", self.workers, "must not be negative")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyOutcome:
    """How the runs of a study ended, by folder name, and the signal that stopped it, if one did."""

    statuses: dict[str, str]
    stopped: str | None = None

    @property
    def diverged(self) -> list[str]:
        """The runs that diverged."""
        return [name for name, status in self.statuses.items() if status == "diverged"]

    @property
    def failed(self) -> list[str]:
        """The runs that did not end, apart from those skipped because their parent did not."""
        return [name for name, status in self.statuses.items() if status not in (*ENDED, "skipped")]


class Pool:
    """Trains the stages of a study with worker processes; use as a context manager."""

    def __init__(self, study: Study, root: Path, data_root: Path, *, pool: PoolConfig = PoolConfig()) -> None:
        self._study, self._root, self._data_root, self._config = study, Path(root), Path(data_root), pool
        self._messages: queue.Queue[tuple[int, dict[str, Any] | None]] = queue.Queue()
        self._workers: dict[int, subprocess.Popen] = {}
        self._core: dict[int, int] = {}
        self._idle: set[int] = set()
        self._busy: dict[int, RunConfig] = {}
        self._stopped: str | None = None
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
        self._cores = list(cores)

    def __enter__(self) -> "Pool":
        self._handlers = {number: signal.signal(number, self._on_signal)
                          for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in self._workers.values():
            if worker.stdin:
                worker.stdin.close()
        for worker in self._workers.values():
            try:
                worker.wait(timeout=60)
            except subprocess.TimeoutExpired:
                worker.kill()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def run_stage(self, stage: Stage) -> StudyOutcome:
        """Trains the runs of a stage that have not ended; returns when all have, or on a signal."""
        statuses = {run.folder: self._recorded_status(run) for run in stage.runs}
        waiting = [run for run in stage.runs if statuses[run.folder] not in ENDED]
        waiting.sort(key=lambda run: self._path_cost(run, waiting), reverse=True)
        work = {run.folder: spend(run).flops for run in waiting}
        if not waiting:
            return StudyOutcome(statuses=statuses)
        with Display(stage.title, work=work) as display:
            while (waiting or self._busy) and not self._stopped:
                self._skip_orphans(waiting, statuses, display)
                self._dispatch(waiting, display)
                if self._busy:
                    self._handle(*self._messages.get(), statuses=statuses, display=display)
            while self._busy:  # stopped: every run in hand saves its state first
                self._handle(*self._messages.get(), statuses=statuses, display=display)
        return StudyOutcome(statuses=statuses, stopped=self._stopped)

    def _recorded_status(self, run: RunConfig) -> str:
        folder = self._root / run.folder
        return record.read(folder).state if (folder / "run.json").exists() else "new"

    def _path_cost(self, run: RunConfig, runs: list[RunConfig]) -> float:
        """The cost of a run and its costliest branch: what is longest starts first."""
        branches = [self._path_cost(other, runs) for other in runs
                    if other.origin is not None and other.origin.run == run.folder]
        return spend(run).flops + max(branches, default=0.0)

    def _ready(self, run: RunConfig) -> bool:
        """Whether the checkpoint that the run starts from is committed (Orbax renames when it is)."""
        if run.origin is None:
            return True
        return (self._root / run.origin.run / "checkpoints" / str(run.origin.step)).is_dir()

    def _skip_orphans(self, waiting: list[RunConfig], statuses: dict[str, str], display: Display) -> None:
        for run in list(waiting):
            parent = statuses.get(run.origin.run) if run.origin else None
            if parent in ("diverged", "failed", "skipped") and not self._ready(run):
                waiting.remove(run)
                statuses[run.folder] = "skipped"
                display.ended(run.folder, "skipped", None, f"its parent {run.origin.run} ended {parent}")

    def _dispatch(self, waiting: list[RunConfig], display: Display) -> None:
        for run in [run for run in waiting if self._ready(run)]:
            if not self._idle and len(self._workers) < (self._config.workers or len(self._cores)):
                self._start_worker()
            if not self._idle:
                return
            worker = self._idle.pop()
            waiting.remove(run)
            self._busy[worker] = run
            display.started(run.folder, updates=run.updates, first=run.parent.step if run.parent else 0)
            line = json.dumps({"run": configs.to_dict(run), "study": self._study.name,
                               "mirrors": self._config.mirrors})
            self._workers[worker].stdin.write(line + "\n")
            self._workers[worker].stdin.flush()

    def _start_worker(self) -> None:
        number = max(self._core, default=-1) + 1
        logs = self._root / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        cache = self._root.parent / ".cache" / "xla"
        environment = {"JAX_PLATFORMS": self._config.platform,
                       "JAX_COMPILATION_CACHE_DIR": str(cache.absolute())} | os.environ
        taken = [self._core[other] for other in self._workers]
        core = min(self._cores, key=taken.count)  # the core of a worker that died is free again
        command = [sys.executable, "-m", "jaxlm.sweep.worker", "--root", str(self._root),
                   "--data", str(self._data_root), "--core", str(core)]
        with open(logs / f"worker-{number}.log", "a") as log:
            # A session of its own, so that Ctrl-C reaches the workers through the pool alone.
            worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                                      text=True, env=environment, start_new_session=True)
        self._workers[number] = worker
        self._core[number] = core
        self._idle.add(number)
        threading.Thread(target=self._listen, args=(number, worker), daemon=True).start()

    def _listen(self, number: int, worker: subprocess.Popen) -> None:
        for line in worker.stdout:
            self._messages.put((number, json.loads(line)))
        self._messages.put((number, None))

    def _handle(self, worker: int, message: dict[str, Any] | None, *, statuses: dict[str, str],
                display: Display) -> None:
        run = self._busy.get(worker)
        if message is None:  # the worker's output ended
            code = self._workers.pop(worker).wait()
            self._idle.discard(worker)
            if run is not None:
                del self._busy[worker]
                statuses[run.folder] = "failed"
                reason = f"its process ended with code {code}; see {self._root / 'logs'}"
                display.ended(run.folder, "failed", None, reason)
        elif run is not None and message["event"] == "progress":
            display.progress(run.folder, message["step"], message["loss"], message["note"])
        elif run is not None and message["event"] == "done":
            del self._busy[worker]
            self._idle.add(worker)
            statuses[run.folder] = message["status"]
            display.ended(run.folder, message["status"], message["loss"], message["reason"])

    def _on_signal(self, number: int, frame: Any) -> None:
        if not self._busy:  # nothing to save: between stages, while a study fits and draws
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(75)
        if self._stopped is None:
            self._stopped = signal.Signals(number).name
        for worker in self._workers.values():
            worker.terminate()
