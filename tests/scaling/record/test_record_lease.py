"""The lease of a run folder: who holds it, with a clock that only the tests move."""

import itertools
import json
import os
import platform

import pytest

from scaling.errors import InputError
from scaling.record import files, lease

DEAD = 6.0  # seconds, the patience of every lease here


class Clock:
    """Seconds that pass only while somebody sleeps; `then` runs after each sleep."""

    def __init__(self):
        self.now = 0.0
        self.then = []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        for action in list(self.then):
            action()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def folder(place):
    return place / "run-a"


def make(folder, clock, **changes):
    timing = {"beat": 1.0, "patience": DEAD, "clock": clock, "sleep": clock.sleep} | changes
    return lease.Lease(folder, lease.Timing(**timing))


@pytest.fixture
def holder(folder, clock):
    holder = make(folder, clock)
    holder.acquire()
    return holder


def content(folder, generation):
    return json.loads(files.read_bytes(folder / "lease" / f"{generation}.json"))


def present(folder):
    return files.names(folder / "lease")


def around_create(monkeypatch, *, before=lambda: None, after=lambda: None):
    """Lets others act right before and right after the next generation is created."""
    create = files.create

    def patched(path, data):
        monkeypatch.setattr(files, "create", create)
        before()
        create(path, data)
        after()

    monkeypatch.setattr(files, "create", patched)


def refused(contender):
    with pytest.raises(InputError, match=r"^run = 'run-a': another process is writing it \(.*\)$") as caught:
        contender.acquire()
    return str(caught.value)


def test_a_free_folder_is_taken_at_once_and_the_file_names_the_holder(holder, folder, clock):
    holder.check()
    assert clock.now == 0.0 and present(folder) == ["0.json"]
    assert (content(folder, 0)["host"], content(folder, 0)["pid"]) == (platform.node(), os.getpid())


def test_a_living_holder_is_named_within_one_beat(holder, folder, clock):
    clock.then.append(holder.beat)
    assert refused(make(folder, clock)).endswith(f"({platform.node()}, pid {os.getpid()})")
    assert clock.now <= 1.0
    holder.check()


def test_a_holder_whose_beats_fail_now_and_then_lives(holder, folder, clock):
    # Beats at 0 and 5 seconds: silent for less than the patience of 6.
    clock.then.append(lambda: holder.beat() if clock.now == 5.0 else None)
    refused(make(folder, clock))
    assert clock.now == 5.0


def test_a_dead_holder_is_followed_after_the_patience(holder, folder, clock):
    contender = make(folder, clock)
    contender.acquire()
    assert clock.now == DEAD and present(folder) == ["0.json", "1.json"]
    contender.check()
    silent = "^run = 'run-a': no heartbeat has reached its folder for 6 seconds$"
    with pytest.raises(lease.LeaseLost, match=silent):
        holder.check()


def test_a_holder_with_a_longer_beat_gets_its_own_patience(folder, clock):
    make(folder, clock, beat=10.0, patience=60.0).acquire()
    make(folder, clock).acquire()
    assert clock.now == 60.0


def test_a_released_lease_is_taken_at_once(holder, folder, clock):
    holder.release()
    make(folder, clock).acquire()
    assert clock.now == 0.0


def test_a_lease_released_while_a_contender_watches_is_taken(holder, folder, clock):
    clock.then.append(holder.release)
    make(folder, clock).acquire()
    assert clock.now == 0.5


def test_a_contender_may_wait_for_a_living_holder(holder, folder, clock):
    clock.then.append(lambda: holder.beat() if clock.now < 20 else holder.release())
    contender = make(folder, clock)
    contender.acquire(wait=30.0)
    assert 20.0 <= clock.now < 22.0
    contender.check()


@pytest.mark.parametrize("dead", [False, True], ids=["released", "dead"])
def test_of_two_contenders_one_wins(holder, folder, clock, dead, monkeypatch):
    if not dead:
        holder.release()
    first, second = make(folder, clock), make(folder, clock)
    around_create(monkeypatch, before=first.acquire)  # both have seen the same, the first is quicker
    refused(second)
    first.beat()
    first.check()


