"""Starts the hosts of a run as processes on this machine, and reads how they ended."""

import contextlib
import pathlib
import socket
import time

from processes import PINNED, start

PATIENCE = 400  # seconds; a few are enough where the machine has nothing else to do
STUDY = pathlib.Path(__file__).parent / "hosts_study.py"
# One host with as many devices as its flags force: goes on with the first run, and makes the second anew.
ALONE = PINNED + """
from jaxlm.cli import main
target, *outs = sys.argv[1:]
sys.exit(max([main(["train", target, "--out", out]) for out in outs]))
"""


def free_port():
    """Returns a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_hosts(run, *, out, cache, hosts, each=lambda index: (), timeout=PATIENCE):
    """Starts hosts 0..hosts-1 of a run; `each(index)` are further words for one of them."""
    coordinator = f"127.0.0.1:{free_port()}"
    return [start("train", f"{STUDY}:{run}", "--out", out, "--coordinator", coordinator, "--hosts", hosts,
                  "--host-index", index, "--host-timeout", timeout, *each(index), cache=cache)
            for index in range(hosts)]


def start_alone(run, *outs, cache, devices):
    """Trains a run in each of the folders, one after the other in one process with forced devices."""
    return start(f"{STUDY}:{run}", *outs, cache=cache, program=ALONE,
                 flags=f"--xla_force_host_platform_device_count={devices}")


def await_checkpoint(out, run, processes):
    """Waits until a checkpoint of a run is committed."""
    deadline = time.monotonic() + PATIENCE
    while not [path for path in (out / "hosts").glob(f"{run}-*/checkpoints/*") if path.name.isdecimal()]:
        assert time.monotonic() < deadline, "no checkpoint"
        for process in processes:
            assert process.poll() is None, process.communicate()[1][-3000:]
        time.sleep(0.005)


def finish_all(processes):
    """Waits for all; returns exit codes, and what they wrote: standard output and error together."""
    texts = ["".join(process.communicate(timeout=PATIENCE)) for process in processes]
    return [process.returncode for process in processes], texts


@contextlib.contextmanager
def ending(processes):
    """Yields the processes and leaves none of them behind."""
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()
