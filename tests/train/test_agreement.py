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
from jaxlm.train import agreement, hosts, loop, preflight, start
from jaxlm.train.hosts import HostLost, HostsConfig, HostsError, hosts_config
from scaling import record

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
    monkeypatch.setattr(hosts, "POLL", 0.0)

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
    "INTERNAL: Barrier failed because: UNAVAILABLE: Task 1 heartbeat timeout",
    "DEADLINE_EXCEEDED: Barrier timed out. Id: save_start"])  # of Orbax, which has less patience
def test_a_host_that_is_gone_is_told_from_other_faults(on_hosts, text):
    def call(index):
        with agreement.losing():
            raise ValueError(text)

    (error,) = on_hosts(1, call)
    assert isinstance(error, HostLost) and error.exit_code == 75
    with pytest.raises(ValueError, match="all-reduce|Barrier"):
        call(0)


@pytest.mark.parametrize("wait", [lambda: agreement.barrier("x"), lambda: agreement.from_first("x", list)],
                         ids=["barrier", "from_first"])
def test_hosts_that_do_not_come_in_an_hour_are_a_fault(on_hosts, monkeypatch, wait):
    def late(self, name, timeout):
        raise jax.errors.JaxRuntimeError(f"DEADLINE_EXCEEDED: {name} timed out after {timeout} ms")

    monkeypatch.setattr(Store, "wait_at_barrier", late)
    monkeypatch.setattr(Store, "blocking_key_value_get", late)
    error = on_hosts(2, lambda index: index and wait())[1]
    assert type(error) is HostsError and str(error) == "not all of 2 hosts came within 3600 s"


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


def test_a_difference_that_no_field_shows_is_told(on_hosts, monkeypatch):
    monkeypatch.setattr(preflight.configs, "config_hash", lambda tree: f"hash {hosts.team().config.index // 2}")
    errors = compare(on_hosts)
    assert set(map(str, errors)) == {"hosts differ: host 2 has configuration hash = 'hash 1', host 0 has 'hash 0'"}


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


# Shared folders and devices.

def test_hosts_that_share_no_checkpoints_are_refused(on_hosts, tmp_path):
    folders = [tmp_path / name / "checkpoints" for name in ("a", "a", "b")]
    assert on_hosts(2, lambda index: start.check_shared(folders[index])) == [None, None]
    errors = on_hosts(3, lambda index: start.check_shared(folders[index]))
    line = (f"host 2 does not see the checkpoints of host 0 in {folders[0]}; "
            "--out or --checkpoints must be a folder that all hosts share")
    assert [type(error) for error in errors] == [HostsError] * 3 and str(errors[0]) == line
    assert list(tmp_path.rglob("hosts")) == []  # the mark is taken away


@pytest.mark.parametrize(("used", "kinds", "error", "line"), [
    ([0, 1], ["v5e", "v5e"], None, None),
    ([0, 0], ["v5e", "v5e"], ConfigError,
     "hosts differ: host 1 has no device in the mesh (2,); the hosts have 2 devices in all"),
    ([0, 1], ["v5e", "v4"], HostsError, "hosts differ: host 1 has device = 'v4', host 0 has 'v5e'"),
], ids=["all", "idle", "kinds"])
def test_each_host_has_devices_of_one_kind_in_the_mesh(on_hosts, monkeypatch, used, kinds, error, line):
    devices = [types.SimpleNamespace(process_index=index, device_kind=kind) for index, kind in enumerate(kinds)]
    monkeypatch.setattr(jax, "devices", lambda: devices)
    mesh = types.SimpleNamespace(devices=np.array([devices[index] for index in used]))
    for found in on_hosts(2, lambda index: preflight.check_devices(mesh)):
        assert (type(found), str(found)) == (error, line) if error else found is None


# Last words.

@pytest.mark.parametrize(("state", "held"), [("finished", True), ("diverged", True), ("running", False)])
def test_a_run_that_has_ended_or_is_anothers_is_left_alone(monkeypatch, state, held):
    def check():
        if not held:
            raise record.LeaseLost("another process has it")

    monkeypatch.setattr(record, "summarise", lambda folder: types.SimpleNamespace(status={"state": state}))
    monkeypatch.setattr(record, "set_status", lambda *_, **__: pytest.fail("written"))
    job, hold = types.SimpleNamespace(folder="run"), types.SimpleNamespace(check=check)
    assert loop._record_end(job, hold, "host 1: no space left", 1) == "failed"


@pytest.mark.parametrize(("code", "state"), [(hosts.PREEMPTED, "preempted"), (1, "failed"), (2, "failed")])
def test_what_another_host_met_is_recorded_as_it_was(monkeypatch, code, state):
    said, team = [], hosts.Team(config=HostsConfig(coordinator="here:1", count=2, index=0), client=None, caller=None)
    monkeypatch.setattr(hosts, "_team", team)
    monkeypatch.setattr(hosts, "_ending", threading.Lock())
    monkeypatch.setattr(hosts.os, "_exit", lambda code: said.append(code))
    monkeypatch.setattr(hosts.threading, "Timer", lambda *_: types.SimpleNamespace(start=lambda: None))
    monkeypatch.setattr(record, "summarise", lambda folder: types.SimpleNamespace(status={"state": "running"}))
    monkeypatch.setattr(record, "set_status", lambda folder, state, reason: said.append((state, reason)))
    job, hold = types.SimpleNamespace(folder="run"), types.SimpleNamespace(check=lambda: None)
    with hosts.last_words(lambda line, code: loop._record_end(job, hold, line, code)):
        hosts._end("host 1: no space left", code)
    assert said == [(state, "host 1: no space left"), code]


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
    (("a..b:99", 2, 0), {}, "coordinator = 'a..b:99': must be HOST:PORT"),
    (("a:1", 2, None), {"JAXLM_HOST_INDEX": "one"}, "JAXLM_HOST_INDEX = 'one': must be a whole number"),
], ids=str)
def test_wrong_flags(flags, environment, line):
    with pytest.raises(ConfigError) as error:
        hosts_config(*flags, environment=environment)
    assert str(error.value).startswith(line)


@pytest.mark.parametrize("timeout", [0.0, -1.0, 1e10, float("inf"), float("nan")])
def test_hosts_are_waited_for_a_day_at_most(timeout):
    with pytest.raises(ConfigError) as error:
        hosts_config("a:1", 2, 0, timeout=timeout)
    assert str(error.value) == f"host-timeout = {timeout}: must lie in 0..86400 seconds, 0 excluded"


def test_wrong_flags_end_the_command(capsys):
    assert main(["train", "quickstart:x", "--coordinator", "127.0.0.1:1"]) == 2
    assert capsys.readouterr().err.startswith("jaxlm: --hosts: needed too")


def test_a_coordinator_that_does_not_answer():
    with pytest.raises(HostsError, match=r"^coordinator 127\.0\.0\.1:1: does not answer within 0\.1 s \(Connection "
                                         r"refused\); host 0 of 2 must run there$"):
        hosts.initialize(HostsConfig(coordinator="127.0.0.1:1", count=2, index=1, timeout=0.1))
