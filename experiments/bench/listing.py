"""Seconds that `jaxlm runs` takes for a thousand recorded runs, as a process of its own.

    python experiments/bench/listing.py [--runs 1000] [--rounds 5]

The records are made for the measurement: every other run finished, the rest interrupted, in two
studies, each with eight segments of metrics and eight files in a checkpoint folder. Median and range of
wall time, warm file cache. Target: under two seconds.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from scaling import record

TARGET_SECONDS = 2.0
UPDATES, SEGMENTS, FILES = 200, 8, 8


def main() -> None:
    """Makes the records, measures, prints one line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="runs (default 1000)")
    parser.add_argument("--rounds", type=int, default=5, help="listings that count (default 5)")
    args = parser.parse_args()
    for name in ("runs", "rounds"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} = {getattr(args, name)}: must be at least 1")
    with tempfile.TemporaryDirectory() as folder:
        make_runs(Path(folder), args.runs)
        seconds = measure(Path(folder), rounds=args.rounds)
    middle = statistics.median(seconds)
    verdict = "met" if middle < TARGET_SECONDS else "missed"
    print(f"jaxlm runs, {args.runs} runs: median {middle:.2f} s ({min(seconds):.2f} to {max(seconds):.2f}, "
          f"{args.rounds} rounds); target under {TARGET_SECONDS:.0f} s: {verdict}")


def make_runs(root: Path, count: int) -> None:
    """Writes `count` records under `root`: copies of one interrupted and one finished record."""
    kinds = [make_run(root / "study0" / "run-0000"), make_run(root / "study1" / "run-0001", finished=True)]
    for number in range(2, count):
        kind = kinds[number % 2]
        folder = shutil.copytree(kind, kind.with_name(f"run-{number:04}"))
        content = (folder / "run.json").read_text()
        (folder / "run.json").write_text(content.replace(kind.name, folder.name))
    if count == 1:
        shutil.rmtree(kinds[1].parent)


def make_run(folder: Path, *, finished: bool = False) -> Path:
    """Writes one record with metrics and files in the place of a checkpoint; returns its folder."""
    rates = np.linspace(1e-3, 1e-4, UPDATES)
    config = {"model": {"width": 64, "layers": 2}, "optimizer": {"kind": "adamw"}, "updates": UPDATES}
    record.create(folder, {
        "name": folder.name, "study": folder.parent.name, "seed": 0, "parent": None, "config": config,
        "config_hash": "0" * 8, "params": {"total": 10**5, "non_embedding": 8 * 10**4, "with_head": 10**5},
        "tokens_per_update": 2048, "flops_per_token": {"attention": 10**5, "feed_forward": 10**6},
        "corpus": {"name": "made", "digest": "0" * 64}, "loss_unit": "nats/token", "bytes_per_token": 1.0,
    }, rates, {"source": "a benchmark"})
    attempt = record.start_attempt(folder, {"host": "bench", "versions": {"jax": "0"}})
    length = UPDATES // SEGMENTS
    for first in range(0, UPDATES, length):
        record.write_segment(folder, attempt, [
            {"step": step, "tokens": (step + 1) * 2048, "lr": rates[step], "train_loss": 5 - step / 100,
             "heldout_loss": 5 - step / 100, "seconds": 0.01} for step in range(first, first + length)])
    checkpoint = folder / "checkpoints" / str(UPDATES) / "default"
    checkpoint.mkdir(parents=True)
    for part in range(FILES):
        (checkpoint / f"part-{part}").write_bytes(b"0" * 1000)
    if finished:
        record.set_status(folder, "finished", result={
            "updates": UPDATES, "tokens": UPDATES * 2048, "heldout_loss": 3.0, "params_digest": "0"})
    return folder


def measure(root: Path, *, rounds: int) -> list[float]:
    """Returns the wall seconds of `rounds` processes that list the runs under `root`."""
    command = [sys.executable, "-c", "import sys; from jaxlm.cli import main; sys.exit(main(sys.argv[1:]))",
               "runs", str(root)]
    seconds = []
    for number in range(rounds + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        if number:  # the first one fills the file cache
            seconds.append(time.perf_counter() - started)
    return seconds


if __name__ == "__main__":
    main()
