"""Whether the standard step got slower between two revisions: both are timed in pairs within one run.

    python experiments/bench/compare.py REV1 REV2 [--size M] [--rounds 20] [--cores 0,1] [--out FILE]

REV is what git knows, or a folder that holds a revision, such as . for the tree at hand with its changes. Each revision
is unpacked into a folder of its own, which goes when the run ends, and its own `standard_step.py` makes the steps of
its own jaxlm, by turns; each round is a pair, begun by the one and by the other in turn. The line says how much time
REV2 takes over REV1 with the quartiles of the pairs; a revision against itself shows the noise.
"""

import argparse
import contextlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import machine
import sides
import turns


def main() -> None:
    """Measures, prints the ratio, and writes the figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revisions", nargs=2, metavar="REV", help="a revision of git, or a folder")
    parser.add_argument("--size", choices=sides.SIZES, default="M", help="of model and batch (default M)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32",
                        help="bfloat16 needs revisions whose benchmark knows it")
    parser.add_argument("--rounds", type=int, default=20, help="pairs (default 20)")
    parser.add_argument("--cores", default=None, help="cores to pin to, such as 0,1 (default: all)")
    parser.add_argument("--out", type=Path, help="write all figures to this JSON file")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error(f"--rounds = {args.rounds}: must be at least 1")
    with tempfile.TemporaryDirectory() as folder:
        trees = [Path(revision).resolve() for revision in args.revisions]
        for number, revision in enumerate(args.revisions):
            if not trees[number].is_dir():
                trees[number] = Path(folder) / str(number)
                try:
                    unpack(sides.ROOT, revision, trees[number])
                except ValueError as error:
                    parser.error(str(error))
        options = [*(["--cores", args.cores] if args.cores else []),
                   *(["--dtype", args.dtype] if args.dtype != "float32" else [])]
        figures = measure(trees, sides.SIZES[args.size], rounds=args.rounds, updates=5 if args.size == "S" else 1,
                          options=options)
    print(line(figures, args.revisions))
    if args.out:
        machine.write(args.out, {"revisions": args.revisions, "size": args.size, "dtype": args.dtype} | figures)


def unpack(repository: Path, revision: str, folder: Path) -> None:
    """Puts the files of `revision` into `folder`; raises `ValueError` where git has no such revision."""
    done = subprocess.run(["git", "-C", str(repository), "archive", revision, "jaxlm", "scaling", "experiments/bench"],
                          capture_output=True)
    if done.returncode:
        raise ValueError(f"revision = {revision}: {done.stderr.decode().strip().splitlines()[0]}")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")


def measure(trees: Sequence[Path], sizes: dict[str, int], *, rounds: int, updates: int = 1,
            options: Sequence[str] = ()) -> dict[str, Any]:
    """Returns turns, summaries and the ratios of the second tree's step over the first's."""
    names = ("first", "second")
    children: dict[str, turns.Child] = {}
    before = machine.load()
    with contextlib.ExitStack() as stack:
        for name, tree in zip(names, trees, strict=True):
            command = [sys.executable, str(tree / "experiments" / "bench" / "standard_step.py"), "--side", "jaxlm",
                       "--sizes", json.dumps(sizes), *options]
            # A cache would let one of two equal programs be read where the other was compiled.
            environment = {"PYTHONPATH": str(tree), "JAX_ENABLE_COMPILATION_CACHE": "false"}
            children[name] = stack.enter_context(contextlib.closing(turns.Child(command, environment, name)))
            children[name].first_step()
        taken = turns.take(children, rounds=rounds, updates=updates)
    return {"machine": machine.facts(None), "versions": machine.versions(), "load_before": before,
            "load_after": machine.load(), "sizes": sizes, "rounds": rounds,
            "summary": {name: turns.summary(own) for name, own in taken.items()},
            "ratio": {key: turns.ratios(taken["second"], taken["first"], key) for key in ("seconds", "cpu_seconds")},
            "turns": {name: {key: [turn[key] for turn in own] for key in own[0]} for name, own in taken.items()}}


def line(figures: dict[str, Any], revisions: Sequence[str]) -> str:
    """Returns what came out, in three lines."""
    lines = []
    for revision, summary in zip(revisions, figures["summary"].values(), strict=True):
        middle, least = summary["median"], summary["minimum"]
        lines.append(f"{revision}: {1e3 * middle['seconds']:.1f} ms by median, {1e3 * least['seconds']:.1f} by "
                     f"minimum, {middle['cpu_seconds']:.3f} CPU s")
    wall, cpu = figures["ratio"]["seconds"], figures["ratio"]["cpu_seconds"]
    spread, extremes = wall["quartiles"], wall["range"]
    lines.append(f"{revisions[1]} takes {wall['paired']:.3f} times as long as {revisions[0]} (quartiles "
                 f"{spread[0]:.3f} to {spread[1]:.3f}, range {extremes[0]:.3f} to {extremes[1]:.3f}, "
                 f"{figures['rounds']} pairs); {cpu['paired']:.3f} times the CPU time")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
