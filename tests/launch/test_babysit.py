"""The babysitter: its decisions, and its way through the states of a fake gcloud."""

import dataclasses

import pytest
from golden_jobs import SPOT, run_job

from jaxlm.launch.babysit import Policy, QueuedResources, babysit, decide
from jaxlm.launch.ended import read_end
from jaxlm.launch.progress import Progress
from jaxlm.launch.queued_resources import Attempt, Request
from jaxlm.launch.tools import ToolError

POLICY = Policy(attempts=3, delay=60, longest=100, stall=1000, failures=2, silence=15, deletes=3, poll=5)
FIRST = Attempt()
SECOND = Attempt(number=2, fruitless=1, updates=0)
CREATED, BEFORE, AFTER = "2026-01-01T10:00:00.123456789Z", "2026-01-01T09:00:00+00:00", "2026-01-01T11:00:00+00:00"


def seen(state, attempt=FIRST, **fields):
    return {attempt: Request(state=state, created=CREATED, **fields)}


def to_go(updates=0, pending=1, **fields):
    return Progress(updates=updates, pending=pending, **fields)


# requests, progress, last, idle -> phase, deleted, created, wait
TABLE = [
    ({}, to_go(), None, 0, "create", (), FIRST, 0),
    ({}, to_go(700), None, 0, "create", (), Attempt(updates=700), 0),
    (seen("WAITING_FOR_RESOURCES"), to_go(), None, 9e9, "waiting", (), None, 0),
    (seen("PROVISIONING"), to_go(), None, 0, "waiting", (), None, 0),
    (seen("ACTIVE"), to_go(), None, 0, "running", (), None, 0),
    (seen("ACTIVE"), to_go(), None, 1000, "stalled", (FIRST,), None, 0),
    (seen("SUSPENDING"), to_go(), None, 0, "leaving", (), None, 0),
    (seen("SUSPENDED"), to_go(), None, 0, "preempted", (FIRST,), None, 0),
    (seen("FAILED"), to_go(), None, 0, "refused", (FIRST,), None, 0),
    (seen("DELETING"), to_go(), None, 0, "leaving", (), None, 0),
    # The next attempt: at once after one that added updates, else later and later, at last never.
    ({}, to_go(50), FIRST, 0, "recreate", (), Attempt(number=2, updates=50), 0),
    ({}, to_go(), FIRST, 0, "recreate", (), SECOND, 60),
    ({}, to_go(), SECOND, 0, "recreate", (), Attempt(number=3, fruitless=2), 100),
    ({}, to_go(), Attempt(number=9, fruitless=2), 0, "failed", (), None, 0),
    ({}, to_go(1), Attempt(number=9, fruitless=2), 0, "recreate", (), Attempt(number=10, updates=1), 0),
    # The records have the last word.
    (seen("ACTIVE"), to_go(90, 0), None, 0, "finished", (FIRST,), None, 0),
    (seen("DELETING"), to_go(90, 0), None, 0, "finished", (), None, 0),
    ({}, to_go(90, 0), None, 0, "finished", (), None, 0),
    # A run has failed for good that was started twice since the request was made; what waits for it can do nothing.
    (seen("ACTIVE"), to_go(failed={"r": (AFTER, AFTER)}), None, 0, "failed", (FIRST,), None, 0),
    (seen("ACTIVE"), to_go(failed={"r": (BEFORE, AFTER)}), None, 0, "running", (), None, 0),
    (seen("ACTIVE"), to_go(pending=2, failed={"r": (AFTER, AFTER)}), None, 0, "running", (), None, 0),
    (seen("ACTIVE"), to_go(pending=2, blocked=1, failed={"r": (AFTER, AFTER)}), None, 0, "failed", (FIRST,), None, 0),
    (seen("ACTIVE"), to_go(pending=2, failed={"r": (AFTER, AFTER), "s": (AFTER,)}), None, 0, "running", (), None, 0),
    # A host that will do nothing more: a mistake ends the job, hosts that never met are asked for anew.
    (seen("ACTIVE", code=2), to_go(), None, 0, "failed", (FIRST,), None, 0),
    (seen("ACTIVE", code=75), to_go(), None, 0, "stalled", (FIRST,), None, 0),
    (seen("SUSPENDED", code=2), to_go(), None, 0, "preempted", (FIRST,), None, 0),
    (seen("ACTIVE", code=2), to_go(90, 0), None, 0, "finished", (FIRST,), None, 0),
    # An attempt that was left behind is given back.
    (seen("ACTIVE") | seen("WAITING_FOR_RESOURCES", SECOND), to_go(), None, 0, "waiting", (FIRST,), None, 0),
    (seen("SUSPENDED") | seen("ACTIVE", SECOND), to_go(), None, 0, "running", (FIRST,), None, 0),
]


