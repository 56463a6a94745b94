"""How much faster a sweep goes on all cores, one run each, than one run at a time on one pinned core.

    python experiments/bench/sweep.py [--cores 0,1] [--runs 8] [--updates 600] [--rounds 1]
    python experiments/bench/sweep.py --grid [--cores 0,1] [--runs 24] [--updates 600] [--rounds 1] [--out FILE]

The sweep is `jaxlm study` from the start of its process to its end, the start of its workers and their compilation
(from a cache that a run before has filled) included: `--workers 1`, then one worker a core, by turns. Its runs differ
in seed and rate: 2 layers of width 64, 8 sequences of 128 tokens, vocabulary 256, float32, AdamW. The ceiling is what
the machine gives: loops of the plain JAX step of the same sizes (`plain_step.py`, nothing of jaxlm), one pinned process
a core, told to start at the same moment, all at once over one alone. Both in tokens per second, measured by turns in
the same call; medians of the rounds' ratios. Target of the sweep on two cores: 1.7.

--grid measures runs per hour of a grid of learning rates, 1e-4 to 1e-2, from the start of the first process to the
end of the last: `jaxlm study`, a worker a core, nothing compiled before; against `jaxlm train` for one run after
another, each in a fresh process on all the cores, without a compilation cache and with one that the first fills. Of
these a quarter of the runs is timed, for each takes the same time.
"""

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import machine

TARGET = 1.7
SIZES = {"layers": 2, "width": 64, "heads": 4, "feed_forward": 256, "vocabulary": 256, "sequence": 128, "batch": 8}
STUDY = """
from jaxlm.data import DataConfig, Synthetic
from jaxlm.model import ModelConfig
from jaxlm.schedules import WSD
from jaxlm.sweep import Stage, Study
from jaxlm.train import EvalConfig, RunConfig


def study():
    data = DataConfig(sources=(Synthetic(vocabulary={vocabulary}, order=1, tokens=500_000),), sequence={sequence})
    model = ModelConfig(vocabulary={vocabulary}, sequence={sequence}, layers={layers}, width={width}, heads={heads},
                        ff={feed_forward}, norm="layernorm", positions="learned", activation="gelu", tied=True)
    runs = tuple(RunConfig(name=f"s{{i}}", seed={seed}, updates={updates}, batch={batch}, model=model, data=data,
                           schedule=WSD(peak_lr=peak_lr, warmup=10, decay={updates} // 5),
                           evaluation=EvalConfig(sequences=64))
                 for i, peak_lr in enumerate({rates}))
    return Study(name="many", question="How fast do runs train side by side?",
                 stages=(Stage(title="all", runs=runs),))
"""


