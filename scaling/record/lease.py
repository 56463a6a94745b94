"""A lease on a run folder where no file lock works: object stores, and file systems without flock.

`lease/<generation>.json` is created exclusively by the process that holds that generation, which then
rewrites it every `beat` seconds with a counter. A contender that sees the highest generation released
creates the next one at once; else it watches the content by its own monotonic clock, and only content
that stayed the same for `patience` seconds belongs to a dead holder, whose generation it follows. No
decision reads a wall clock, so clocks may differ and jump.

Why two processes never hold it at once. The holder counts as alive from the moment it *began* its last
successful beat, and `check` fails `patience / 2` later. A contender must have read the result of that
beat before its own wait of a whole `patience` begins, so it takes over at least `patience / 2` later
than the last write that `check` allowed: that is the time such a write has to reach the store, and
beats may fail for `patience / 2` before the run stops. A beat that was under way all that time cannot
slip through either: the holder writes first and lists the generations afterwards, the contender creates
its generation first and reads the holder's again afterwards, so that at least one sees the other.
"""

import dataclasses
import errno
import json
import os
import platform
import time
import uuid
from collections.abc import Callable

from scaling.errors import InputError
from scaling.record import files


class LeaseLost(OSError):
    """This process may write the run no longer; its text is one line that names run and reason."""


def _seconds() -> float:
    # Unlike time.monotonic, CLOCK_BOOTTIME (Linux) goes on while the machine is suspended.
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timing:
    """Times of a lease in seconds, and the clock and sleep that measure them.

    Attributes:
      beat: time between two heartbeats, above 0.
      patience: how long a holder's file must stay the same before it counts as dead; at least 4 beats.
      clock: seconds since any fixed moment, never set back.
      sleep: waits the given seconds.
    """

    beat: float = 10.0
    patience: float = 60.0
    clock: Callable[[], float] = _seconds
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        if not self.beat > 0:
            raise InputError(f"beat = {self.beat!r}: must be above 0 seconds")
        if not self.patience >= 4 * self.beat:
            raise InputError(f"patience = {self.patience!r}: must be at least 4 beats, {4 * self.beat:g}")

    @classmethod
    def from_environment(cls) -> "Timing":
        """Returns the default, or SCALING_LEASE_BEAT seconds a beat and a patience of 6 beats."""
        text = os.environ.get("SCALING_LEASE_BEAT")
        if text is None:
            return cls()
        try:
            beat = float(text)
        except ValueError:
            raise InputError(f"SCALING_LEASE_BEAT = {text!r}: must be a number of seconds") from None
        return cls(beat=beat, patience=6 * beat)

    @property
    def trust(self) -> float:
        """Seconds from the start of a successful beat for which the holder may write."""
        return self.patience / 2


