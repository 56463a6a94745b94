"""Two processes and one run on a local S3 server: refused, killed, taken over, and every row once."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from scaling import record
from scaling.errors import InputError

BEAT = "1"  # seconds: a holder may be silent for 3 s, more than a loaded machine makes it wait

WRITER = """
import itertools, json, sys, time
import numpy as np
from scaling import record
folder, identity = sys.argv[1], json.loads(sys.argv[2])
with record.run_lock(folder) as hold:
    record.create(folder, identity, np.full(4000, 1e-3), {})
    attempt = record.start_attempt(folder, {})
    for first in itertools.count(0, 2):
        hold.check()
        pair = [{"step": step, "tokens": 64 * (step + 1), "train_loss": 3 - step / 7000}
                for step in (first, first + 1)]
        record.write_segment(folder, attempt, pair)
        print(first, flush=True)
        time.sleep(0.1)
"""


def identity():
    return {
        "name": "a", "study": "", "seed": 0, "parent": None, "config": {}, "config_hash": "0",
        "params": {"total": 3, "non_embedding": 1, "with_head": 2}, "tokens_per_update": 64,
        "flops_per_token": {}, "corpus": {"name": "x", "digest": "0"}, "loss_unit": "nats/token",
        "bytes_per_token": None,
    }


def rows(first, last):
    steps = range(first, last)
    return [{"step": step, "tokens": 64 * (step + 1), "train_loss": 3 - step / 7000} for step in steps]


def test_the_second_process_is_refused_and_takes_over_when_the_first_is_killed(store, monkeypatch):
    monkeypatch.setenv("SCALING_LEASE_BEAT", BEAT)
    folder = f"{store}/runs/a"
    command = [sys.executable, "-c", WRITER, folder, record.files.to_json(identity(), "identity")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            process.stdout.readline()
            with pytest.raises(InputError, match=rf"^run = 'a': another process.*, pid {process.pid}\)$"):
                with record.run_lock(folder):
                    pass
            assert record.is_held(folder)
            sizes = []
            while len(sizes) < 8:  # a reader beside the writer sees whole rows, more and more of them
                run = record.read(folder)
                sizes.append(run.metrics["step"].size)
                assert run.notes == () and run.metrics["step"].tolist() == list(range(sizes[-1]))
            assert sizes == sorted(sizes) and sizes[-1] > sizes[0]
        finally:
            process.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    with record.run_lock(folder) as hold:
        waited = time.monotonic() - killed
        # The beat of the dead may have been up to a second old; its patience is 6 seconds.
        assert 6.0 <= waited < 40.0
        done = record.read(folder).metrics["step"].size
        attempt = record.start_attempt(folder, {})
        hold.check()
        record.write_segment(folder, attempt, rows(done - 2, done + 4))
        record.set_status(folder, "preempted", "enough")
    assert not record.is_held(folder)
    run = record.read(folder)
    assert [entry["attempt"] for entry in run.attempts] == [0, 1] and run.notes == ()
    assert run.metrics["step"].tolist() == list(range(done + 4))
    np.testing.assert_array_equal(run.metrics["train_loss"], [row["train_loss"] for row in rows(0, done + 4)])
    assert [str(found) for found in record.find(store)] == [folder]
    with record.run_lock(folder):  # released: at once
        assert time.monotonic() - killed < 80.0


def test_the_bucket_must_be_there(store):
    with pytest.raises(InputError, match="^root = 's3://nowhere/runs': no such folder$"):
        record.find("s3://nowhere/runs")
    with pytest.raises(OSError, match="bucket does not exist.*'s3://nowhere/a/schedule.npy'$") as caught:
        record.create("s3://nowhere/a", identity(), np.ones(2), {})
    assert "\n" not in str(caught.value)
