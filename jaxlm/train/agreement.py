"""What hosts tell each other and decide together, through the coordinator's key-value store.

With one host every function here is the identity. No device takes part, so they work before any has started
and where devices differ, and they wait beside the devices, not for them.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax

from jaxlm.config import ConfigError
from jaxlm.train import hosts
from jaxlm.train.hosts import HostLost, HostsError

WAIT = 3600  # seconds that a host may be busy alone, with preparing its data, while the others wait

# What gloo, NCCL, the coordination service and Orbax's own barriers say of a host that is gone.
_GONE = re.compile(r"(?i:gloo|nccl|heartbeat|coordination.?service)|UNAVAILABLE:|ABORTED:|DEADLINE_EXCEEDED")


def exchange(topic: str, value: Any) -> list[Any]:
    """Returns the JSON `value` of every host, by index; all call it with the same topics in the same order."""
    team = hosts.team()
    if team is None:
        return [value]
    place = team.place(topic)
    with losing():
        team.client.key_value_set(f"{place}/{team.config.index}", json.dumps(value))
        barrier(topic)
        found = dict(team.client.key_value_dir_get(f"{place}/"))
    return [json.loads(found[f"{place}/{index}"]) for index in range(team.config.count)]


def from_first(topic: str, make: Callable[[], Any]) -> Any:
    """Returns the JSON value that `make` has on host 0, where alone it is called; the others wait for it."""
    team = hosts.team()
    if team is None:
        return make()
    place = team.place(topic)
    if team.config.index == 0:
        value = make()
        with losing():
            team.client.key_value_set(place, json.dumps(value))
        return value
    return json.loads(_patiently(team, team.client.blocking_key_value_get, place))


def barrier(name: str) -> None:
    """Waits until all hosts are here; raises `HostsError` after `WAIT` seconds."""
    team = hosts.team()
    if team is not None:
        _patiently(team, team.client.wait_at_barrier, f"jaxlm/{name}")


def agreed_stop(reason: str | None) -> str | None:
    """Returns why to stop now, None to go on: the same on all hosts, which call it before each chunk.

    `reason` is this host's own. While they agree, the devices work on the chunk before.
    """
    team = hosts.team()
    if team is None:
        return reason
    number = next(team.rounds)
    with losing():
        if reason:
            with contextlib.suppress(jax.errors.JaxRuntimeError):  # another host was first
                team.client.key_value_set("jaxlm/stop", json.dumps([number, reason]))
        barrier("chunk")
        try:
            first, why = json.loads(team.client.key_value_try_get("jaxlm/stop"))
        except jax.errors.JaxRuntimeError as error:
            if "NOT_FOUND" not in str(error):
                raise
            return None
    # A host that has passed this barrier may have named the next round already; those behind it go on until then.
    return why if first <= number else None


@contextlib.contextmanager
def losing() -> Iterator[None]:
    """Turns what JAX raises where another host is gone into `HostLost`."""
    try:
        yield
    except (ConfigError, HostsError):
        raise
    except Exception as error:
        team = hosts.team()
        if team is None or not _GONE.search(str(error)):
            raise
        raise HostLost(*hosts.verdict(team, patience=3 * hosts.POLL)) from error


def _patiently(team: hosts.Team, call: Callable[[str, int], Any], place: str) -> Any:
    """Returns what the store's `call` gives once the others are there; raises `HostsError` after `WAIT` seconds."""
    with losing():
        try:
            return team.wait(call, place, WAIT * 1000)
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
            raise HostsError(f"not all of {team.config.count} hosts came within {WAIT} s") from error
