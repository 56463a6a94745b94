"""The runs of a stage that are still to be trained: by the records, the parents and the policy."""

import collections
import contextlib
import json
from collections.abc import Collection, Iterable
from pathlib import Path

from jaxlm.sweep.compute import spend
from jaxlm.sweep.executor import ENDED, RetryPolicy
from jaxlm.sweep.study import Stage
from jaxlm.train.config import RunConfig
from scaling import record
from scaling.errors import InputError
from scaling.record import files, writer


class Pending:
    """What an executor asks: which runs wait, which may start, whether one that stopped is started again.

    Attributes:
      statuses: of every run of the stage, by folder, as in the record; "new" where there is none.
      reasons: by folder, why a run did not end.
      waiting: the runs that have not ended and are in nobody's hands, the longest path to the end of a branch first.
    """

    def __init__(self, stage: Stage, root: Path, policy: RetryPolicy = RetryPolicy()) -> None:
        self._root, self._policy = root, policy
        self._failures: collections.Counter[str] = collections.Counter()
        self.reasons: dict[str, str] = {}
        self.statuses = recorded_states(root, [run.folder for run in stage.runs])
        over = ("finished",) if policy.diverged else ENDED
        self.waiting = longest_first([run for run in stage.runs if self.statuses[run.folder] not in over])

    def ready(self, run: RunConfig) -> bool:
        """Whether the checkpoint that the run starts from is committed (Orbax renames when it is)."""
        if run.origin is None:
            return True
        return (self._root / run.origin.run / "checkpoints" / str(run.origin.step)).is_dir()

    def take(self, run: RunConfig) -> None:
        """Takes note that somebody trains `run` now; one that diverged is recorded as preempted, that it may go on."""
        self.waiting.remove(run)
        folder = self._root / run.folder
        if self.statuses[run.folder] == "diverged":  # its own trainer would take the record's word for it
            reason = writer.load(folder)["status"]["reason"]
            record.set_status(folder, "preempted", reason=f"diverged, to be tried again as asked: {reason}")
        self.statuses[run.folder] = "running"

    def orphans(self, elsewhere: Collection[str] = ()) -> list[RunConfig]:
        """Takes out the runs that will never be ready, and what starts from them; returns them.

        They are skipped where their parent ended before their branch, and failed where it finished and its checkpoint
        is gone. The runs `elsewhere` are still to come, beside those that wait or are in hand here.
        """
        lost: list[RunConfig] = []
        while found := self._never_ready(elsewhere):
            for run in found:
                self.waiting.remove(run)
                parent, state = run.origin.run, self._parent(run)
                gone = state == "finished"
                self.statuses[run.folder] = "failed" if gone else "skipped"
                self.reasons[run.folder] = f"its parent {parent} " + (
                    f"has no checkpoint {run.origin.step}" if gone else
                    "was not trained" if state == "new" else f"ended {state}")
            lost += found
        return lost

    def _never_ready(self, elsewhere: Collection[str]) -> list[RunConfig]:
        coming = {run.folder for run in self.waiting}.union(elsewhere)
        return [run for run in self.waiting if run.origin is not None and run.origin.run not in coming
                and self.statuses.get(run.origin.run) != "running" and not self.ready(run)]

    def _parent(self, run: RunConfig) -> str:
        """How the parent of `run` stands; that of an earlier stage by its record."""
        name = run.origin.run
        return self.statuses.get(name) or recorded_states(self._root, [name])[name]

    def stopped(self, run: RunConfig, status: str, reason: str | None, *, mistake: bool = False) -> bool:
        """Takes note of how a start of `run` ended; returns whether the policy starts it again."""
        name = run.folder
        self.statuses[name] = status
        if reason:
            self.reasons[name] = reason
        again = status == "preempted"
        if status == "failed" and not mistake:
            self._failures[name] += 1
            again = self._failures[name] <= self._policy.failed
        if again:
            self.waiting.insert(0, run)
        return again

    def record_death(self, run: RunConfig, reason: str, *, state: str = "failed") -> None:
        """Records as `state` a run whose process died without a word; one that has no record stays without."""
        folder = self._root / run.folder
        with contextlib.suppress(InputError, OSError):  # no record, or another process goes on with it
            if writer.load(folder)["status"]["state"] == "running":
                with record.run_lock(folder):
                    record.set_status(folder, state, reason=reason)


def recorded_states(root: Path, names: Iterable[str]) -> dict[str, str]:
    """Returns the recorded state of each run folder under `root`, "new" where there is no record.

    Raises `InputError` for a corrupt record.
    """
    names = list(names)
    local = isinstance(root, Path)
    found = {name for name in names if (root / name / "run.json").is_file()} if local else _listed(root)
    present = [name for name in names if name in found]
    contents = files.read_all(root, [f"{name}/run.json" for name in present])
    states = dict.fromkeys(names, "new")
    for name, content in zip(present, contents, strict=True):
        try:
            states[name] = json.loads(content)["status"]["state"]
        except (ValueError, KeyError, TypeError):
            states[name] = writer.load(root / name)["status"]["state"]  # says what is wrong
    return states


def longest_first(runs: list[RunConfig]) -> list[RunConfig]:
    """Returns the runs by the cost of each with its costliest line of branches: what is longest starts first."""
    branches = collections.defaultdict(list)
    for run in runs:
        if run.origin is not None:
            branches[run.origin.run].append(run)

    def path(run: RunConfig) -> float:
        return spend(run).flops + max(map(path, branches[run.folder]), default=0.0)

    return sorted(runs, key=path, reverse=True)


def _listed(root: files.AnyPath) -> set[str]:
    """The names of the runs in a folder on an object store, by one listing."""
    try:
        return {folder.name for folder in record.find(root)}
    except InputError:  # nothing is there yet
        return set()
