"""How much faster a sweep goes on all cores, one run each, than one run at a time on one pinned core.

    python experiments/bench/sweep.py [--cores 0,1] [--runs 8] [--updates 600] [--rounds 1]

The sweep is `jaxlm study` from the start of its process to its end, the start of its workers and their compilation
(from a cache that a run before has filled) included: `--workers 1`, then one worker a core, by turns. Its runs differ
in seed and rate: 2 layers of width 64, 8 sequences of 128 tokens, vocabulary 256, float32, AdamW. The ceiling is what
the machine gives: loops of the plain JAX step of the same sizes (`plain_step.py`, nothing of jaxlm), one pinned process
a core, told to start at the same moment, all at once over one alone. Both in tokens per second, measured by turns in
the same call; medians of the rounds' ratios. Target of the sweep on two cores: 1.7.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

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
    runs = tuple(RunConfig(name=f"s{{i}}", seed=i, updates={updates}, batch={batch}, model=model, data=data,
                           schedule=WSD(peak_lr=1e-3 * (1 + i), warmup=10, decay={updates} // 5),
                           evaluation=EvalConfig(sequences=64))
                 for i in range({runs}))
    return Study(name="many", question="How fast do runs train side by side?",
                 stages=(Stage(title="all", runs=runs),))
"""


def main() -> None:
    """Measures by turns and prints two lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=_cores, default=None, help="cores such as 0,1 (default: the first two)")
    parser.add_argument("--runs", type=int, default=8, help="runs of the sweep (default 8)")
    parser.add_argument("--updates", type=int, default=600, help="updates of each run (default 600)")
    parser.add_argument("--rounds", type=int, default=1, help="turns of each side, five minutes each (default 1)")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of a bare loop (default 8)")
    parser.add_argument("--loop", action="store_true", help=argparse.SUPPRESS)  # how a child is started
    args = parser.parse_args()
    cores = args.cores or sorted(os.sched_getaffinity(0))[:2]
    if args.loop:
        loop(cores[0], args.seconds)
        return
    for name in ("runs", "updates", "rounds"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} = {getattr(args, name)}: must be at least 1")
    if len(cores) < 2:
        parser.error(f"--cores = {cores}: needs two at least")
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
    (out / "many.py").write_text(STUDY.format(**SIZES, runs=runs, updates=updates))
    program = "import sys; from jaxlm.cli import main; sys.exit(main(sys.argv[1:]))"
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(folder / "xla"), "JAX_PLATFORMS": "cpu",
                                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", program, "study", str(out / "many.py"), "--out", str(out), "--workers",
                    str(len(cores))], check=True, stdout=subprocess.DEVNULL, env=environment,
                   preexec_fn=lambda: os.sched_setaffinity(0, cores))
    return runs * updates * SIZES["batch"] * SIZES["sequence"] / (time.perf_counter() - started)


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
