"""A run on processes that are killed at random: kept going, it ends as the one that was left alone."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

import pytest
from golden_jobs import SPOT, run_job

from jaxlm.launch.babysit import Policy, QueuedResources, babysit
from jaxlm.launch.progress import read_progress
from jaxlm.sweep import load_study
from scaling import record

ROOT = pathlib.Path(__file__).resolve().parents[2]
STUDY = str(pathlib.Path(__file__).parent / "launch_study.py")
KILLS = 2


def words(out):
    """The command that trains the run here, on one core."""
    pinned = "import os, sys; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); " \
             "from jaxlm.cli import main; sys.exit(main())"
    return [sys.executable, "-c", pinned, "train", f"{STUDY}:spot", "--out", str(out)]


def kill_at_random(gcloud, look, killed, stop):
    """Kills the process of the request in hand, each time a while after its records have grown."""
    chance, before = random.Random(0), 0
    while len(killed) < KILLS and not stop.is_set():
        time.sleep(0.05)
        updates = look().updates
        if updates <= before:
            continue
        time.sleep(chance.uniform(0, 0.3))
        for path in (gcloud.home / "requests").glob("*.json"):
            try:
                os.kill(json.loads(path.read_text())["pid"], signal.SIGKILL)
            except (OSError, ValueError):
                continue
            killed.append(updates)
            before = updates


@pytest.mark.slow
def test_killed_at_random_it_ends_as_the_run_that_was_left_alone(gcloud, tmp_path, monkeypatch):
    environment = {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "xla"), "PYTHONPATH": str(ROOT),
                   "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
                   "FAKE_GCLOUD_COMMAND": json.dumps(words(tmp_path / "spot"))}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run(words(tmp_path / "alone"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run = load_study(STUDY).runs[0]
    killed, stop = [], threading.Event()
    look = lambda: read_progress(tmp_path / "spot" / "spots", [run])  # noqa: E731
    killer = threading.Thread(target=kill_at_random, args=(gcloud, look, killed, stop))
    killer.start()
    cloud = QueuedResources(job=run_job("v5e-16"), options=SPOT, ended=lambda folder, created: None)
    policy = Policy(attempts=5, delay=0.1, longest=1, stall=300, poll=0.3)
    said = []
    try:
        decision, progress = babysit(cloud, look, policy, say=said.append)
    finally:
        stop.set()
        killer.join()
    assert decision.phase == "finished" and progress.pending == 0, said
    alone, spot = (record.read(tmp_path / name / "spots" / run.folder) for name in ("alone", "spot"))
    assert record.equal(alone, spot) == [] and spot.notes == ()
    assert spot.result["params_digest"] == alone.result["params_digest"]
    assert killed and len(spot.attempts) >= 2, (killed, said)  # the last may come as the run ends
    assert 2 <= len(gcloud.calls("create")) <= len(killed) + 1 and gcloud.requests() == {}
