"""Does a study that is killed a hundred times end with the records of one that was left alone?

    python experiments/kills.py            # ten runs, 100 times SIGKILL; writes experiments/kills.md
    python experiments/kills.py --study quickstart --times 10 --signals INT TERM --longest 45 --report ''

Trains the study undisturbed, then once more while signals strike at random moments: SIGKILL hits the pool
and its workers together, the pool alone (its workers then save and end), or one worker (the pool goes on);
SIGINT and SIGTERM go to the pool. Each time the command is started again, and after each kill every record
is read: no run and no line of a record may be lost, doubled or contradict another. In the end all result
fields, final parameters and optimizer states must be equal. The exit code is 0 if they are.
"""

import argparse
import dataclasses
import logging
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax

from jaxlm.data import DataConfig, Synthetic
from jaxlm.model import ModelConfig
from jaxlm.optim import AdamW, Muon, OptimizerConfig
from jaxlm.schedules import WSD
from jaxlm.sweep import Stage, Study, load_study
from jaxlm.train import CheckpointConfig, DiagnosticsConfig, EvalConfig, Parent, RunConfig
from jaxlm.train import checkpoint as checkpoints
from scaling import record

HERE = Path(__file__).resolve()


def study() -> Study:
    """Ten runs: for each of two optimizers a trunk, two branches off it, a branch of a branch, a single run."""
    data = DataConfig(sources=tuple(Synthetic(vocabulary=64, order=1, seed=seed, tokens=200_000) for seed in (0, 1)),
                      weights=(2.0, 1.0), sequence=32)
    model = ModelConfig(vocabulary=64, sequence=32, layers=2, width=32, heads=2, ff=64, tied=True, dropout=0.1)

    def run(name: str, optimizer: OptimizerConfig, *, updates: int = 12_000, decay: int = 1200,
            **fields: Any) -> RunConfig:
        settings = {"checkpoint": CheckpointConfig(every=150)} | fields
        return RunConfig(
            name=f"{optimizer.kind}-{name}", optimizer=optimizer, updates=updates, batch=4, accumulation=2,
            model=model, data=data, schedule=WSD(peak_lr=3e-3, warmup=100, decay=decay),
            diagnostics=DiagnosticsConfig(every=100), evaluation=EvalConfig(every=700, sequences=32), **settings)

    runs = []
    for optimizer in (AdamW(), Muon()):
        trunk = run("trunk", optimizer, decay=0, checkpoint=CheckpointConfig(every=150, keep=(4000, 8000)))
        late = run("late", optimizer, parent=Parent(run=trunk.folder, step=8000),
                   checkpoint=CheckpointConfig(every=150, keep=(10_000,)))
        runs += [trunk, late, run("single", optimizer, seed=1),
                 run("early", optimizer, updates=8000, parent=Parent(run=trunk.folder, step=4000)),
                 run("twig", optimizer, updates=13_000, decay=2000, parent=Parent(run=late.folder, step=10_000))]
    return Study(name="kills", question="Does a killed study end with the same records?",
                 stages=(Stage(title="ten runs", runs=tuple(runs)),))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hit:
    """One signal: its name and target, seconds after the start, and seconds until a run had gone on before it."""

    name: str
    target: str
    after: float
    restart: float | None