class Lease:
    """The lease of one run folder: `acquire`, then `beat` regularly and `check` before writes, `release`."""

    def __init__(self, folder: files.AnyPath, timing: Timing) -> None:
        self._run = folder.name
        self._folder = folder / "lease"
        self._timing = timing
        self._nonce = uuid.uuid4().hex
        self._generation = -1
        self._beats = 0
        self._alive = timing.clock()
        self._lost: str | None = None

    def acquire(self, wait: float = 0.0) -> None:
        """Takes the lease, trying again for `wait` seconds.

        Raises `InputError` naming the holder where another process holds it. Finding out takes up to
        one beat of the holder, and the whole `patience` where it is dead.
        """
        deadline = self._timing.clock() + wait
        while (holder := self._contend()) is not None:
            if self._timing.clock() >= deadline:
                raise held(self._run, holder)
            self._timing.sleep(self._timing.beat / 2)
        for generation in self._generations():
            if generation < self._generation - 1:  # the last two show who held it before
                files.remove(self._path(generation))

    def beat(self) -> None:
        """Shows that the holder lives; raises `OSError` where the store cannot be reached."""
        if self._lost is not None:
            return
        started = self._timing.clock()
        self._beats += 1
        files.replace_atomically(self._path(self._generation), self._content())
        # After the write, never before it: see the top of this file.
        if self._newest() > self._generation:
            self._lost = "another process has taken it over, this one showed no sign of life for too long"
        else:
            self._alive = started

    def check(self) -> None:
        """Raises `LeaseLost` unless a write that begins now has `patience / 2` seconds to be done."""
        silent = self._timing.clock() - self._alive
        if self._lost is None and silent <= self._timing.trust:
            return
        reason = self._lost or f"no heartbeat has reached its folder for {silent:.0f} seconds"
        raise LeaseLost(f"run = {self._run!r}: {reason}")

    def release(self) -> None:
        """Lets the next process in at once; the heartbeat must have ended."""
        if self._lost is None:
            files.replace_atomically(self._path(self._generation), self._content(released=True))

    def _contend(self) -> bytes | None:
        """Takes the lease and returns None, or returns the content of the one who holds it."""
        generation, content = self._highest()
        before = content if generation >= 0 and not _parse(content).get("released") else None
        if before is not None:
            later, content = self._watch(generation, content)
            if later != generation or content != before:
                if not _parse(content).get("released"):
                    return content
                generation, before = later, None
        return self._follow(generation, before)

    def _watch(self, generation: int, content: bytes) -> tuple[int, bytes]:
        """Returns the highest generation and its content as soon as they change, or after `patience`."""
        # The holder may have been started with a longer beat than this process.
        recorded = _parse(content).get("patience")
        patience = max(self._timing.patience, recorded if isinstance(recorded, (int, float)) else 0.0)
        began = self._timing.clock()
        while True:
            self._timing.sleep(self._timing.beat / 2)
            # The clock comes before the read: after a suspension the content is read once more.
            waited = self._timing.clock() - began
            now = self._highest()
            if now != (generation, content) or waited >= patience:
                return now

    def _follow(self, generation: int, before: bytes | None) -> bytes | None:
        """Creates the generation after `generation`, whose content must still be `before` if not None."""
        self._generation, started = generation + 1, self._timing.clock()
        path = self._path(self._generation)
        try:
            files.create(path, self._content())
        except FileExistsError:
            highest, content = self._highest()
            # A PUT that the driver sent twice, because the first answer was lost, meets itself.
            if highest != self._generation or _parse(content).get("nonce") != self._nonce:
                return content
        if self._newest() > self._generation:
            files.remove(path)
            return self._highest()[1]
        if before is not None and (now := files.read_bytes(self._path(generation))) != before:
            files.remove(path)  # the one taken for dead has woken up
            return now
        self._alive = started
        return None

    def _highest(self) -> tuple[int, bytes]:
        while True:
            generation = max(self._generations(), default=-1)
            if generation < 0:
                return generation, b""
            try:
                return generation, files.read_bytes(self._path(generation))
            except FileNotFoundError:  # its holder gave way to another meanwhile
                continue

    def _generations(self) -> list[int]:
        return generations(self._folder)

    def _newest(self) -> int:
        """Returns the highest generation, to be called after a write: `OSError` where it is older."""
        highest = max(self._generations(), default=-1)
        if highest < self._generation:
            raise OSError(errno.EIO, "the store does not list what was written", str(self._folder))
        return highest

    def _path(self, generation: int) -> files.AnyPath:
        return self._folder / f"{generation}.json"

    def _content(self, *, released: bool = False) -> bytes:
        content = {
            "host": platform.node(), "pid": os.getpid(), "nonce": self._nonce, "beats": self._beats,
            "patience": self._timing.patience, "released": released,
            "wall_time": time.time(),  # for `is_held` alone
        }
        return files.to_json(content, "lease").encode()


def is_held(folder: files.AnyPath) -> bool:
    """Whether the lease is not released and its last beat is younger than two patiences.

    For display only: it does not wait for a beat, and compares the wall clocks of two machines.
    """
    found = generations(folder / "lease")
    if not found:
        return False
    try:
        content = _parse(files.read_bytes(folder / "lease" / f"{max(found)}.json"))
    except FileNotFoundError:  # replaced this instant
        return True
    beat, patience = content.get("wall_time"), content.get("patience")
    if content.get("released") or not isinstance(beat, float) or not isinstance(patience, (int, float)):
        return False
    return time.time() - beat < 2 * patience


def generations(folder: files.AnyPath) -> list[int]:
    """Returns the generations that stand in the folder `lease`, unsorted."""
    stems = [name.removesuffix(".json") for name in files.names(folder) if name.endswith(".json")]
    return [int(stem) for stem in stems if stem.isdecimal()]


def held(run: str, content: bytes) -> InputError:
    """Returns the error that names the holder, read from `content` of its lock or lease file."""
    holder = _parse(content)
    who = f"{holder['host']}, pid {holder['pid']}" if {"host", "pid"} <= set(holder) else "unknown"
    return InputError(f"run = {run!r}: another process is writing it ({who})")


def _parse(content: bytes) -> dict:
    """A file cut short or of somebody else is that of a holder without a name."""
    try:
        data = json.loads(content)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}
