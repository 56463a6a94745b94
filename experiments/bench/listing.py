"""Seconds that `jaxlm runs` and `jaxlm study` take for a thousand recorded runs, as processes of their own.

    python experiments/bench/listing.py [--runs 1000] [--rounds 5]

The records are made for the measurement, each with eight segments of metrics and eight files in a checkpoint
folder. Listing: every other run finished, the rest interrupted, in two studies. Resuming: all runs of a study have
finished, and `jaxlm study` finds that nothing is left to do. Median and range of wall time from the start of the
process to its end, and the CPU time, which other load changes less; warm file cache. For comparison the time of
`import jax` alone, which a study file, but no listing, cannot do without. Target of each: under two seconds.
"""

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scaling import record

TARGET_SECONDS = 2.0
UPDATES, SEGMENTS, FILES = 200, 8, 8
STUDY = """
from jaxlm.data import DataConfig, Synthetic
from jaxlm.model import ModelConfig
from jaxlm.schedules import WSD
from jaxlm.sweep import Stage, Study
from jaxlm.train import RunConfig


def study():
    data = DataConfig(sources=(Synthetic(vocabulary=16, tokens=60_000),), sequence=16)
    model = ModelConfig(vocabulary=16, sequence=16, layers=1, width=8, heads=1, tied=True)
    schedule = WSD(peak_lr=1e-2, warmup=10, decay=40)
    runs = tuple(RunConfig(name=f"s{{seed}}", seed=seed, updates=200, batch=4, model=model, data=data,
                           schedule=schedule) for seed in range({count}))
    return Study(name="many", question="What does it cost to find that nothing is left to do?",
                 stages=(Stage(title="all", runs=runs),))
"""


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
        make_runs(Path(folder) / "listed", args.runs)
        report(f"jaxlm runs, {args.runs} runs", measure(["runs", f"{folder}/listed"], rounds=args.rounds))
        study = make_study(Path(folder), args.runs)
        report(f"jaxlm study, {args.runs} finished runs",
               measure(["study", str(study), "--out", f"{folder}/resumed"], rounds=args.rounds))
        report("import jax alone", measure(None, rounds=args.rounds), target=False)


def report(what: str, rounds: Sequence[tuple[float, float]], *, target: bool = True) -> None:
    """Prints the medians of (wall, CPU) seconds and whether the target is met."""
    wall, cpu = zip(*rounds)
    middle = statistics.median(wall)
    verdict = f"; target under {TARGET_SECONDS:.0f} s: {'met' if middle < TARGET_SECONDS else 'missed'}"
    print(f"{what}: median {middle:.2f} s ({min(wall):.2f} to {max(wall):.2f}, {len(wall)} rounds), "
          f"CPU {statistics.median(cpu):.2f} s{verdict if target else ''}")


def make_study(folder: Path, count: int) -> Path:
    """Writes a study of `count` runs and their finished records under `folder`/resumed; returns the study file."""
    from jaxlm.sweep import load_study

    path = folder / "many.py"
    path.write_text(STUDY.format(count=count))
    study = load_study(str(path))
    kind = make_run(folder / "made" / "run", finished=True)
    content = (kind / "run.json").read_text()
    for run in study.runs:
        copy = shutil.copytree(kind, folder / "resumed" / study.name / run.folder)
        (copy / "run.json").write_text(content.replace('"name": "run"', f'"name": "{run.folder}"'))
    return path


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


def measure(words: Sequence[str] | None, *, rounds: int) -> list[tuple[float, float]]:
    """Returns wall and CPU seconds of `rounds` processes that run `jaxlm` with `words`, None for `import jax`."""
    program = "import jax" if words is None else "import sys; from jaxlm.cli import main; sys.exit(main(sys.argv[1:]))"
    found = []
    for number in range(rounds + 1):
        started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", program, *(words or ())], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        if number:  # the first one fills the file cache
            found.append((time.perf_counter() - started, cpu))
    return found


if __name__ == "__main__":
    main()
