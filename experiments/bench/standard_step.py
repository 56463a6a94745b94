"""jaxlm's standard training step against plain JAX, torch and public JAX trainers: the same work, turn by turn.

    python experiments/bench/standard_step.py [--size S|M|L] [--dtypes float32,bfloat16] [--rounds 12] [--cores 0,1]
        [--contestants plain,jaxlm+keep] [--python torch=PYTHON] [--source nanodo=FOLDER] [--out FILE]

Each contestant lives in a process of its own, so that peak memory and the time to the first step are its own. The
processes are pinned to the same cores and take short turns of single updates, so that other load on the machine falls
on all alike. The work: the sizes of `sides.py`, AdamW, causal attention; at M 28.31 MFLOP per token. Contestants:

    plain           `plain_step.py`, activations (batch, time, width); reports the loss only
    plain flat      the same with activations (tokens, width)
    jaxlm           `jaxlm.train.make_step` with every metric of a run
    torch, torch.compile    `torch_step.py`, in the interpreter of --python torch=
    nanodo, simply, levanter    `peers.py`: the step of each, imported from --source, where that works
    NAME+keep       NAME with the allocator setting of `jaxlm/allocator.py`

The first step is timed twice: in a process that has nothing compiled, and in a second one that finds what the first
has compiled in the persistent cache. All contestants are in memory at the same time: at L several GB each.
Targets: jaxlm at least 1.7 times as fast as plain, and at most 1.05 times the time of torch.compile.
"""

import argparse
import contextlib
import dataclasses
import json
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import machine
import sides
import turns

DEFAULT = ("plain", "plain flat", "plain+keep", "jaxlm", "jaxlm+keep", "torch", "torch.compile", "torch.compile+keep",
           "nanodo", "simply", "levanter")
DTYPES = ("float32", "bfloat16")
UPDATES = {"S": 5}  # single updates in a turn; elsewhere one
# (Contestant, the other, at least so many times as fast).
TARGETS = (("jaxlm", "plain", 1.7), ("jaxlm+keep", "plain", 1.7), ("jaxlm+keep", "torch.compile", 1 / 1.05),
           ("jaxlm+keep", "torch.compile+keep", 1 / 1.05))
BASES = tuple(dict.fromkeys(["plain", "plain flat", *(other for _, other, _ in TARGETS)]))


