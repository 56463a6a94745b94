"""One process per run folder: the file lock between real processes, and the lease in its place."""

import errno
import fcntl
import json
import os
import platform
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from scaling import record
from scaling.errors import InputError
from scaling.record import files, lock
from scaling.record.lease import Timing

FIXTURE = Path(__file__).parent / "fixtures" / "v1"
NEW = (json.loads((FIXTURE / "run.json").read_text())["identity"], np.ones(2), {})
QUICK = Timing(beat=0.05, patience=0.5)

HOLDER = """
import sys
from scaling import record
with record.run_lock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def start_holder(folder):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def wait_for_beats(folder, beats):
    """Content of the first generation once it has beaten so often."""
    deadline = time.monotonic() + 20
    while (content := json.loads(files.read_bytes(folder / "lease" / "0.json")))["beats"] < beats:
        assert time.monotonic() < deadline, content
        time.sleep(0.02)
    return content


def unsupported(*_):
    raise OSError(errno.ENOLCK, "No locks available")


def test_another_process_is_named_and_its_death_frees_the_folder(tmp_path):
    folder = tmp_path / "run-a"
    with start_holder(folder) as process:
        who = rf"^run = 'run-a': another process is writing it \({platform.node()}, pid {process.pid}\)$"
        with pytest.raises(InputError, match=who), record.run_lock(folder):
            pass
        assert record.is_held(folder)
        # It takes a while to end: killed while this process waits.
        threading.Timer(0.8, process.kill).start()
        with record.run_lock(folder, wait=10.0) as hold:
            assert process.wait() == -9
            hold.check()
            assert record.is_held(folder)
    assert not record.is_held(folder)


def test_a_reader_that_looks_for_an_instant_is_waited_for(tmp_path):
    with record.run_lock(tmp_path):
        pass
    with open(tmp_path / "lock") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        threading.Timer(0.2, fcntl.flock, (reader, fcntl.LOCK_UN)).start()
        with record.run_lock(tmp_path):
            pass


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(tmp_path):
    leftovers = [".run.json.4242.tmp", "metrics/.0-2.jsonl.4242.tmp"]
    others = [".run.json.tmp", "notes.12.tmp", "checkpoints/5/.x.7.tmp", "run.json", "metrics/0-0.jsonl"]
    for name in leftovers + others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    with record.run_lock(tmp_path):
        assert not any((tmp_path / name).exists() for name in leftovers)
        assert all((tmp_path / name).exists() for name in others)


def test_a_folder_that_cannot_be_written_says_so(tmp_path, monkeypatch):
    def read_only(path, mode="r", *_, **__):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr("builtins.open", read_only)
    with pytest.raises(OSError, match="Read-only file system: '.*lock'"), record.run_lock(tmp_path):
        pass


@pytest.mark.parametrize("call", [lambda folder: record.run_lock(folder).__enter__(),
                                  lambda folder: record.create(folder, *NEW)], ids=["lock", "create"])
def test_a_folder_of_somebody_else_says_so(tmp_path, call):
    tmp_path.chmod(0o555)
    privileged = os.geteuid() == 0
    if privileged:
        os.seteuid(65534)  # the permissions of a folder do not hold for root
    try:
        with pytest.raises(PermissionError, match="Permission denied: '.*run-a"):
            call(tmp_path / "run-a")
    finally:
        if privileged:
            os.seteuid(0)


@pytest.mark.parametrize("missing", ["flock", "fcntl"])
def test_without_a_file_lock_the_lease_serves(tmp_path, monkeypatch, missing):
    if missing == "flock":
        monkeypatch.setattr(fcntl, "flock", unsupported)
    else:
        monkeypatch.setattr(lock, "fcntl", None)
    folder = tmp_path / "run-a"
    with record.run_lock(folder, timing=QUICK) as hold:
        hold.check()
        assert record.is_held(folder)
        with pytest.raises(InputError, match="another process is writing it"):
            record.run_lock(folder, timing=QUICK).__enter__()
    assert not record.is_held(folder)
    with record.run_lock(folder, timing=QUICK):
        assert files.names(folder / "lease") == ["0.json", "1.json"]


def test_the_lease_beats_while_it_is_held_and_is_released():
    folder = files.folder("memory://beating/run-a")

    with record.run_lock(folder, timing=QUICK):
        assert not wait_for_beats(folder, 3)["released"]
    assert wait_for_beats(folder, 3)["released"] and not record.is_held(folder)
    assert not [thread for thread in threading.enumerate() if thread.name == "lease of run-a"]
    folder.fs.store.clear()


def test_the_lease_is_released_when_the_run_fails():
    folder = files.folder("memory://failing/run-a")
    with pytest.raises(KeyError), record.run_lock(folder, timing=QUICK):
        raise KeyError
    assert not record.is_held(folder)
    folder.fs.store.clear()


def test_a_failed_beat_is_missed_and_not_the_end(monkeypatch):
    folder = files.folder("memory://beats/run-a")
    replace, failures = files.replace_atomically, []

    def now_and_then(path, data):
        if len(failures) < 2:
            failures.append(path)
            raise OSError("no route")
        replace(path, data)

    with record.run_lock(folder, timing=Timing(beat=0.05, patience=60.0)) as hold:
        monkeypatch.setattr(files, "replace_atomically", now_and_then)
        deadline = time.monotonic() + 20
        while len(failures) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(failures) == 2
        wait_for_beats(folder, 3)
        hold.check()
    folder.fs.store.clear()
