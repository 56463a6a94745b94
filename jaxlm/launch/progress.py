"""How far the runs of a job are, by their records alone."""

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from scaling import record
from scaling.errors import InputError
from scaling.record import files

if TYPE_CHECKING:  # the hosts' work needs no jax
    from jaxlm.train.config import Initial, Parent, RunConfig

ENDED = ("finished", "diverged")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """What the records say.

    Attributes:
      updates: made so far, summed over the runs.
      pending: runs that have not ended and still can.
      blocked: how many of them wait for a checkpoint of a failed run, or for a run that waits for one.
      failed: when the attempts at each failed run began, by run, ISO 8601.
      diverged: runs that diverged.
      lost: runs that can never start: what they start from diverged before its checkpoint, or is lost itself.
    """

    updates: int
    pending: int
    blocked: int = 0
    failed: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    diverged: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


def recorded(root: files.AnyPath, names: Iterable[str]) -> dict[str, record.Summary]:
    """Returns the summaries of those of the runs `names` that have a record in the study's folder `root`."""
    wanted = set(names)
    try:
        found, _ = record.summaries(root)
    except InputError:  # no folder yet
        return {}
    return {summary.folder.name: summary for summary in found if summary.folder.name in wanted}


def read_progress(root: files.AnyPath, runs: "Iterable[RunConfig]") -> Progress:
    """Returns how far `runs` are in the study's folder `root`."""
    origins = {run.folder: run.origin for run in runs}
    found = recorded(root, {*origins, *(origin.run for origin in origins.values() if origin)})
    own = {name: found[name] for name in origins if name in found}
    ended = {name for name, summary in own.items() if summary.state in ENDED}
    lost = _behind(origins, found, ("diverged",)) - ended
    blocked = _behind(origins, found, ("failed",)) - ended - lost
    return Progress(
        updates=sum(summary.updates for summary in own.values()),
        pending=len(origins) - len(ended) - len(lost),
        blocked=len(blocked),
        failed={name: tuple(attempt["started"] for attempt in summary.attempts) for name, summary in own.items()
                if summary.state == "failed" and name not in lost | blocked},
        diverged=tuple(sorted(name for name, summary in own.items() if summary.state == "diverged")),
        lost=tuple(sorted(lost)))


def _behind(
    origins: "Mapping[str, Parent | Initial | None]", found: Mapping[str, record.Summary], states: Collection[str],
) -> set[str]:
    """The runs whose checkpoint to start from a run in one of `states` has not reached, itself or by others."""
    def waits(name: str) -> bool:
        origin = origins.get(name)
        if origin is None:
            return False
        parent = found.get(origin.run)
        if parent is not None and parent.updates >= origin.step:
            return False
        return (parent is not None and parent.state in states) or waits(origin.run)

    return {name for name in origins if waits(name)}
