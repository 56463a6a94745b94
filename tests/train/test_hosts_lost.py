"""Hosts that are killed, fail or never come: the others end with a line, and any number goes on."""

import signal

import numpy as np
import pytest
from hosts_processes import STUDY, await_checkpoint, ending, finish_all, free_port, start_hosts
from processes import PINNED, runs_of, start

pytestmark = pytest.mark.slow

PREFLIGHT = PINNED + """
import time
from jaxlm import data
from jaxlm.sweep import load_study
from jaxlm.train import agreement, hosts
from jaxlm.train.preflight import preflight

study, root, coordinator, count, index = sys.argv[1:]
config = load_study(study).run("long")
dataset = data.open_dataset(config.data, root)
with hosts.joined(hosts.HostsConfig(coordinator=coordinator, count=int(count), index=int(index), timeout=400),
                  lambda error: (1, repr(error))):
    agreement.barrier("started")
    began = time.perf_counter()
    preflight(config, [dataset])
    print("seconds:", time.perf_counter() - began)
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("xla")


def go_on(out, cache, *, hosts, words):
    """Trains the long run a little further with so many hosts; returns its record."""
    with ending(start_hosts("long", out=out, cache=cache, hosts=hosts, each=lambda index: words)) as processes:
        codes, texts = finish_all(processes)
    assert codes == [75] * hosts, texts
    return runs_of(out / "hosts")["long"], texts[0]


def test_a_killed_host_ends_all_and_two_or_one_go_on(tmp_path, cache):
    out = tmp_path / "lost"
    with ending(start_hosts("long", out=out, cache=cache, hosts=4)) as processes:
        await_checkpoint(out, "long", processes)
        processes[2].kill()
        codes, texts = finish_all(processes)
    assert codes == [75, 75, -signal.SIGKILL, 75], texts
    line = "jaxlm: lost one of 4 hosts, or the coordinator 127.0.0.1:"
    assert all(line in text for index, text in enumerate(texts) if index != 2), texts
    run = runs_of(out / "hosts")["long"]
    assert run.state == "preempted" and "lost one of 4 hosts" in run.status["reason"]

    saved = max(int(path.name) for path in (run.folder / "checkpoints").glob("[0-9]*[0-9]"))
    run, text = go_on(out, cache, hosts=2, words=("--mesh.data=1", "--stop-at", saved + 12))
    assert run.attempts[1]["first_step"] == saved and "hosts: 4 before, 2 now" in " ".join(text.split())
    run, text = go_on(out, cache, hosts=1, words=("--mesh.data=1", "--mesh.fsdp=1", "--stop-at", saved + 24))
    assert "hosts: 2 before, 1 now" in " ".join(text.split())

    whole, _ = go_on(tmp_path / "whole", cache, hosts=1, words=("--mesh.data=1", "--mesh.fsdp=1", "--stop-at", saved + 24))
    for name in ("train_loss", "grad_l2", "param_rms"):
        # The same float32 sums in another order, over some forty updates.
        np.testing.assert_allclose(run.metrics[name], whole.metrics[name], rtol=1e-3, err_msg=name)


def test_damage_that_one_host_meets_sends_all_to_the_checkpoint_before(tmp_path, cache):
    # Wide enough for Orbax to leave the values of each host in files of its own.
    words = ("--mesh.data=1", "--model.width=64", "--model.ff=64", "--stop-at")
    go_on(tmp_path, cache, hosts=2, words=(*words, 48))
    newest = next((tmp_path / "hosts").glob("long-*/checkpoints/48/default"))
    for file in (newest / "ocdbt.process_1").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    run, text = go_on(tmp_path, cache, hosts=2, words=(*words, 52))
    (damaged,) = run.attempts[1]["damaged_checkpoints"]
    assert damaged["step"] == 48 and "checkpoint 48" in damaged["reason"]
    assert run.attempts[1]["first_step"] == 40 and "going on from update 40" in " ".join(text.split())
    np.testing.assert_array_equal(run.metrics["step"], np.arange(52))


def test_without_the_coordinator_the_others_end(tmp_path, cache):
    with ending(start_hosts("short", out=tmp_path, cache=cache, hosts=2)) as processes:
        await_checkpoint(tmp_path, "short", processes)
        processes[0].kill()
        codes, texts = finish_all(processes)
    assert codes == [-signal.SIGKILL, 75] and "jaxlm: lost one of 2 hosts" in texts[1], texts


def test_the_mistake_of_one_host_is_told_by_all(tmp_path, cache):
    with ending(start_hosts("short", out=tmp_path, cache=cache, hosts=2,
                            each=lambda index: ("--mesh.fsdp=3",) if index else ())) as processes:
        codes, texts = finish_all(processes)
    assert codes == [2, 2], texts
    assert "jaxlm: batch = 16: each of the 2 micro-batches" in texts[1]
    assert "jaxlm: host 1: batch = 16: each of the 2 micro-batches" in texts[0]


def test_hosts_that_do_not_come(tmp_path, cache):
    def alone(index, hosts, timeout):
        return start("train", f"{STUDY}:short", "--out", tmp_path, "--coordinator", coordinator, "--hosts", hosts,
                     "--host-index", index, "--host-timeout", timeout, cache=cache)

    coordinator = f"127.0.0.1:{free_port()}"
    # The third of three comes to a meeting of two.
    with ending([alone(0, 2, 60), alone(2, 3, 60)]) as processes:
        codes, texts = finish_all(processes)
    assert codes == [1, 1], texts
    assert f"jaxlm: coordinator {coordinator}: not all of 2 hosts came within 60 s; this is host 0" in texts[0]
    assert f"jaxlm: coordinator {coordinator}: did not let host 2 of 3 in" in texts[1]


def test_a_host_with_another_configuration_is_named(tmp_path, cache):
    other = ("--data.seed=1", "--stop-at", "8")
    with ending(start_hosts("short", out=tmp_path, cache=cache, hosts=2,
                            each=lambda index: other if index else ())) as processes:
        codes, texts = finish_all(processes)
    line = "jaxlm: hosts differ: host 1 has --stop-at = 8, host 0 has None; host 1 has data.seed = 1, host 0 has 0; "
    assert codes == [2, 2] and all(line in text for text in texts), texts
    assert not (tmp_path / "hosts").exists()


def test_preflight_of_four_processes_takes_less_than_five_seconds(tmp_path, cache, capsys):
    coordinator = f"127.0.0.1:{free_port()}"
    with ending([start(STUDY, tmp_path, coordinator, 4, index, cache=cache, program=PREFLIGHT)
                 for index in range(4)]) as processes:
        codes, texts = finish_all(processes)
    assert codes == [0] * 4, texts
    seconds = [float(text.split("seconds:")[1].split()[0]) for text in texts]
    with capsys.disabled():
        print(f"\npreflight of 4 processes: {max(seconds):.2f} s")
    assert max(seconds) < 5
