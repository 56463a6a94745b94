"""The local executor: one pinned process per core trains the runs of a study, parents first.

What has ended is read from the records, so a study that was interrupted goes on where it was.
"""

import contextlib
import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, get_args

from jaxlm import config as configs
from jaxlm.allocator import Allocator
from jaxlm.sweep.cache import cache_environment, check_cache
from jaxlm.sweep.compute import spend
from jaxlm.sweep.executor import RetryPolicy, StudyOutcome
from jaxlm.sweep.pending import Pending
from jaxlm.sweep.progress import Display
from jaxlm.sweep.study import Stage, Study
from jaxlm.train.config import RunConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """How a study is executed; nothing here changes a result.

    Attributes:
      workers: processes, each pinned to a core of its own; 0 for one per core at hand.
      platform: the JAX platform of the workers; the pool is made for "cpu".
      cache: folder or URL of the compilations that all workers share, see `jaxlm.sweep.cache`; "" for one beside the
        studies.
      allocator: whether the workers keep freed memory, see `jaxlm.allocator`.
      mirrors: where the workers copy the rows of the records, of `jaxlm.train.mirrors.MIRRORS`.
    """

    workers: int = 0
    platform: str = "cpu"
    cache: str = ""
    allocator: Allocator = "auto"
    mirrors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_cache(self.cache)
        configs.require(self.workers >= 0, "workers", self.workers, "must not be negative")
        configs.require(self.allocator in get_args(Allocator), "allocator", self.allocator,
                        f"must be one of {', '.join(get_args(Allocator))}")


class Pool:
    """Trains the stages of a study with worker processes; use as a context manager."""

    def __init__(
        self, study: Study, root: Path, data_root: Path, *, options: PoolConfig = PoolConfig(),
        policy: RetryPolicy = RetryPolicy(),
    ) -> None:
        self._study, self._root, self._data_root = study, Path(root), Path(data_root)
        self._config, self._policy = options, policy
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
            with contextlib.suppress(BrokenPipeError):  # one that was killed
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
        pending = Pending(stage, self._root, self._policy)
        if pending.waiting:
            work = {run.folder: spend(run).flops for run in pending.waiting}
            with Display(stage.title, work=work) as display:
                while (pending.waiting or self._busy) and not self._stopped:
                    for run in pending.orphans():
                        display.ended(run.folder, pending.statuses[run.folder], None, pending.reasons[run.folder])
                    self._dispatch(pending, display)
                    if len(self._workers) > len(self._idle):  # the others train, or are about to end
                        self._handle(*self._messages.get(), pending=pending, display=display)
                while self._busy:  # stopped: every run in hand saves its state first
                    self._handle(*self._messages.get(), pending=pending, display=display)
        return StudyOutcome(statuses=pending.statuses, reasons=pending.reasons, stopped=self._stopped,
                            logs=self._root / "logs")

    def _dispatch(self, pending: Pending, display: Display) -> None:
        for run in [run for run in pending.waiting if pending.ready(run)]:
            if not self._idle and len(self._workers) < (self._config.workers or len(self._cores)):
                self._start_worker()
            if not self._idle:
                return
            worker = self._idle.pop()
            pending.take(run)
            line = json.dumps({"run": configs.to_dict(run), "study": self._study.name,
                               "mirrors": self._config.mirrors})
            try:
                self._workers[worker].stdin.write(line + "\n")
                self._workers[worker].stdin.flush()
            except BrokenPipeError:  # killed while idle; the end of its output says so too, and is handled there
                pending.stopped(run, "preempted", None)
                continue
            self._busy[worker] = run
            display.started(run.folder, updates=run.updates, first=run.parent.step if run.parent else 0)

    def _start_worker(self) -> None:
        number = max(self._core, default=-1) + 1
        logs = self._root / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        environment = {"JAX_PLATFORMS": self._config.platform} | os.environ
        environment |= cache_environment(self._config.cache, self._root.parent)
        taken = [self._core[other] for other in self._workers]
        core = min(self._cores, key=taken.count)  # the core of a worker that died is free again
        command = [sys.executable, "-m", "jaxlm.sweep.worker", "--root", str(self._root),
                   "--data", str(self._data_root), "--core", str(core), "--allocator", self._config.allocator]
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

    def _handle(self, worker: int, message: dict[str, Any] | None, *, pending: Pending, display: Display) -> None:
        run = self._busy.get(worker)
        if message is None:  # the worker's output ended
            code = self._workers.pop(worker).wait()
            self._idle.discard(worker)
            if run is not None:
                reason = f"its process ended with code {code}; see {self._root / 'logs'}"
                pending.record_death(run, reason)
                self._ended(worker, {"status": "failed", "loss": None, "reason": reason}, pending, display)
        elif run is not None and message["event"] == "progress":
            display.progress(run.folder, message["step"], message["loss"], message["note"])
        elif run is not None and message["event"] == "done":
            if message["status"] != "preempted":  # a worker that was told to stop ends
                self._idle.add(worker)
            self._ended(worker, message, pending, display)

    def _ended(self, worker: int, message: dict[str, Any], pending: Pending, display: Display) -> None:
        run, status, reason = self._busy.pop(worker), message["status"], message["reason"]
        if pending.stopped(run, status, reason, mistake=message.get("mistake", False)) and not self._stopped:
            display.again(run.folder, status, reason)
        else:
            display.ended(run.folder, status, message["loss"], reason)

    def _on_signal(self, number: int, frame: Any) -> None:
        if not self._busy:  # nothing to save: between stages, while a study fits and draws
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(75)
        if self._stopped is None:
            self._stopped = signal.Signals(number).name
        for worker in self._workers.values():
            worker.terminate()
