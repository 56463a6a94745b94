"""What hosts tell each other, with threads for hosts and a dictionary for the coordinator's store."""

import concurrent.futures
import json
import threading
import time
import types

import jax
import numpy as np
import pytest
from tiny_run import RUN

from jaxlm.cli import main
from jaxlm.config import ConfigError
from jaxlm.train import agreement, hosts, preflight
from jaxlm.train.hosts import HostLost, HostsConfig, HostsError, hosts_config

LOCAL = threading.local()


class Store:
    """The part of JAX's coordination client that is used, for threads."""

    def __init__(self, count):
        self.values, self.changed = {}, threading.Condition()
        self.meeting = threading.Barrier(count)

    def key_value_set(self, key, value):
        with self.changed:
            if key in self.values:
                raise jax.errors.JaxRuntimeError(f"ALREADY_EXISTS: {key}")
            self.values[key] = value
            self.changed.notify_all()

    def key_value_try_get(self, key):
        if key not in self.values:
            raise jax.errors.JaxRuntimeError(f"NOT_FOUND: {key}")
        return self.values[key]

    def blocking_key_value_get(self, key, timeout):
        with self.changed:
            self.changed.wait_for(lambda: key in self.values, timeout=20)
            return self.values[key]

    def key_value_dir_get(self, key):
        return [(name, value) for name, value in self.values.items() if name.startswith(key)]

    def wait_at_barrier(self, name, timeout):
        self.meeting.wait(20)


@pytest.fixture
def on_hosts(monkeypatch):
    """A function that calls another with the index of each host, in a thread each; returns results or errors."""
    monkeypatch.setattr(hosts, "team", lambda: getattr(LOCAL, "team", None))

    def run(count, call):
        store = Store(count)

        def host(index):
            config = HostsConfig(coordinator="here:1", count=count, index=index)
            with concurrent.futures.ThreadPoolExecutor(1) as caller:
                LOCAL.team = hosts.Team(config=config, client=store, caller=caller)
                try:
                    return call(index)
                except Exception as error:
                    return error

        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            return list(pool.map(host, range(count)))

    return run


# Talking.

def test_exchange_gives_all_values_in_order_each_time(on_hosts):
    def twice(index):
        return agreement.exchange("x", [index, 1]), agreement.exchange("x", {"i": index})

    wanted = [[i, 1] for i in range(12)], [{"i": i} for i in range(12)]
    assert on_hosts(12, twice) == [wanted] * 12


def test_from_first_asks_host_0_alone(on_hosts):
    asked = []

    def call(index):
        return agreement.from_first("x", lambda: asked.append(index) or 7)

    assert on_hosts(3, call) == [7, 7, 7] and asked == [0]


def test_with_one_host_nothing_is_asked_of_anyone():
    assert agreement.exchange("x", 1) == [1] and agreement.from_first("x", lambda: 2) == 2
    assert agreement.agreed_stop("SIGTERM") == "SIGTERM" and agreement.agreed_stop(None) is None
    agreement.barrier("x")


@pytest.mark.parametrize("wanted", [{1: 3}, {0: 2, 2: 2}, {0: 4, 1: 3}], ids=str)
def test_hosts_stop_before_the_same_chunk(on_hosts, wanted):
    def loop(index):
        for chunk in range(10):
            time.sleep(0.002 * np.random.default_rng([index, chunk]).random())
            if reason := agreement.agreed_stop(f"host {index}" if chunk >= wanted.get(index, 99) else None):
                return chunk, reason
        return None

    first = min(wanted.values())
    ends = on_hosts(3, loop)
    assert len(set(ends)) == 1 and ends[0][0] == first
    assert wanted[int(ends[0][1].removeprefix("host "))] == first


@pytest.mark.parametrize("text", [
    "UNKNOWN: Gloo all-reduce failed: Connection reset by peer",
    "INTERNAL: Barrier failed because: UNAVAILABLE: Task 1 heartbeat timeout"])
def test_a_host_that_is_gone_is_told_from_other_faults(on_hosts, monkeypatch, text):
    monkeypatch.setattr(hosts, "POLL", 0.0)

    def call(index):
        with agreement.losing():
            raise ValueError(text)

    (error,) = on_hosts(1, call)
    assert isinstance(error, HostLost) and error.exit_code == 75
    with pytest.raises(ValueError, match="all-reduce|Barrier"):
        call(0)


def test_a_host_that_failed_is_quoted(on_hosts):
    def call(index):
        hosts.team().client.key_value_set("jaxlm/failed", json.dumps(["host 1: no space left", 1]))
        with agreement.losing():
            raise ValueError("Gloo all-reduce failed")

    (error,) = on_hosts(1, call)
    assert (str(error), error.exit_code) == ("host 1: no space left", 1)


# The comparison before the first update.

def dataset(digest="a" * 20, token=0):
    return types.SimpleNamespace(digest=digest, batch=lambda k, size: np.full((size, 9), token))


