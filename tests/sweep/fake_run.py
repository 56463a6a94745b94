"""Stands in for `jaxlm train` in the tests of executors: keeps a record and ends as it is told, one word a start.

    python fake_run.py ROOT RUN STEPS WORD ...        finished, diverged, failed, preempted, mistake, killed, wait
"""

import os
import pathlib
import signal
import sys
import time

import numpy as np

from scaling import record

CODES = {"finished": 0, "diverged": 3, "failed": 1, "preempted": 75}


def main(root: str, run: str, steps: str, *words: str) -> int:
    """Makes one start; returns the exit code."""
    folder = pathlib.Path(root) / run
    record.create(folder, {
        "name": run, "study": "s", "seed": 0, "parent": None, "config": {}, "config_hash": "0" * 8,
        "params": {"total": 1, "non_embedding": 1, "with_head": 1}, "tokens_per_update": 64,
        "flops_per_token": {"head": 1},
        "corpus": {"name": "made", "digest": "0"}, "loss_unit": "nats/token", "bytes_per_token": None},
        np.ones(int(steps)), {})
    with record.run_lock(folder):
        word = words[min(record.start_attempt(folder, {"host": "here"}), len(words) - 1)]
        if word == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if word == "wait":
            told = []
            signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
            (folder / "waiting").touch()
            while not told:
                time.sleep(0.05)
            word = "preempted"
        if word == "finished":
            for step in (12, int(steps)):
                (folder / "checkpoints" / str(step)).mkdir(parents=True, exist_ok=True)
        result = {"updates": int(steps), "tokens": 64, "heldout_loss": 1.0, "params_digest": "0"}
        record.set_status(folder, word, reason=None if word == "finished" else f"told: {word}",
                          result=result if word == "finished" else None)
        return CODES[word]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
