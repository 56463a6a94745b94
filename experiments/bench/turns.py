"""Processes that make training steps when told to, and their times by turns; the standard library only.

A process reads a line "updates" for each call and answers with a JSON line. The parent never imports JAX, for a child's
peak memory starts at that of the process it left.
"""

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Figures = dict[str, Any]


class Failed(RuntimeError):
    """A process could not make its step; says why."""


class Child:
    """The process of one contestant; `ask` makes updates in it, and the first of them starts it up."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], name: str) -> None:
        self.name, self._started = name, time.perf_counter()
        # On a GPU the first child would otherwise take the memory of the second.
        environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | environment
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                         env=environment)

    def ask(self, updates: int = 1) -> Figures:
        """Makes `updates` in one call and returns the answer; raises `Failed` where none comes."""
        try:
            print(updates, file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise Failed(f"the process of {self.name} ended with exit code {self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def first_step(self) -> Figures:
        """Makes the first update; "process_seconds" counts from the start of the process."""
        answer = self.ask()
        return answer | {"process_seconds": time.perf_counter() - self._started}

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def take(children: Mapping[str, Child], *, rounds: int, updates: int = 1,
         report: Callable[[int], None] = lambda number: None) -> dict[str, list[Figures]]:
    """Returns the means over `updates` single updates of each child's turn in each round.

    Each round begins with another child, so that nobody always comes right after the same one.
    """
    for _ in range(2):  # the second and third step still grow the heap
        for child in children.values():
            child.ask()
    names, turns = list(children), {name: [] for name in children}
    for number in range(rounds):
        at = number % len(names)
        for name in names[at:] + names[:at]:
            answers = [children[name].ask() for _ in range(updates)]
            turns[name].append({key: statistics.fmean(answer[key] for answer in answers)
                                for key in ("seconds", "cpu_seconds", "faults") if key in answers[0]})
        report(number)
    return turns


def summary(turns: Sequence[Figures]) -> dict[str, Figures]:
    """Returns {"median": ..., "minimum": ...}, each a figure for every key."""
    return {name: {key: rule(turn[key] for turn in turns) for key in turns[0]}
            for name, rule in (("median", lambda values: statistics.median(list(values))), ("minimum", min))}


def ratios(over: Sequence[Figures], under: Sequence[Figures], key: str = "seconds") -> Figures:
    """Returns `over` / `under`: of medians, of minima, and of pairs within a round with their quartiles and range."""
    pairs = [one[key] / other[key] for one, other in zip(over, under, strict=True)]
    low, middle, high = statistics.quantiles(pairs, n=4, method="inclusive") if len(pairs) > 1 else pairs * 3
    above, below = summary(over), summary(under)
    return {"medians": above["median"][key] / below["median"][key],
            "minima": above["minimum"][key] / below["minimum"][key],
            "paired": middle, "quartiles": [low, high], "range": [min(pairs), max(pairs)]}