def main() -> int:
    """Runs the comparison and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default=str(HERE), help="study file or name (default: the ten runs of this file)")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--signals", nargs="+", default=["KILL"], choices=["KILL", "INT", "TERM"])
    parser.add_argument("--longest", type=float, default=16.0, help="the longest stretch between signals, seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", default=str(HERE.with_suffix(".md")), help="file to write; '' for none")
    args = parser.parse_args()
    logging.getLogger("absl").setLevel(logging.ERROR)
    name = load_study(args.study).name
    started = time.monotonic()
    if start(args.study, args.out).wait() != 0:
        return 1
    alone = time.monotonic() - started
    print(f"undisturbed: {alone:.0f} s")
    started = time.monotonic()
    hits, differences = disturb(args.study, args.out / "killed", args.times, signals=args.signals,
                                longest=args.longest, seed=args.seed)
    disturbed = time.monotonic() - started
    if len(hits) < args.times:
        differences.append(f"the study ended after {len(hits)} of {args.times} signals")
    differences += compare(args.out / name, args.out / "killed" / name)
    text = report(args.out / "killed" / name, hits, differences, alone=alone, disturbed=disturbed)
    print(text)
    if args.report:
        Path(args.report).write_text(text)
    return 1 if differences else 0


def start(study_name: str, out: Path) -> subprocess.Popen:
    """Starts the study with its output hidden."""
    command = [sys.executable, "-c", "from jaxlm.cli import main; raise SystemExit(main())", "study", study_name]
    return subprocess.Popen([*command, "--out", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def disturb(study_name: str, out: Path, times: int, *, signals: list[str], longest: float, seed: int
            ) -> tuple[list[Hit], list[str]]:
    """Trains the study under `times` signals; returns them and what was found wrong on the way."""
    root = out / load_study(study_name).name
    rng, hits, wrong, seen = random.Random(seed), [], [], {}
    process = None
    while True:
        if process is None or process.poll() is not None:
            if process is not None and process.returncode == 0:
                break
            process, began, before, restart = start(study_name, out), time.monotonic(), attempts(root), None
        deadline = time.monotonic() + (rng.uniform(0.0, longest) if len(hits) < times else 1e9)
        while time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
            if restart is None and attempts(root) > before:
                restart = time.monotonic() - began
        if process.poll() is None:
            name = rng.choice(signals)
            target = strike(process, name, rng)
            hits.append(Hit(name=name, target=target, after=time.monotonic() - began, restart=restart))
            print(f"  {len(hits)}/{times} SIG{name} to {target} after {hits[-1].after:.1f} s", flush=True)
        wrong += contradictions(root, seen)
    return hits, wrong


def strike(process: subprocess.Popen, name: str, rng: random.Random) -> str:
    """Sends the signal; returns whom it hit. Waits for the pool where it was hit."""
    number = getattr(signal, f"SIG{name}")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    workers = [int(pid) for pid in children.read_text().split()] if children.exists() else []
    target = rng.choice(["pool and workers", "pool", "worker"]) if name == "KILL" and workers else "pool"
    hit = [rng.choice(workers)] if target == "worker" else [process.pid, *(workers if "workers" in target else ())]
    for pid in hit:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass  # it ended by itself
    if target != "worker":
        process.wait()
    return target


def attempts(root: Path) -> int:
    """The number of starts on record in the study."""
    found = record.find(root) if root.is_dir() else []
    return sum(len(record.read(folder).attempts) for folder in found)


def contradictions(root: Path, seen: dict[Path, str]) -> list[str]:
    """What the records say against themselves, or against `seen`, the segments of earlier calls; fills `seen`."""
    found = record.find(root) if root.is_dir() else []
    wrong = [f"{folder.name}: {note}" for folder in found for note in record.read(folder).notes]
    now = {path: path.read_text() for folder in found for path in (folder / "metrics").glob("*.jsonl")}
    wrong += [f"{path}: was lost or rewritten" for path, text in seen.items() if now.get(path) != text]
    seen.update(now)
    return wrong


def compare(one: Path, other: Path) -> list[str]:
    """Returns one line for each difference between two studies, the optimizer states' checksums included."""
    names = {folder.name for folder in record.find(one)} | {folder.name for folder in record.find(other)}
    differences = []
    for name in sorted(names):
        if not all((root / name / "run.json").exists() for root in (one, other)):
            differences.append(f"{name}: not in both")
            continue
        first, second = record.read(one / name), record.read(other / name)
        differences += [f"{name}: {line}" for line in (*record.equal(first, second), *second.notes)]
        if checksum(first) != checksum(second):
            differences.append(f"{name}: the final states differ")
    return differences


def checksum(run: record.Run) -> list[int]:
    """The checksums of all arrays of the run's last checkpoint."""
    import orbax.checkpoint as ocp

    folder = checkpoints.checkpoint_folder(run.folder.parent, run.name)
    with ocp.CheckpointManager(folder, options=ocp.CheckpointManagerOptions(read_only=True)) as manager:
        return manager.restore(manager.latest_step(), args=ocp.args.StandardRestore())["checksum"].tolist()


def report(root: Path, hits: list[Hit], differences: list[str], *, alone: float, disturbed: float) -> str:
    """Returns the report as Markdown."""
    runs = [record.read(folder) for folder in record.find(root)]
    restarts = [hit.restart for hit in hits if hit.restart is not None]
    rows = sum(path.read_text().count("\n") for run in runs for path in (run.folder / "metrics").glob("*.jsonl"))
    steps = sum(run.metrics["step"].size for run in runs)
    damaged = sum(len(attempt.get("damaged_checkpoints", ())) for run in runs for attempt in run.attempts)
    lines = ["# Killed at random", "", f"Study `{root.name}`: {len(runs)} runs, "
             f"{sum(run.state == 'finished' for run in runs)} finished, {steps:,} updates. "
             f"Written by `experiments/kills.py` on {os.cpu_count()} cores, jax {jax.__version__}.", "",
             "| what | figure |", "|---|---|",
             f"| signals | {len(hits)} |"]
    for name, target in sorted({(hit.name, hit.target) for hit in hits}):
        lines.append(f"| SIG{name} to {target} | {sum((hit.name, hit.target) == (name, target) for hit in hits)} |")
    lines += [f"| attempts on record (a signal during start-up leaves none) | {sum(len(run.attempts) for run in runs)} |",
              f"| damaged checkpoints met | {damaged} |",
              f"| lines of metrics written again by a later attempt, all equal | {rows - steps:,} |",
              f"| seconds, undisturbed and disturbed | {alone:.0f} and {disturbed:.0f} |",
              f"| seconds lost per signal, start-up included | {(disturbed - alone) / max(len(hits), 1):.1f} |",
              f"| seconds from a start until a run goes on, median of {len(restarts)} | "
              f"{statistics.median(restarts or [0.0]):.1f} |",
              f"| differences | {len(differences)} |"]
    return "\n".join([*lines, *(f"\n{line}" for line in differences)]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
