"""Several hosts that train one run: how they meet, and how they end.

Each host runs the same program on its own devices (JAX's multi-controller runtime). They meet at a
coordinator that host 0 serves, and talk through its key-value store (`jaxlm.train.agreement`).

No host may wait for ever for one that is gone. A host that fails says so in the store, where the others look
once a second; a host that is killed is missed by JAX's heartbeats after `HEARTBEAT` seconds, on CPU by its
broken connection at once. All then end with one line and an exit code.
"""

import concurrent.futures
import contextlib
import ctypes
import dataclasses
import itertools
import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import jax

from jaxlm.config import ConfigError, require

HEARTBEAT = 60  # seconds of silence after which a host is lost
GRACE = 10.0  # seconds that last words may take
POLL = 1.0  # seconds between two looks whether another host has failed
LONGEST = 86_400  # seconds that hosts may take to come
PREEMPTED = 75  # exit code: start again

VARIABLES = {"coordinator": "JAXLM_COORDINATOR", "hosts": "JAXLM_HOSTS", "host-index": "JAXLM_HOST_INDEX"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class HostsConfig:
    """Where the hosts of a run meet.

    Attributes:
      coordinator: HOST:PORT of host 0, which the others must reach.
      count: hosts in all.
      index: which of them this is, in 0..count-1.
      timeout: seconds to wait for the others to come.
    """

    coordinator: str
    count: int
    index: int
    timeout: float = 300.0

    def __post_init__(self) -> None:
        host, _, port = self.coordinator.rpartition(":")
        require(_is_name(host) and port.isdecimal() and 0 < int(port) < 2**16, "coordinator", self.coordinator,
                "must be HOST:PORT")
        require(self.count >= 1, "hosts", self.count, "must be at least 1")
        require(0 <= self.index < self.count, "host-index", self.index,
                f"must lie in 0..{self.count - 1} for {self.count} hosts")
        require(0 < self.timeout <= LONGEST, "host-timeout", self.timeout,
                f"must lie in 0..{LONGEST} seconds, 0 excluded")


def _is_name(host: str) -> bool:
    """Whether a host's name can be looked up."""
    try:
        return bool(host.encode("idna"))
    except UnicodeError:
        return False


class HostsError(OSError):
    """Hosts cannot work together; the text is one line."""


class HostLost(HostsError):
    """Another host is gone or has failed; `exit_code` is that of this one."""

    def __init__(self, line: str, exit_code: int = PREEMPTED) -> None:
        super().__init__(line)
        self.exit_code = exit_code


@dataclasses.dataclass(kw_only=True)
class Team:
    """The hosts once they have met, as this one sees them."""

    config: HostsConfig
    client: Any  # of JAX's coordination service
    caller: concurrent.futures.Executor
    leaving: threading.Event = dataclasses.field(default_factory=threading.Event)
    rounds: Iterator[int] = dataclasses.field(default_factory=itertools.count)
    topics: dict[str, int] = dataclasses.field(default_factory=dict)
    last_words: Callable[[str, int], None] | None = None

    def place(self, topic: str) -> str:
        """Returns a place in the store for this use of a topic, the same on all hosts."""
        self.topics[topic] = number = self.topics.get(topic, -1) + 1
        return f"jaxlm/{topic}/{number}"

    def wait(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Calls in another thread, for the main one must hear signals meanwhile."""
        return self.caller.submit(call, *arguments).result()


_team: Team | None = None
_ending = threading.Lock()
_abort_handler: Any = None  # C keeps no reference to it


def hosts_config(
    coordinator: str | None, count: int | None, index: int | None, *, timeout: float = 300.0,
    environment: Mapping[str, str] = os.environ,
) -> HostsConfig | None:
    """Returns where to meet, from options or else from `VARIABLES`; None for a process that works alone.

    Raises `ConfigError` where some of the three are given and others are not.
    """
    given: dict[str, Any] = {"coordinator": coordinator, "hosts": count, "host-index": index}
    for name, variable in VARIABLES.items():
        if given[name] is None and (text := environment.get(variable)):
            require(name == "coordinator" or text.isdecimal(), variable, text, "must be a whole number")
            given[name] = text if name == "coordinator" else int(text)
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == len(given):
        return None
    if missing:
        raise ConfigError(f"--{missing[0]}: needed too; several hosts take --coordinator, --hosts and --host-index, "
                          f"or {', '.join(VARIABLES.values())}")
    return HostsConfig(coordinator=given["coordinator"], count=given["hosts"], index=given["host-index"],
                       timeout=timeout)


def team() -> Team | None:
    """The hosts that have met; None for a process that works alone."""
    return _team


def is_first() -> bool:
    """Whether this is the host that writes records; starts no device."""
    found = team()
    return found is None or found.config.index == 0


def initialize(hosts: HostsConfig) -> None:
    """Meets the other hosts, before any device starts; raises `HostsError` where they do not come."""
    global _team
    began = time.monotonic()
    if hosts.index > 0:
        _await_coordinator(hosts)
    # Its handler of SIGTERM would take the place of ours, which stops all hosts after the same update.
    jax.config.update("jax_enable_preemption_service", False)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    _catch_abort(hosts)
    caller = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="hosts")
    # Its own timeout aborts the process; it comes after ours.
    meeting = caller.submit(
        jax.distributed.initialize, hosts.coordinator, hosts.count, hosts.index,
        cluster_detection_method="deactivate", initialization_timeout=int(hosts.timeout) + 60,
        heartbeat_timeout_seconds=HEARTBEAT, shutdown_timeout_seconds=HEARTBEAT)
    try:
        meeting.result(max(hosts.timeout - (time.monotonic() - began), 1.0))
    except TimeoutError:
        raise HostsError(f"coordinator {hosts.coordinator}: not all of {hosts.count} hosts came within "
                         f"{hosts.timeout:g} s; this is host {hosts.index}") from None
    except Exception as error:
        raise HostsError(f"coordinator {hosts.coordinator}: {' '.join(str(error).split())[:200]}") from error
    from jax._src import distributed  # jax has no public way to its key-value store

    _team = Team(config=hosts, client=distributed.global_state.client, caller=caller)
    threading.Thread(target=_watch, args=(_team,), name="watch", daemon=True).start()


@contextlib.contextmanager
def joined(hosts: HostsConfig | None, explain: Callable[[BaseException], tuple[int, str]]) -> Iterator[None]:
    """Meets the other hosts for the time of the context; None for a process that works alone.

    What the context raises ends this process, for Python's own way out would first wait for the others:
    they are told, `explain` turns the error into (exit code, line), and the line is printed.
    """
    if hosts is None:
        yield
        return
    try:
        initialize(hosts)
        yield
    except BaseException as error:
        code, line = explain(error)
        if code == 1 and not isinstance(error, OSError | ImportError):
            traceback.print_exc()
        if _team is not None and not _team.leaving.is_set():
            _tell(_team, line if isinstance(error, HostLost) else f"host {hosts.index}: {line}", code)
        elif _team is not None:
            _part()
        _end(line, code)
    _part()


@contextlib.contextmanager
def last_words(say: Callable[[str, int], None]) -> Iterator[None]:
    """Within it `say` is called where this process must end at once, for another host has failed or is gone.

    It is given the reason and the exit code, in whichever thread has learned of it.
    """
    if _team is not None:
        _team.last_words = say
    try:
        yield
    finally:
        if _team is not None:
            _team.last_words = None


def end_together() -> None:
    """Says that all hosts are about to raise the same error, so that none has to tell the others."""
    if _team is not None:
        _team.leaving.set()


def verdict(team: Team, *, patience: float = 0.0) -> tuple[str, int]:
    """Returns (line, exit code) of the host that has failed, or of one that is gone without a word."""
    deadline = time.monotonic() + patience
    while (told := _told(team)) is None:
        if time.monotonic() >= deadline:
            return _gone(team.config), PREEMPTED
        time.sleep(0.2)
    return told


def _gone(hosts: HostsConfig) -> str:
    return (f"lost one of {hosts.count} hosts, or the coordinator {hosts.coordinator}; "
            "start all again to go on from the last checkpoint")


def _told(team: Team) -> tuple[str, int] | None:
    with contextlib.suppress(Exception):  # not found; and a coordinator that is gone is met elsewhere
        line, code = json.loads(team.client.key_value_try_get("jaxlm/failed"))
        return line, code
    return None


def _tell(team: Team, line: str, code: int) -> None:
    """Tells the others that a host has failed."""
    team.leaving.set()
    with contextlib.suppress(Exception):  # another was first
        # Where this one was interrupted, the others were preempted.
        team.client.key_value_set("jaxlm/failed", json.dumps([line, code if code in (1, 2) else PREEMPTED]))
    if team.config.index == 0 and team.config.count > 1:
        time.sleep(3 * POLL)  # the store goes with this process


def _watch(team: Team) -> None:
    """Ends this process where another host says that it has failed."""
    while not team.leaving.wait(POLL):
        if (told := _told(team)) and not team.leaving.is_set():
            _end(*told)


def _part() -> None:
    """Waits for the other hosts and leaves the coordinator."""
    global _team
    if _team is not None:
        _team.leaving.set()
    with contextlib.suppress(Exception):
        jax.distributed.shutdown()
    _team = None


def _await_coordinator(hosts: HostsConfig) -> None:
    """Waits until host 0 listens; jax itself would end without saying that it does not."""
    host, _, port = hosts.coordinator.rpartition(":")
    deadline = time.monotonic() + hosts.timeout
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=hosts.timeout).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise HostsError(f"coordinator {hosts.coordinator}: does not answer within {hosts.timeout:g} s "
                                 f"({error.strerror or error}); host 0 of {hosts.count} must run there") from None
            time.sleep(0.2)


def _catch_abort(hosts: HostsConfig) -> None:
    """Gives a line and an exit code to jaxlib's own end.

    Where jaxlib loses the others it calls abort(), and the callback that it would call instead cannot be one of
    Python (std::bad_cast, 0.10). abort() calls this handler first, in its own thread.
    """
    global _abort_handler
    if os.name != "posix":
        return

    def handle(number: int) -> None:
        if _team is None:
            _end(f"coordinator {hosts.coordinator}: did not let host {hosts.index} of {hosts.count} in; "
                 "is --hosts the same on all, and each index given once?", 1)
        # Not asking the store, which is out of reach, or would answer in this very thread.
        _end(_gone(hosts), PREEMPTED)

    _abort_handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(handle)
    ctypes.CDLL(None).signal(signal.SIGABRT, _abort_handler)


def _end(line: str, code: int) -> NoReturn:
    """Prints the line and ends the process at once, whichever thread calls."""
    _ending.acquire()  # for good: the first one ends the process
    timer = threading.Timer(GRACE, os._exit, (code,))
    timer.daemon = True
    timer.start()
    if _team is not None and _team.last_words is not None:
        with contextlib.suppress(Exception):
            _team.last_words(line, code)
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        print(f"jaxlm: {line}", file=sys.stderr, flush=True)
    os._exit(code)
