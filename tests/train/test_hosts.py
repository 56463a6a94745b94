"""Two hosts on this machine, in processes of their own, against one process with two devices."""

import signal

import numpy as np
import pytest
from hosts_processes import await_checkpoint, ending, finish_all, start_alone, start_hosts
from processes import runs_of

from scaling import record


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("xla")


@pytest.fixture(scope="module")
def pair(tmp_path_factory, cache):
    """(folder, exit codes, texts, attempts, status, steps) of two hosts, of which the second was told to stop."""
    out = tmp_path_factory.mktemp("pair")
    with ending(start_hosts("short", out=out, cache=cache, hosts=2)) as processes:
        await_checkpoint(out, "short", processes)
        processes[1].send_signal(signal.SIGTERM)
        codes, texts = finish_all(processes)
    run = runs_of(out / "hosts")["short"]  # read now, for a run that goes on has more of everything
    return out, codes, texts, run.attempts, run.status, run.metrics["step"]


@pytest.fixture(scope="module")
def resumed(pair, tmp_path_factory, cache):
    """(the run that one host ended, the same run by one process, text)."""
    whole = tmp_path_factory.mktemp("whole")
    with ending([start_alone("short", pair[0], whole, cache=cache, devices=2)]) as processes:
        codes, texts = finish_all(processes)
    assert codes == [0], texts
    return *(runs_of(out / "hosts")["short"] for out in (pair[0], whole)), texts[0]


def test_a_signal_to_one_host_stops_all_after_the_same_update(pair):
    _, codes, texts, _, status, steps = pair
    assert codes == [75, 75], texts
    assert status == {"state": "preempted", "reason": "SIGTERM", "result": None}
    assert 8 <= len(steps) < 80 and not len(steps) % 4
    assert all("preempted, SIGTERM" in text and "Traceback" not in text for text in texts)


def test_only_the_first_host_writes_the_record(pair):
    *_, (attempt,), _, steps = pair
    assert (attempt["hosts"], attempt["devices"], attempt["first_step"]) == (2, 2, 0)
    np.testing.assert_array_equal(steps, np.arange(len(steps)))


def test_two_hosts_equal_one_process_bit_for_bit(pair, resumed):
    run, whole, _ = resumed
    assert run.attempts[1]["first_step"] == len(pair[-1])
    # Every result field, that of the final parameters among them.
    assert record.equal(run, whole) == [] and run.notes == () and len(run.metrics["step"]) == 80


def test_another_number_of_hosts_goes_on_with_a_warning(resumed):
    run, _, text = resumed
    assert [attempt["hosts"] for attempt in run.attempts] == [2, 1]
    assert "not bit for bit: hosts: 2 before, 1 now" in " ".join(text.split())