def main() -> None:
    """Measures by turns and prints two lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=_cores, default=None, help="cores such as 0,1 (default: the first two)")
    parser.add_argument("--grid", action="store_true", help="measure a grid of rates against runs one after another")
    parser.add_argument("--runs", type=int, help="runs of the sweep (default 8, of the grid 24)")
    parser.add_argument("--updates", type=int, default=600, help="updates of each run (default 600)")
    parser.add_argument("--rounds", type=int, default=1, help="turns of each side, five minutes each (default 1)")
    parser.add_argument("--out", type=Path, help="with --grid: write the figures to this JSON file")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of a bare loop (default 8)")
    parser.add_argument("--loop", action="store_true", help=argparse.SUPPRESS)  # how a child is started
    args = parser.parse_args()
    cores = args.cores or sorted(os.sched_getaffinity(0))[:2]
    if args.loop:
        loop(cores[0], args.seconds)
        return
    args.runs = (24 if args.grid else 8) if args.runs is None else args.runs
    for name in ("runs", "updates", "rounds"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} = {getattr(args, name)}: must be at least 1")
    if len(cores) < 2:
        parser.error(f"--cores = {cores}: needs two at least")
    if args.grid:
        if args.runs < 2:
            parser.error(f"--runs = {args.runs}: a grid needs two at least")
        figures = grid(cores, runs=args.runs, updates=args.updates, rounds=args.rounds)
        print(table(figures))
        if args.out:
            machine.write(args.out, figures)
        return
    sweeps, ceilings = [], []
    with tempfile.TemporaryDirectory() as folder:
        sweep(Path(folder), cores[:1], runs=1, updates=args.updates)  # fills the cache of compilations
        for number in range(args.rounds):
            one = bare(cores[:1], args.seconds)
            ceilings.append(bare(cores, args.seconds) / one)
            sides = [sweep(Path(folder), used, runs=args.runs, updates=args.updates) for used in (cores[:1], cores)]
            sweeps.append(sides[1] / sides[0])
            print(f"round {number}: bare loops {one:,.0f} tokens/s on one core, x {ceilings[-1]:.2f} on {len(cores)}; "
                  f"sweep {sides[0]:,.0f}, x {sweeps[-1]:.2f}", flush=True)
    ceiling, ratio = statistics.median(ceilings), statistics.median(sweeps)
    print(f"ceiling, bare pinned loops: {ceiling:.2f} ({min(ceilings):.2f} to {max(ceilings):.2f})")
    print(f"sweep of {args.runs} runs on {len(cores)} cores over one run at a time on one: {ratio:.2f} "
          f"({min(sweeps):.2f} to {max(sweeps):.2f}), {ratio / ceiling:.0%} of the ceiling; target {TARGET}: "
          f"{'met' if ratio >= TARGET else 'missed'}")


def _cores(text: str) -> list[int]:
    return [int(core) for core in text.split(",")]


def sweep(folder: Path, cores: Sequence[int], *, runs: int, updates: int) -> float:
    """Returns the tokens per second of `jaxlm study` with a worker for each of `cores`, over all of its time."""
    out = Path(tempfile.mkdtemp(dir=folder))
    study = _write_study(out, [1e-3 * (1 + i) for i in range(runs)], updates, seed="i")
    started = time.perf_counter()
    _jaxlm(cores, "study", str(study), "--out", str(out), "--workers", str(len(cores)), cache=folder / "xla")
    return runs * updates * SIZES["batch"] * SIZES["sequence"] / (time.perf_counter() - started)


def _write_study(folder: Path, rates: Sequence[float], updates: int, *, seed: str) -> Path:
    study = folder / "many.py"
    study.write_text(STUDY.format(**SIZES, rates=list(rates), updates=updates, seed=seed))
    return study


def _jaxlm(cores: Sequence[int], *words: str, cache: Path | None) -> None:
    """Runs the command line on `cores`; compilations are shared through `cache`, or not at all."""
    program = "import sys; from jaxlm.cli import main; sys.exit(main(sys.argv[1:]))"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                                "JAX_ENABLE_COMPILATION_CACHE": "false" if cache is None else "true"}
    environment |= {} if cache is None else {"JAX_COMPILATION_CACHE_DIR": str(cache)}
    subprocess.run([sys.executable, "-c", program, *words], check=True, stdout=subprocess.DEVNULL, env=environment,
                   preexec_fn=lambda: os.sched_setaffinity(0, cores))


def grid(cores: Sequence[int], *, runs: int, updates: int, rounds: int) -> dict[str, Any]:
    """Returns runs per hour of a grid of rates in each way of training it, by round; needs two runs at least."""
    rates = [1e-4 * 100**(i / (runs - 1)) for i in range(runs)]
    before, timed = machine.load(), math.ceil(runs / 4)
    hourly: dict[str, list[float]] = {"study": [], "one by one": [], "one by one, cached": []}
    for _ in range(rounds):
        for way, turns in hourly.items():
            with tempfile.TemporaryDirectory() as folder:
                study = _write_study(Path(folder), rates, updates, seed="0")
                cache = None if way == "one by one" else Path(folder) / "xla"
                started = time.perf_counter()
                if way == "study":
                    _jaxlm(cores, "study", str(study), "--out", folder, "--workers", str(len(cores)), cache=cache)
                else:
                    for i in range(timed):
                        _jaxlm(cores, "train", f"{study}:s{i}", "--out", folder, cache=cache)
                count = runs if way == "study" else timed
                turns.append(3600 * count / (time.perf_counter() - started))
    return {"machine": machine.facts(list(cores)), "versions": machine.versions(), "load_before": before,
            "load_after": machine.load(), "sizes": SIZES, "runs": runs, "updates": updates, "runs_per_hour": hourly}


def table(figures: dict[str, Any]) -> str:
    """Returns a line for each way to train the grid."""
    study = statistics.median(figures["runs_per_hour"]["study"])
    return "\n".join(f"{way:20} {statistics.median(turns):7.0f} runs per hour; the study's are "
                     f"{study / statistics.median(turns):.2f} times as many"
                     for way, turns in figures["runs_per_hour"].items())


def bare(cores: Sequence[int], seconds: float) -> float:
    """Returns the tokens per second of plain loops, one pinned process for each of `cores`, all at the same time."""
    command = [sys.executable, __file__, "--loop", "--seconds", str(seconds), "--cores"]
    children = [subprocess.Popen([*command, str(core)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                for core in cores]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    rates = [float(child.stdout.readline()) for child in children]
    for child in children:
        child.communicate()
    return sum(rates)


def loop(core: int, seconds: float) -> None:
    """Trains the plain step on one core for `seconds` when told to; prints its tokens per second."""
    os.sched_setaffinity(0, {core})  # before JAX starts, which sizes its thread pool by the cores it may use
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    import plain_step

    step, state, batch = plain_step.make(**SIZES)
    for _ in range(3):
        state, loss = step(state, batch)
    loss.block_until_ready()
    print("ready", flush=True)
    sys.stdin.readline()
    started, updates = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        state, loss = step(state, batch)
        loss.block_until_ready()
        updates += 1
    print(updates * SIZES["batch"] * SIZES["sequence"] / (time.perf_counter() - started), flush=True)


if __name__ == "__main__":
    main()
