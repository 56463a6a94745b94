"""What each host of a pod runs for a whole study: the runs that `jaxlm study --executor emit` wrote down, in order.

    python -m jaxlm.launch.work URL/STUDY/emit/runs.jsonl

All hosts read the records once, when nothing trains yet, and so agree on the order without talking: runs that ended
are left out, runs recorded as failed come last, with what starts from them. Each run is a process of its own. One
that ends with another code than 0 or 3 (diverged) is started again a few times, for its hosts may have lost one
another; then the work ends with that code, and whatever started it starts it again, or not. A branch of a run that
diverged before it is skipped: the branch alone knows whether its checkpoint is there, and ends with 2 where it is not.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jaxlm.config import ConfigError, require
from jaxlm.launch.progress import ENDED, recorded
from scaling.errors import InputError
from scaling.record import files

MISTAKE, DIVERGED, PREEMPTED = 2, 3, 75


def main(argv: list[str] | None = None) -> int:
    """Trains what is left and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m jaxlm.launch.work", description=__doc__.partition("\n")[0])
    parser.add_argument("runs", help="runs.jsonl, a path or URL")
    parser.add_argument("--starts", type=int, default=3, help="how often a run is started in a row (default: 3)")
    parser.add_argument("--pause", type=float, default=10.0, help="seconds between two starts (default: 10)")
    args = parser.parse_args(argv)
    try:
        require(args.starts >= 1, "starts", args.starts, "must be at least 1")
        path = files.folder(args.runs)
        lines = read_runs(path)
        # The records lie beside the folder `emit`.
        found = recorded(path.parent.parent, {name for line in lines for name in (line["run"], *origins(line))})
    except (ConfigError, InputError) as error:
        print(f"work: {error}", file=sys.stderr)
        return MISTAKE
    stop = _Stop()
    states = {name: summary.status["state"] for name, summary in found.items()}
    todo, short = ordered(lines, states), {name for name, state in states.items() if state == "diverged"}
    print(f"work: {len(todo)} of {len(lines)} runs are left", flush=True)
    for line in todo:
        code = _train(line, stop, starts=args.starts, pause=args.pause)
        if stop.asked:
            return PREEMPTED
        if code == DIVERGED:
            short.add(line["run"])
        elif code == MISTAKE and short & origins(line):
            short.add(line["run"])
            print(f"work: {line['run']} is skipped, for {', '.join(short & origins(line))} stopped short", flush=True)
        elif code:
            print(f"work: {line['run']} ended with {code}", file=sys.stderr)
            return code
    return 0


def read_runs(path: files.AnyPath) -> list[dict[str, Any]]:
    """Returns the lines of runs.jsonl; raises `InputError` where it is absent or no such file."""
    try:
        lines = [json.loads(line) for line in files.read_bytes(path).splitlines()]
        for line in lines:
            line["run"], line["command"], line["after"], line["environment"]
    except FileNotFoundError:
        raise InputError(f"runs = {str(path)!r}: no such file; `jaxlm study --executor emit` writes it") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"runs = {str(path)!r}: not what `jaxlm study --executor emit` writes") from None
    return lines


def origins(line: Mapping[str, Any]) -> set[str]:
    """Returns the run whose checkpoint a run starts from, whether that is still to be trained or not."""
    return {*line["after"], *([line["checkpoint"]["run"]] if line.get("checkpoint") else [])}


def ordered(lines: Iterable[Mapping[str, Any]], states: Mapping[str, str]) -> list[Mapping[str, Any]]:
    """Returns the runs that have not ended, in their order, but failed ones and what starts from them last."""
    left = [line for line in lines if states.get(line["run"]) not in ENDED]
    behind: set[str] = set()
    for line in left:  # parents stand before their branches
        if states.get(line["run"]) == "failed" or behind & set(line["after"]):
            behind.add(line["run"])
    return sorted(left, key=lambda line: line["run"] in behind)


class _Stop:
    """Passes SIGTERM and Ctrl-C on to the run in hand, and remembers."""

    def __init__(self) -> None:
        self.asked = False
        self.process: subprocess.Popen | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: object) -> None:
        self.asked = True
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)


def _train(line: Mapping[str, Any], stop: _Stop, *, starts: int, pause: float) -> int:
    """Starts the run until it ends, at most `starts` times; returns the last exit code."""
    code = PREEMPTED
    for start in range(starts):
        if start:
            time.sleep(pause)
        if stop.asked:
            return PREEMPTED
        program, *words = line["command"]
        print(f"work: {line['run']}", flush=True)
        stop.process = subprocess.Popen([_program(program), *words], env=os.environ | line["environment"])
        code = stop.process.wait()
        if code in (0, MISTAKE, DIVERGED) or stop.asked:
            return code
    return code if code > 0 else 1  # a signal has a negative code


def _program(name: str) -> str:
    """The program of that name in the environment of this interpreter, where it is."""
    own = Path(sys.executable).parent / name
    return str(own) if own.exists() else name


if __name__ == "__main__":
    sys.exit(main())