def main() -> None:
    """Measures, prints the tables, and writes the figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sides.SIZES, default="M", help="of model and batch (default M)")
    parser.add_argument("--dtypes", type=_words, default=["float32"], help="float32 (default), bfloat16, or both")
    parser.add_argument("--contestants", type=_words, default=list(DEFAULT),
                        help="such as plain,jaxlm+keep (default: all that run here)")
    parser.add_argument("--python", type=_named, action="append", default=[], metavar="NAME=FILE",
                        help="the interpreter of torch, nanodo, simply or levanter (default: this one)")
    parser.add_argument("--source", type=_named, action="append", default=[], metavar="NAME=FOLDER",
                        help="where it is imported from")
    parser.add_argument("--rounds", type=int, default=12, help="turns of each contestant (default 12)")
    parser.add_argument("--cores", type=_cores, default=None, help="cores to pin to, such as 0,1 (default: all)")
    parser.add_argument("--out", type=Path, help="write all figures to this JSON file")
    parser.add_argument("--side", help=argparse.SUPPRESS)  # how a child is started; `compare.py` relies on it
    parser.add_argument("--sizes", type=json.loads, default=sides.STANDARD, help=argparse.SUPPRESS)
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        sides.serve(args.side, args.sizes, args.cores, args.dtype)
        return
    if args.rounds < 1:
        parser.error(f"--rounds = {args.rounds}: must be at least 1")
    for name in args.contestants:
        if name.removesuffix(sides.KEEP) not in sides.SIDES:
            parser.error(f"--contestants = {name}: must be one of {', '.join(sides.SIDES)}, or one with {sides.KEEP}")
    for dtype in args.dtypes:
        if dtype not in DTYPES:
            parser.error(f"--dtypes = {dtype}: must be one of {', '.join(DTYPES)}")
    python, source = dict(args.python), dict(args.source)
    contestants = [Contestant(side=side, dtype=dtype, python=python.get(_kind(side), sys.executable),
                              source=source.get(_kind(side), str(sides.ROOT)))
                   for dtype in args.dtypes for side in args.contestants]
    figures = measure(sides.SIZES[args.size], contestants, rounds=args.rounds, updates=UPDATES.get(args.size, 1),
                      cores=args.cores)
    print(table(figures))
    if args.out:
        machine.write(args.out, {"size": args.size} | figures)


def _cores(text: str) -> list[int]:
    return [int(core) for core in text.split(",")]


def _words(text: str) -> list[str]:
    return text.split(",")


def _named(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text}: must be NAME=PATH")
    return name, value


def _kind(side: str) -> str:
    """Returns what --python and --source call a side."""
    return side.removesuffix(sides.KEEP).split(".")[0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contestant:
    """A side of `sides.py`, with "+keep" at its end or without, in one dtype; its interpreter and what it imports."""

    side: str
    dtype: str = "float32"
    python: str = sys.executable
    source: str = str(sides.ROOT)

    @property
    def name(self) -> str:
        """What its figures are called."""
        return self.side if self.dtype == "float32" else f"{self.side} bf16"


def measure(sizes: dict[str, int], contestants: Sequence[Contestant], *, rounds: int, updates: int = 1,
            cores: list[int] | None = None) -> dict[str, Any]:
    """Returns the figures of all contestants; times in seconds, memory in bytes, losses in nats per token.

    "turns" has every turn, per update; "median" and "minimum" are over them. "speed" is the speed over that of each
    target's other contestant, see `turns.ratios`. A peer that does not run is in "left_out" with its error.
    """
    facts, before = machine.facts(cores), machine.load()
    children: dict[str, turns.Child] = {}
    first: dict[str, dict[str, Any]] = {}
    left_out: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        for contestant in contestants:
            try:
                cache = Path(folder) / contestant.name.replace(" ", "-")  # torch puts it into a command line
                child, first[contestant.name] = _start(contestant, sizes, cores, cache)
            except turns.Failed as error:
                if contestant.side.removesuffix(sides.KEEP) in sides.OWN:
                    raise
                left_out[contestant.name] = str(error).splitlines()[0]
            else:
                children[contestant.name] = stack.enter_context(contextlib.closing(child))
        if not children:
            raise turns.Failed(f"no contestant runs here: {left_out}")
        taken = turns.take(children, rounds=rounds, updates=updates)
        peaks = {name: child.ask()["peak_rss_bytes"] for name, child in children.items()}
    return {"machine": facts, "load_before": before, "load_after": machine.load(), "sizes": sizes, "rounds": rounds,
            "updates": updates, "left_out": left_out, "first_step": first, "peak_rss_bytes": peaks,
            "summary": {name: turns.summary(own) for name, own in taken.items()}, "speed": _speeds(taken),
            "turns": {name: {key: [turn[key] for turn in own] for key in own[0]} for name, own in taken.items()}}


def _start(contestant: Contestant, sizes: dict[str, int], cores: list[int] | None,
           cache: Path) -> tuple[turns.Child, dict[str, Any]]:
    """Returns the process of a contestant after its first step, and what that took, cold and from the cache."""
    command = [contestant.python, str(Path(__file__).resolve()), "--side", contestant.side,
               "--sizes", json.dumps(sizes), "--dtype", contestant.dtype]
    command += ["--cores", ",".join(map(str, cores))] if cores else []
    environment = {"PYTHONPATH": contestant.source, "JAX_COMPILATION_CACHE_DIR": str(cache),
                   "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "TORCHINDUCTOR_CACHE_DIR": str(cache)}
    child = turns.Child(command, environment, contestant.name)
    try:
        cold = child.first_step()
        with contextlib.closing(turns.Child(command, environment, contestant.name)) as again:
            cached = again.first_step()
    except turns.Failed:
        child.close()
        raise
    keys = ("process_seconds", "process_cpu_seconds", "seconds", "cpu_seconds")
    return child, {"loss": cold["loss"], "versions": cold["versions"], "cold": {key: cold[key] for key in keys},
                   "cached": {key: cached[key] for key in keys}}


def _speeds(taken: Mapping[str, Sequence[turns.Figures]]) -> dict[str, dict[str, Any]]:
    """Returns {contestant: {other: how many times as fast it is}} for the others of `BASES`, in the same dtype."""
    found: dict[str, dict[str, Any]] = {}
    for name, own in taken.items():
        suffix = " bf16" if name.endswith(" bf16") else ""
        found[name] = {other: {key: turns.ratios(taken[other + suffix], own, key) for key in ("seconds", "cpu_seconds")}
                       for other in BASES if other + suffix in taken}
    return found


def table(figures: dict[str, Any]) -> str:
    """Returns the figures as two tables and the verdicts."""
    sizes, width = figures["sizes"], max(map(len, figures["summary"]))
    tokens = sizes["batch"] * sizes["sequence"]
    lines = [f"{'per update':{width}}  ms median / minimum  CPU s  faults  tokens/s | times as fast as plain: medians, "
             "minima, paired (quartiles), CPU"]
    for name, summary in figures["summary"].items():
        middle, least = summary["median"], summary["minimum"]
        line = (f"{name:{width}} {1e3 * middle['seconds']:10.1f} / {1e3 * least['seconds']:7.1f} "
                f"{middle['cpu_seconds']:6.3f} {middle['faults']:7.0f} {tokens / middle['seconds']:9.0f}")
        if speed := figures["speed"][name].get("plain"):
            wall, (low, high) = speed["seconds"], speed["seconds"]["quartiles"]
            line += (f" | {wall['medians']:.2f} {wall['minima']:.2f} {wall['paired']:.2f} ({low:.2f} to {high:.2f}) "
                     f"{speed['cpu_seconds']['medians']:.2f}")
        lines.append(line)
    lines += ["", f"{'process':{width}}  peak MB | first step, s: cold, of it the call; from the cache, of it the call "
              "| first loss"]
    for name, first in figures["first_step"].items():
        cold, cached = first["cold"], first["cached"]
        lines.append(f"{name:{width}} {figures['peak_rss_bytes'][name] / 1e6:8.0f} | {cold['process_seconds']:6.1f} "
                     f"{cold['seconds']:6.1f}  {cached['process_seconds']:6.1f} {cached['seconds']:6.1f} | "
                     f"{first['loss']:.4f}")
    lines += [f"log(vocabulary) = {math.log(sizes['vocabulary']):.4f}",
              *(f"left out: {name}: {error}" for name, error in figures["left_out"].items()), *_verdicts(figures)]
    return "\n".join(lines)


def _verdicts(figures: dict[str, Any]) -> list[str]:
    found = []
    for name, other, least in TARGETS:
        if speed := figures["speed"].get(name, {}).get(other):
            wall = speed["seconds"]
            found.append(f"target: {name} at least {least:.2f} times as fast as {other}: "
                         f"{'met' if wall['medians'] >= least else 'missed'} ({wall['medians']:.2f} by medians, "
                         f"{wall['minima']:.2f} by minima, {wall['paired']:.2f} paired, {figures['rounds']} rounds)")
    return found


if __name__ == "__main__":
    main()
