"""Keeps a job on spot slices going: asks for slices, waits, and asks again when they were taken away.

    create -> waiting -> running -> finished
                  ^          |
                  |          v
               recreate <- preempted, stalled, refused        too often without an update in between: failed

`decide` is a pure function of what the cloud and the records say; `babysit` looks, acts and sleeps. It remembers
nothing that matters: the identifier of a request says which attempt it is and how many before it were fruitless
(`Attempt`), the records say how far the runs are. Killed and started again, it goes on; only the count of fruitless
attempts starts anew where it dies between the end of one request and the making of the next.

A preempted request is deleted before the next is made: a suspended one still counts against the quota.
"""

import contextlib
import dataclasses
import json
import shlex
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from jaxlm.config import require
from jaxlm.launch import queued_resources
from jaxlm.launch.ended import later, read_end
from jaxlm.launch.job import RESTARTS, Job
from jaxlm.launch.progress import Progress
from jaxlm.launch.queued_resources import Attempt, QueuedOptions, Request
from jaxlm.launch.tools import ToolError, run, run_launch

WAITING = ("CREATING", "ACCEPTED", "WAITING_FOR_RESOURCES", "PROVISIONING")
LEAVING = ("SUSPENDING", "DELETING")
GONE = ("SUSPENDED", "FAILED")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Policy:
    """When to look, to wait and to give up.

    Attributes:
      attempts: fruitless attempts in a row after which the job has failed; fruitless is one that adds no update.
      delay: seconds before the attempt after a fruitless one; doubled for each further one.
      longest: the longest such wait in seconds.
      stall: seconds that active slices may add no update before they are given back; above the time of set-up,
        compilation and restoring together, and of one update and one evaluation, for rows are written every minute.
      failures: starts of a run since its request was made after which it has failed for good.
      silence: seconds without an answer of the cloud or from the records after which to give up watching.
      deletes: how often to try to give the last request back, a poll apart.
      poll: seconds between two looks.
    """

    attempts: int = 5
    delay: float = 60.0
    longest: float = 3600.0
    stall: float = 7200.0
    failures: int = 3
    silence: float = 3600.0
    deletes: int = 30
    poll: float = 60.0

    def __post_init__(self) -> None:
        for name in ("attempts", "failures", "deletes"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "must be at least 1")
        for name in ("delay", "longest", "stall", "silence", "poll"):
            require(getattr(self, name) > 0, name, getattr(self, name), "must be above 0 seconds")

    def wait(self, fruitless: int) -> float:
        """Returns the seconds to wait before an attempt that follows `fruitless` ones."""
        return min(self.longest, self.delay * 2 ** (fruitless - 1)) if fruitless else 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision:
    """What to do: `delete` these requests, then after `wait` seconds `create` one; `phase` is the state it is in."""

    phase: str
    reason: str = ""
    delete: tuple[Attempt, ...] = ()
    create: Attempt | None = None
    wait: float = 0.0

    @property
    def over(self) -> bool:
        """Whether there is nothing left to watch."""
        return self.phase in ("finished", "failed")


class Cloud(Protocol):
    """Where requests are made; each method may raise an `OSError`."""

    def requests(self) -> Mapping[Attempt, Request]:
        """Returns the requests of the job that are known."""

    def create(self, attempt: Attempt) -> None:
        """Makes a request."""

    def delete(self, attempt: Attempt) -> None:
        """Gives a request back."""

    def delete_by_hand(self, attempt: Attempt) -> str:
        """Returns the command with which a person gives a request back."""


def decide(
    requests: Mapping[Attempt, Request], progress: Progress, policy: Policy, *, last: Attempt | None = None,
    idle: float = 0.0,
) -> Decision:
    """Returns what to do.

    Args:
      requests: those of the job that the cloud knows.
      progress: what the records say.
      policy: when to give up.
      last: the attempt seen before, where the cloud knows none any more.
      idle: seconds since requests or records last changed.
    """
    here = [attempt for attempt, request in requests.items() if request.state != "DELETING"]
    if progress.pending == 0:
        return Decision(phase="finished", delete=tuple(here))
    if not requests:
        return _next(progress, policy, last)
    current = max(requests)
    state, created = requests[current].state, requests[current].created
    stale = tuple(attempt for attempt in here if attempt != current)
    again = sorted(name for name, starts in progress.failed.items()
                   if sum(later(started, created) for started in starts) >= policy.failures)
    if again and len(again) == progress.pending - progress.blocked:
        return Decision(phase="failed", reason=f"failed: {', '.join(again)}", delete=tuple(here))
    ended = requests[current].code if state == "ACTIVE" else None
    if ended is not None:
        reason = f"a host ended with {ended}, its log: {requests[current].reason}"
        if ended not in RESTARTS:
            return Decision(phase="failed", reason=reason, delete=tuple(here))
        return Decision(phase="stalled", reason=reason, delete=(*stale, current))
    if state in GONE:
        phase = "preempted" if state == "SUSPENDED" else "refused"
        return Decision(phase=phase, reason=requests[current].reason, delete=(*stale, current))
    if state == "ACTIVE" and idle >= policy.stall:
        return Decision(phase="stalled", reason=f"no update in {idle:.0f} s", delete=(*stale, current))
    if state == "ACTIVE":
        return Decision(phase="running", delete=stale)
    return Decision(phase="leaving" if state in LEAVING else "waiting", reason=state, delete=stale)