def compare(on_hosts, count=3, **of_host_1):
    """Returns the errors of `preflight` on all hosts, host 1 having other things than the rest."""
    def call(index):
        own = of_host_1 if index == 1 else {}
        return preflight.preflight(own.get("config", RUN), [own.get("data", dataset())], stop_at=own.get("stop_at"))

    return on_hosts(count, call)


def test_hosts_that_agree_go_on(on_hosts):
    assert compare(on_hosts) == [None] * 3


@pytest.mark.parametrize(("other", "line"), [
    ({"config": RUN.replace(seed=5)}, "hosts differ: host 1 has seed = 5, host 0 has 0"),
    ({"data": dataset("b" * 20)}, f"hosts differ: host 1 has corpus digest = ['{'b' * 12}'], host 0 has ['{'a' * 12}']"),
    ({"stop_at": 3}, "hosts differ: host 1 has --stop-at = 3, host 0 has None"),
    ({"data": dataset(token=1)}, "hosts differ: host 1 has first batch = '"),
], ids=["seed", "corpus", "stop", "batch"])
def test_the_host_that_differs_is_named_on_all(on_hosts, other, line):
    errors = compare(on_hosts, **other)
    assert all(type(error) is ConfigError and str(error).startswith(line) for error in errors), errors
    assert len(set(map(str, errors))) == 1 and "\n" not in str(errors[0])


def test_another_version_is_the_environments_fault(on_hosts, monkeypatch):
    monkeypatch.setattr(preflight, "versions", lambda: {"jaxlib": "0.1" if hosts.team().config.index == 2 else "0.2"})
    errors = compare(on_hosts, config=RUN.replace(seed=5))
    assert all(type(error) is HostsError for error in errors)
    assert str(errors[0]) == "hosts differ: host 2 has jaxlib = '0.1', host 0 has '0.2'"


def test_the_host_that_stands_alone_is_named_even_if_it_is_the_first():
    assert preflight.differences([{"x": 1}, {"x": 2}, {"x": 2}]) == ["host 0 has x = 1, host 1 has 2"]
    assert preflight.differences([{"x": 1}, {"x": 2}]) == ["host 1 has x = 2, host 0 has 1"]
    assert preflight.differences([{"x": 1}, {}]) == ["host 1 has x = None, host 0 has 1"]


def test_clocks_may_differ_by_seconds_only():
    assert preflight.skews([100.0, 104.9, 97.0]) == []
    assert preflight.skews([100.0, 100.1, 93.0, 101.0]) == ["host 2 has its clock -7.0 s from host 0's"]


# Where to meet.

def test_variables_stand_in_for_the_flags():
    environment = {"JAXLM_COORDINATOR": "a:1", "JAXLM_HOSTS": "4", "JAXLM_HOST_INDEX": "3"}
    found = hosts_config(None, None, 2, environment=environment)
    assert found == HostsConfig(coordinator="a:1", count=4, index=2)
    assert hosts_config(None, None, None, environment={}) is None


@pytest.mark.parametrize(("flags", "environment", "line"), [
    (("a:1", None, None), {}, "--hosts: needed too; several hosts take --coordinator, --hosts and --host-index, "
                              "or JAXLM_COORDINATOR, JAXLM_HOSTS, JAXLM_HOST_INDEX"),
    ((None, None, 0), {"JAXLM_HOSTS": "2"}, "--coordinator: needed too"),
    (("a:1", 2, 2), {}, "host-index = 2: must lie in 0..1 for 2 hosts"),
    (("a:1", 2, -1), {}, "host-index = -1: must lie in 0..1 for 2 hosts"),
    (("a:1", 0, 0), {}, "hosts = 0: must be at least 1"),
    (("a", 2, 0), {}, "coordinator = 'a': must be HOST:PORT"),
    (("a:0", 2, 0), {}, "coordinator = 'a:0': must be HOST:PORT"),
    (("a:1", 2, None), {"JAXLM_HOST_INDEX": "one"}, "JAXLM_HOST_INDEX = 'one': must be a whole number"),
], ids=str)
def test_wrong_flags(flags, environment, line):
    with pytest.raises(ConfigError) as error:
        hosts_config(*flags, environment=environment)
    assert str(error.value).startswith(line)


def test_wrong_flags_end_the_command(capsys):
    assert main(["train", "quickstart:x", "--coordinator", "127.0.0.1:1"]) == 2
    assert capsys.readouterr().err.startswith("jaxlm: --hosts: needed too")


def test_a_coordinator_that_does_not_answer():
    with pytest.raises(HostsError, match=r"^coordinator 127\.0\.0\.1:1: does not answer within 0\.1 s \(Connection "
                                         r"refused\); host 0 of 2 must run there$"):
        hosts.initialize(HostsConfig(coordinator="127.0.0.1:1", count=2, index=1, timeout=0.1))