@pytest.mark.parametrize("row", TABLE, ids=range(len(TABLE)))
def test_decisions(row):
    requests, progress, last, idle, phase, deleted, created, wait = row
    decision = decide(requests, progress, POLICY, last=last, idle=idle)
    assert (decision.phase, decision.delete, decision.create, decision.wait) == (phase, deleted, created, wait)
    assert decision.over == (phase in ("finished", "failed"))


class Killed(Exception):
    """The babysitter's process is gone."""


def watched(ended=lambda folder, created: None):
    """The requests of a job, whose hosts have left nothing."""
    return QueuedResources(job=run_job("v5e-16"), options=SPOT, ended=ended)


class World:
    """What happens between two looks of the babysitter: one event a sleep of `poll`.

    An event is what the records say from then on, or raise; a switch of gcloud; a state of all requests; or None.
    """

    def __init__(self, gcloud, events, *, killed=False):
        self.gcloud, self.events, self.killed = gcloud, list(events), killed
        self.progress, self.waits, self.said, self.time = to_go(), [], [], 0.0

    def sleep(self, seconds):
        self.time += seconds
        if seconds != POLICY.poll:
            self.waits.append(seconds)
            return
        assert self.events, f"still watching: {self.said}"
        event = self.events.pop(0)
        if isinstance(event, Progress | OSError):
            self.progress = event
        elif isinstance(event, tuple):
            self.gcloud.switch(*event)
        elif event:
            for name in self.gcloud.requests():
                self.gcloud.set_state(name, event)
        if self.killed:
            raise Killed

    def look(self):
        """What the records say, or the error that reading them raises."""
        if isinstance(self.progress, OSError):
            raise self.progress
        return self.progress

    def watch(self, cloud=None, **policy):
        """Watches to the end, by a new babysitter after each time that one was killed."""
        while True:
            try:
                decision, _ = babysit(cloud or watched(), self.look, dataclasses.replace(POLICY, **policy),
                                      say=self.said.append, sleep=self.sleep, clock=lambda: self.time)
                return decision.phase
            except Killed:
                continue

    def created(self):
        return [words[4] for words in self.gcloud.calls("create")]


@pytest.mark.parametrize("killed", [False, True])
def test_preempted_slices_are_asked_for_again_until_the_runs_have_ended(killed, gcloud):
    world = World(gcloud, ["PROVISIONING", "ACTIVE", to_go(40), "SUSPENDING", "SUSPENDED", to_go(40),
                           "ACTIVE", to_go(90), "SUSPENDED", to_go(90), "ACTIVE", to_go(120, 0)], killed=killed)
    assert world.watch() == "finished"
    assert gcloud.requests() == {} and world.waits == []
    # A new babysitter counts from one where it finds no request, and knows by the records how far the runs are.
    numbers = ["a1-f0-u0", "a1-f0-u40", "a1-f0-u90"] if killed else ["a1-f0-u0", "a2-f0-u40", "a3-f0-u90"]
    assert world.created() == [f"one-run-{number}" for number in numbers]
    assert any("preempted" in line for line in world.said)
    assert world.said[-1].endswith("finished; 120 updates, 0 runs to go")


def test_a_babysitter_that_finds_a_request_goes_on_with_its_counts(gcloud):
    cloud = QueuedResources(job=run_job("v5e-16"), options=SPOT)
    cloud.create(Attempt(number=7, fruitless=1, updates=40))
    world = World(gcloud, ["SUSPENDED", "ACTIVE"])
    world.progress = to_go(40)
    world.events += [to_go(40), "ACTIVE", to_go(60, 0)]
    assert world.watch() == "finished"
    assert world.created() == ["one-run-a7-f1-u40", "one-run-a8-f2-u40"] and world.waits == [100]


