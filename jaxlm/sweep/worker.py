"""A process of the local pool: trains the runs it is handed, one after another, on one core.

It reads a JSON line per run from standard input and writes JSON lines about its progress to standard
output; closing its input, SIGTERM or SIGINT make it save the run in hand and end.
"""

import argparse
import json
import os
import signal
import sys
import threading
import typing
from pathlib import Path
from typing import Any

from jaxlm import allocator

# Seconds for which a worker of a pool that was killed may still hold the run it has in hand.
ORPHANS = 60.0


def main() -> int:
    """Runs the worker until its input closes; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--core", type=int, help="pin the process to this core")
    parser.add_argument("--root", type=Path, required=True, help="the study's folder")
    parser.add_argument("--data", type=Path, required=True, help="where prepared tokens lie")
    parser.add_argument("--allocator", choices=typing.get_args(allocator.Allocator), default="auto",
                        help="whether freed memory is kept, see jaxlm.allocator")
    args = parser.parse_args()
    # The package has imported JAX by now; what counts is that no thread has asked for an arena of its own yet.
    allocator.choose(args.allocator)
    # Pinned before JAX starts, which sizes its thread pool by the cores it may use.
    if args.core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {args.core})
    stop = _Stop()
    runs = _read_lines(stop)
    while (line := runs()) is not None:
        _train(json.loads(line), args.root, args.data, stop)
        if stop.reason:
            break
    return 0


class _Stop:
    """The reason to stop, set by a signal or by the end of input, read between chunks."""

    def __init__(self) -> None:
        self.reason: str | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, frame: self.set(signal.Signals(number).name))

    def set(self, reason: str) -> None:
        self.reason = self.reason or reason

    def __call__(self) -> str | None:
        return self.reason


def _read_lines(stop: _Stop) -> Any:
    """Returns a function that waits for the next line; a thread reads, so that the end of input is seen."""
    import queue

    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        stop.set("the pool ended")
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()

    def next_line() -> str | None:
        while not stop():
            try:
                return lines.get(timeout=0.2)
            except queue.Empty:
                continue
        return None

    return next_line


def _train(job: dict[str, Any], root: Path, data_root: Path, stop: _Stop) -> None:
    from jaxlm.config import ConfigError, from_dict
    from jaxlm.train import RunConfig, train
    from scaling.errors import InputError

    def report(progress: Any) -> None:
        _say(event="progress", step=progress.step, loss=progress.loss, note=progress.note)

    try:
        config = from_dict(RunConfig, job["run"])
        outcome = train(config, root, data_root, stop=stop, wait=ORPHANS, mirrors=job["mirrors"],
                        report=report, study=job["study"])
        _say(event="done", status=outcome.status, loss=outcome.heldout_loss, reason=outcome.reason)
    except (ConfigError, InputError) as error:
        _say(event="done", status="failed", loss=None, reason=str(error), mistake=True)
    except Exception as error:  # a run must not take the worker, and the runs after it, down
        import traceback

        traceback.print_exc()
        _say(event="done", status="failed", loss=None, reason=f"{type(error).__name__}: {error}")


def _say(**message: Any) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    sys.exit(main())