def _next(progress: Progress, policy: Policy, last: Attempt | None) -> Decision:
    if last is None:
        return Decision(phase="create", create=Attempt(updates=progress.updates))
    fruitless = 0 if progress.updates > last.updates else last.fruitless + 1
    if fruitless >= policy.attempts:
        return Decision(phase="failed", reason=f"{fruitless} attempts in a row added no update")
    following = Attempt(number=last.number + 1, fruitless=fruitless, updates=progress.updates)
    return Decision(phase="recreate", create=following, wait=policy.wait(fruitless))


def babysit(
    cloud: Cloud, look: Callable[[], Progress], policy: Policy, *, say: Callable[[str], None] = print,
    sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic,
) -> tuple[Decision, Progress]:
    """Watches until the job has finished or failed; returns the last decision and what the records said then.

    Raises an `OSError` where the cloud or the records give no answer for `policy.silence` seconds, and `ToolError`
    with the command to type where the cloud will not take the last request back.
    """
    last: Attempt | None = None
    seen: object = None
    told = ""
    since = heard = clock()
    while True:
        try:
            requests, progress = cloud.requests(), look()
        except OSError as error:
            if clock() - heard >= policy.silence:
                raise
            say(f"no answer: {error}")
            sleep(policy.poll)
            continue
        heard = clock()
        now = (requests, progress.updates, progress.pending)
        if now != seen:
            seen, since = now, heard
        decision = decide(requests, progress, policy, last=last, idle=heard - since)
        last = max(requests, default=last)
        line = _line(decision, decision.create or last, progress)
        if line != told:
            say(line)
            told = line
        if decision.over:
            _give_back(cloud, decision.delete, policy, say=say, sleep=sleep)
            return decision, progress
        last = _act(cloud, decision, last, say=say, sleep=sleep)
        sleep(policy.poll)


def _act(
    cloud: Cloud, decision: Decision, last: Attempt | None, *, say: Callable[[str], None],
    sleep: Callable[[float], None],
) -> Attempt | None:
    """Does what was decided; returns the attempt that is now the last."""
    _delete(cloud, decision.delete, say=say)  # what is left stays in the list, and is deleted at the next look
    if decision.create is None:
        return last
    if decision.wait:
        sleep(decision.wait)
    try:
        cloud.create(decision.create)
    except ToolError as error:
        say(f"not created: {error}")
    return decision.create


def _delete(cloud: Cloud, attempts: tuple[Attempt, ...], *, say: Callable[[str], None]) -> tuple[Attempt, ...]:
    """Gives requests back; returns those that the cloud did not take."""
    left = []
    for attempt in attempts:
        try:
            cloud.delete(attempt)
        except ToolError as error:
            say(f"not deleted: {error}")
            left.append(attempt)
    return tuple(left)


def _give_back(
    cloud: Cloud, attempts: tuple[Attempt, ...], policy: Policy, *, say: Callable[[str], None],
    sleep: Callable[[float], None],
) -> None:
    """Gives the last requests back, for nobody looks again; raises `ToolError` where the cloud takes them at no try."""
    left = _delete(cloud, attempts, say=say)
    for _ in range(policy.deletes - 1):
        if not left:
            return
        sleep(policy.poll)
        with contextlib.suppress(OSError):  # one that was taken although it did not seem so
            known = cloud.requests()
            left = tuple(attempt for attempt in left if attempt in known and known[attempt].state != "DELETING")
        left = _delete(cloud, left, say=say)
    if left:
        commands = "; ".join(cloud.delete_by_hand(attempt) for attempt in left)
        raise ToolError(f"still there, and billed, after {policy.deletes} tries to delete: {commands}")


def _line(decision: Decision, attempt: Attempt | None, progress: Progress) -> str:
    what = f"{decision.phase} ({decision.reason})" if decision.reason else decision.phase
    wait = f" after {decision.wait:.0f} s" if decision.wait else ""
    number = f"attempt {attempt.number}: " if attempt else ""
    return f"{number}{what}{wait}; {progress.updates} updates, {progress.pending} runs to go"


@dataclasses.dataclass(frozen=True, kw_only=True)
class QueuedResources:
    """The requests of a job in Google's queue, through gcloud, and what `ended` reads of their hosts."""

    job: Job
    options: QueuedOptions
    ended: Callable[[str, str], tuple[int, str] | None] = read_end

    def requests(self) -> Mapping[Attempt, Request]:
        """Returns the requests of the job that are known, with the exit code of a host that has left one."""
        text = run(queued_resources.list_command(self.options))
        try:
            found = queued_resources.parse_list(text, self.job.name)
        except (json.JSONDecodeError, KeyError, AttributeError, TypeError):
            raise ToolError("gcloud's list of queued resources cannot be read") from None
        return {attempt: self._with_end(attempt, request) for attempt, request in found.items()}

    def _with_end(self, attempt: Attempt, request: Request) -> Request:
        if request.state != "ACTIVE":
            return request
        end = self.ended(queued_resources.end_folder(self.job, attempt), request.created)
        return dataclasses.replace(request, code=end[0], reason=end[1]) if end else request

    def create(self, attempt: Attempt) -> None:
        """Makes a request."""
        run_launch(queued_resources.queued_launch(dataclasses.replace(self.job, before=()), self.options, attempt),
                   quiet=True)

    def delete(self, attempt: Attempt) -> None:
        """Gives a request and its slices back."""
        run(queued_resources.delete_command(attempt.identifier(self.job.name), self.options))

    def delete_by_hand(self, attempt: Attempt) -> str:
        """Returns the command with which a person gives a request back."""
        return shlex.join(queued_resources.delete_command(attempt.identifier(self.job.name), self.options))