def test_too_many_fruitless_attempts_are_a_failure(gcloud):
    world = World(gcloud, ["SUSPENDED", to_go(), "FAILED", to_go(), "SUSPENDED", to_go(), to_go()])
    assert world.watch() == "failed"
    assert world.created() == ["one-run-a1-f0-u0", "one-run-a2-f1-u0", "one-run-a3-f2-u0"]
    assert world.waits == [60, 100] and gcloud.requests() == {}
    assert "3 attempts in a row added no update" in world.said[-1]


def test_a_refused_request_counts_and_is_tried_again(gcloud):
    gcloud.switch("refuse", "quota exceeded")
    world = World(gcloud, [("refuse",), "ACTIVE", to_go(5, 0)])
    assert world.watch() == "finished"
    assert world.created() == ["one-run-a1-f0-u0", "one-run-a2-f1-u0"] and world.waits == [60]
    assert any("not created: gcloud ended with code 1: ERROR: (gcloud) quota exceeded" in line for line in world.said)


def test_stalled_slices_are_given_back(gcloud):
    world = World(gcloud, ["ACTIVE", None, None, None, "ACTIVE", to_go(9, 0)])
    assert world.watch(stall=11) == "finished" and any("stalled (no update in 15 s)" in line for line in world.said)
    assert world.created() == ["one-run-a1-f0-u0", "one-run-a2-f1-u0"]


def test_a_cloud_or_records_that_do_not_answer_are_asked_again_and_then_given_up(gcloud):
    world = World(gcloud, [("no-answer", ""), None, ("no-answer",), OSError("no bucket"), None, to_go(), "ACTIVE",
                           to_go(1, 0)])
    assert world.watch() == "finished"
    assert [line.partition(": ")[2] for line in world.said if "no answer" in line][1:] == [
        "gcloud ended with code 1: ERROR: (gcloud) the service does not answer", "no bucket", "no bucket"]
    for silent, said in ((("no-answer", ""), "does not answer"), (OSError("no bucket"), "no bucket")):
        world = World(gcloud, [silent, None, None])
        with pytest.raises(OSError, match=said):
            world.watch()
        assert world.time == 15 and gcloud.requests()
        gcloud.switch("no-answer")


def test_slices_that_cannot_be_given_back_at_the_end_are_tried_again_and_named(gcloud):
    world = World(gcloud, ["ACTIVE", ("keep", ""), to_go(9, 0), None, ("keep",)])
    assert world.watch() == "finished" and gcloud.requests() == {}
    assert sum("not deleted: gcloud ended with code 1" in line for line in world.said) == 2
    world = World(gcloud, ["ACTIVE", ("keep", ""), to_go(9, 0), None, None])
    with pytest.raises(ToolError, match="billed, after 3 tries to delete: gcloud .* delete one-run-a1-f0-u0 --project"):
        world.watch()
    assert list(gcloud.requests()) == ["one-run-a1-f0-u0"]


def test_a_host_that_will_do_nothing_more_ends_the_job_with_its_code_and_log(gcloud, tmp_path):
    folder = tmp_path / "a request"
    folder.mkdir()

    def ended(url, created):
        assert url == "gs://my-bucket/runs/.jobs/one-run-a1-f0-u0" and created
        return read_end(str(folder), created)

    (folder / "host-0.log").write_text("0 2999-01-01T00:00:00Z\nall well")
    (folder / "host-1.log").write_text("2 2001-01-01T00:00:00Z\nof an earlier request of that name")
    world = World(gcloud, ["ACTIVE", None, None, to_go(90, 0)])
    assert world.watch(watched(ended)) == "finished"
    (folder / "host-2.log").write_text("2 2999-01-01T00:00:00Z\njaxlm: mesh.data = 3: must be")
    world = World(gcloud, ["ACTIVE"])
    assert world.watch(watched(ended)) == "failed" and gcloud.requests() == {}
    assert f"a host ended with 2, its log: {folder}/host-2.log" in world.said[-1]
