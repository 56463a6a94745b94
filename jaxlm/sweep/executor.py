"""What trains the runs of a study: the protocol, how its runs end, and which of them are started again."""

import dataclasses
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, Self

from jaxlm.config import nearest, override, require
from jaxlm.sweep.study import Stage, Study

ENDED = ("finished", "diverged")

# By name: module, executor, its options.
EXECUTORS = {
    "pool": ("jaxlm.sweep.pool", "Pool", "PoolConfig"),
    "slurm": ("jaxlm.sweep.slurm", "Slurm", "SlurmConfig"),
    "emit": ("jaxlm.sweep.emit", "Emit", "EmitConfig"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Which runs that stopped before their end are started again, each from its last good checkpoint.

    A preempted run always goes on. A run that failed by a mistake in its configuration is not tried again before the
    next call, for it would fail alike.

    Attributes:
      failed: how often one call starts a failed run again; the next call does so anew.
      diverged: whether runs recorded as diverged are started again. Under the same conditions they diverge again.
    """

    failed: int = 1
    diverged: bool = False

    def __post_init__(self) -> None:
        require(self.failed >= 0, "retries", self.failed, "must not be negative")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyOutcome:
    """How the runs of a stage stand.

    Attributes:
      statuses: by folder, as in the record; "skipped" for a run whose parent did not get as far as its branch,
        "emitted" for one that somebody else is to train.
      reasons: by folder, why a run did not end.
      stopped: the signal that stopped the stage, None for none.
      when: of a stage that was stopped, what must happen before the same command goes on, in words; "" for nothing.
      logs: the folder of what the runs' processes wrote.
    """

    statuses: Mapping[str, str]
    reasons: Mapping[str, str] = dataclasses.field(default_factory=dict)
    stopped: str | None = None
    when: str = ""
    logs: Path | None = None

    @property
    def diverged(self) -> list[str]:
        """The runs that diverged."""
        return [name for name, status in self.statuses.items() if status == "diverged"]

    @property
    def emitted(self) -> list[str]:
        """The runs that are to be trained elsewhere."""
        return [name for name, status in self.statuses.items() if status == "emitted"]

    @property
    def failed(self) -> list[str]:
        """The runs that did not end, apart from those skipped because their parent did not."""
        return [name for name, status in self.statuses.items() if status not in (*ENDED, "skipped", "emitted")]


class Executor(Protocol):
    """Trains the stages of a study, one after another; a context manager.

    What has ended it reads from the records, and keeps no state of its own: another executor, on another machine,
    goes on where it was.
    """

    def __enter__(self) -> Self:
        """Takes signals over, where the executor has something to save."""

    def __exit__(self, *exception: object) -> None:
        """Ends what the executor has started."""

    def run_stage(self, stage: Stage) -> StudyOutcome:
        """Trains the runs of `stage` that have not ended, parents before their branches."""


def make_executor(
    name: str, study: Study, root: Path, data_root: Path, *, options: Mapping[str, str], policy: RetryPolicy,
    mirrors: tuple[str, ...] = (),
) -> Executor:
    """Returns the executor `name` with its `options`, given as text by name.

    Raises `ConfigError` for an unknown executor, an option that it does not have, and a value that does not fit;
    `ModuleNotFoundError` where a package that it needs is not installed.
    """
    require(name in EXECUTORS, "executor", name, f"no such executor{nearest(name, list(EXECUTORS))}")
    module, executor, config = EXECUTORS[name]
    module = importlib.import_module(module)
    default = dataclasses.replace(getattr(module, config)(), mirrors=mirrors)
    known = [field.name for field in dataclasses.fields(default) if field.name != "mirrors"]
    changes = {}
    for option, value in options.items():
        require(option in known, f"option {option}", value,
                f"executor {name} has no such option{nearest(option, known)}")
        # Quoted, text stays text: an account may be a number.
        changes[option] = json.dumps(value) if isinstance(getattr(default, option), str) else value
    return getattr(module, executor)(study, root, data_root, options=override(default, changes), policy=policy)