@pytest.mark.parametrize("last_beat", [0.0, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("contender_starts", [0.0, 0.2, 0.7, 5.0])
def test_a_silent_holder_stops_half_a_patience_before_it_can_be_replaced(folder, last_beat, contender_starts):
    clock = Clock()
    holder = make(folder, clock)
    holder.acquire()
    clock.now = last_beat
    holder.beat()
    allowed = last_beat + holder._timing.trust
    clock.now = last_beat + contender_starts
    make(folder, clock).acquire()
    assert clock.now - allowed >= DEAD / 2 - 1e-9  # rounding of the sums of seconds
    with pytest.raises(lease.LeaseLost):
        holder.check()


def test_a_suspended_holder_whose_clock_stood_still_finds_itself_replaced(folder, clock):
    suspended = make(folder, Clock())
    suspended.acquire()
    other = make(folder, clock)
    other.acquire()
    suspended.beat()
    with pytest.raises(lease.LeaseLost, match="another process has taken it over"):
        suspended.check()
    suspended.release()
    assert not content(folder, 0)["released"] and not content(folder, 1)["released"]
    other.beat()
    other.check()


def test_a_holder_that_wakes_before_it_is_replaced_keeps_the_lease(holder, folder, clock, monkeypatch):
    around_create(monkeypatch, before=holder.beat)
    refused(make(folder, clock))
    assert present(folder) == ["0.json"]
    holder.beat()
    holder.check()


def test_a_holder_that_wakes_while_it_is_replaced_ends_too(holder, folder, clock, monkeypatch):
    around_create(monkeypatch, after=holder.beat)
    refused(make(folder, clock))
    with pytest.raises(lease.LeaseLost):
        holder.check()


def test_a_beat_under_way_all_the_time_finds_the_lease_taken(holder, folder, clock, monkeypatch):
    replace, contender = files.replace_atomically, make(folder, clock)

    def delayed(path, data):
        contender.acquire()
        replace(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(files, "replace_atomically", delayed)
        holder.beat()
    with pytest.raises(lease.LeaseLost, match="another process has taken it over"):
        holder.check()
    contender.check()


def test_a_contender_suspended_while_it_watched_looks_again(holder, folder, clock):
    def suspend():  # the holder lived all the time, the contender slept for an hour
        clock.now += 3600.0
        holder.beat()

    clock.then.append(suspend)
    refused(make(folder, clock))
    assert present(folder) == ["0.json"]


def test_a_contender_that_comes_late_by_generations_gives_way(holder, folder, clock, monkeypatch):
    holder.release()

    def others():
        for _ in range(3):
            other = make(folder, clock)
            other.acquire()
            other.release()
        make(folder, clock).acquire()
        assert present(folder) == ["3.json", "4.json"]

    around_create(monkeypatch, before=others)
    refused(make(folder, clock))
    assert present(folder) == ["3.json", "4.json"]


def test_a_creation_that_the_driver_sent_twice_is_ones_own(folder, clock, monkeypatch):
    def answer_lost():
        raise FileExistsError

    around_create(monkeypatch, after=answer_lost)
    own = make(folder, clock)
    own.acquire()
    own.beat()
    own.check()
    assert present(folder) == ["0.json"]


def test_a_holder_that_cannot_reach_the_store_stops_and_goes_on_when_it_can(holder, clock, monkeypatch):
    def unreachable(*_):
        raise OSError("no route")

    with monkeypatch.context() as patch:
        patch.setattr(files, "replace_atomically", unreachable)
        clock.now = 3.0
        with pytest.raises(OSError, match="no route"):
            holder.beat()
        holder.check()
        clock.now = 3.1
        with pytest.raises(lease.LeaseLost, match="no heartbeat"):
            holder.check()
    holder.beat()
    holder.check()


def test_a_store_that_does_not_list_what_it_was_given_is_not_trusted(folder, clock, monkeypatch):
    monkeypatch.setattr(files, "names", lambda path: [])
    with pytest.raises(OSError, match="does not list what was written: '.*lease'"):
        make(folder, clock).acquire()


@pytest.mark.parametrize("damage", [b"", b'{"host": "a', b"[1]", b"\xff\xfe", b'{"patience": "long"}'])
def test_a_damaged_file_is_a_holder_without_a_name(folder, clock, damage):
    path = folder / "lease" / "3.json"
    files.replace_atomically(path, damage)
    count = itertools.count()
    living = Clock()
    living.then.append(lambda: files.replace_atomically(path, damage + b" " * next(count)))
    assert refused(make(folder, living)).endswith("(unknown)")
    make(folder, clock).acquire()
    assert clock.now == DEAD and content(folder, 4)["pid"] == os.getpid()
    assert not lease.is_held(folder / "elsewhere")


def test_files_of_others_in_the_folder_are_no_generations(folder, clock):
    for name in ("notes.txt", "x.json", "-1.json", ".7.json.99.tmp"):
        files.replace_atomically(folder / "lease" / name, b"{}")
    make(folder, clock).acquire()
    assert "0.json" in present(folder)


@pytest.mark.parametrize("jump", [1e7, -1e7], ids=["forward", "backward"])
def test_jumps_of_the_wall_clock_change_nothing(folder, clock, monkeypatch, jump):
    times = itertools.count(1.8e9, jump)
    monkeypatch.setattr("time.time", lambda: next(times))
    holder = make(folder, clock)
    holder.acquire()
    clock.then.append(holder.beat)
    refused(make(folder, clock))
    holder.check()
    clock.then.clear()
    began = clock.now
    make(folder, clock).acquire()
    assert clock.now - began == DEAD


def test_is_held_goes_by_release_and_the_age_of_the_last_beat(holder, folder, monkeypatch):
    now = content(folder, 0)["wall_time"]
    for age, held in ((0.0, True), (11.0, True), (13.0, False)):
        monkeypatch.setattr("time.time", lambda age=age: now + age)
        assert lease.is_held(folder) is held
    monkeypatch.setattr("time.time", lambda: now)
    holder.release()
    assert not lease.is_held(folder)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ({"beat": 0.0}, "beat = 0.0: must be above 0 seconds"),
        ({"beat": float("nan")}, "beat = nan"),
        ({"beat": 20.0, "patience": 60.0}, "patience = 60.0: must be at least 4 beats, 80"),
    ],
)
def test_wrong_times_are_refused(times, message):
    with pytest.raises(InputError, match=message):
        lease.Timing(**times)


def test_the_beat_may_be_set_in_the_environment(monkeypatch):
    monkeypatch.setenv("SCALING_LEASE_BEAT", "0.5")
    timing = lease.Timing.from_environment()
    assert (timing.beat, timing.patience, timing.trust) == (0.5, 3.0, 1.5)
    monkeypatch.setenv("SCALING_LEASE_BEAT", "soon")
    with pytest.raises(InputError, match="SCALING_LEASE_BEAT = 'soon': must be a number of seconds"):
        lease.Timing.from_environment()
