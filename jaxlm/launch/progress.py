"""How far the runs of a job are, by their records alone."""

import dataclasses
from collections.abc import Iterable, Mapping

from scaling import record
from scaling.errors import InputError
from scaling.record import files

ENDED = ("finished", "diverged")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """What the records say.

    Attributes:
      updates: made so far, summed over the runs.
      pending: runs that have not ended.
      failed: when the last attempt at each failed run began, by run, ISO 8601.
      diverged: runs that diverged.
    """

    updates: int
    pending: int
    failed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    diverged: tuple[str, ...] = ()


def recorded(root: files.AnyPath, names: Iterable[str]) -> dict[str, record.Summary]:
    """Returns the summaries of those of the runs `names` that have a record in the study's folder `root`."""
    wanted = set(names)
    try:
        found, _ = record.summaries(root)
    except InputError:  # no folder yet
        return {}
    return {summary.folder.name: summary for summary in found if summary.folder.name in wanted}


def read_progress(root: files.AnyPath, names: Iterable[str]) -> Progress:
    """Returns how far the runs `names` in the study's folder `root` are."""
    names = set(names)
    found = recorded(root, names)
    return Progress(
        updates=sum(summary.updates for summary in found.values()),
        pending=len(names) - sum(summary.state in ENDED for summary in found.values()),
        failed={name: summary.attempts[-1]["started"] for name, summary in found.items()
                if summary.state == "failed" and summary.attempts},
        diverged=tuple(sorted(name for name, summary in found.items() if summary.state == "diverged")))
