"""Memory of a training step by formula and by the compiler of this machine, side by side.

    python experiments/bench/memory.py [--out FILE] [S M ...]   a table of every mode of these sizes; by default of all
    jaxlm plan experiments/bench/memory.py:M-float32            one of them in full

Compiles and runs nothing else. S, M and L are pre-norm decoders with tanh-GELU, LayerNorm, learned positions and a
tied head, trained by AdamW with clipping; a mode is the compute dtype, layers in a scan or unrolled, with remat or
without; in float32 the other policies of remat too. Target: the formula's temporaries within 10% of the compiler's.
"""

import argparse
import itertools
import json
import sys
from pathlib import Path
from typing import Any

from jaxlm.cli import table
from jaxlm.config import ConfigError, require
from jaxlm.data import DataConfig
from jaxlm.launch.plan import plan
from jaxlm.launch.summary import summary
from jaxlm.model import ModelConfig
from jaxlm.model.config import ComputeConfig
from jaxlm.sweep import Stage, Study
from jaxlm.train import EvalConfig, RunConfig

# Layers, width, heads, feed-forward width, vocabulary, sequence, batch.
SIZES = {"S": (2, 64, 4, 256, 256, 128, 32), "M": (4, 256, 4, 1024, 4096, 256, 16),
         "L": (8, 512, 8, 2048, 32768, 512, 4)}
TARGET = 0.1


def study() -> Study:
    """Every size in every mode."""
    modes = itertools.product(SIZES, ("float32", "bfloat16"), (False, True), (None, "block"))
    policies = itertools.product(SIZES, ("float32",), (False, True), ("attention", "projections"))
    runs = sorted(itertools.starmap(_run, [*modes, *policies]), key=lambda run: list(SIZES).index(run.name[0]))
    return Study(name="memory", question="What does a step hold at its worst moment?",
                 stages=(Stage(title="modes", runs=tuple(runs)),))


def _run(size: str, dtype: str, scan: bool, policy: str | None) -> RunConfig:
    layers, width, heads, ff, vocabulary, sequence, batch = SIZES[size]
    model = ModelConfig(
        vocabulary=vocabulary, sequence=sequence, layers=layers, width=width, heads=heads, ff=ff, norm="layernorm",
        positions="learned", activation="gelu", tied=True,
        compute=ComputeConfig(dtype=dtype, scan_layers=scan, remat=policy is not None, remat_policy=policy or "block"))
    words = [size, dtype, "scan" if scan else "", "remat" if policy else "", policy if policy != "block" else ""]
    name = "-".join(filter(None, words))
    return RunConfig(name=name, updates=100, batch=batch, model=model, data=DataConfig(sequence=sequence),
                     evaluation=EvalConfig(sequences=batch))


def main() -> int:
    """Prints the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", help="S, M or L")
    parser.add_argument("--out", type=Path, help="write the plans to this JSON file")
    args = parser.parse_args()
    try:
        for word in args.sizes:
            require(word in SIZES, "sizes", word, f"must be among {', '.join(SIZES)}")
    except ConfigError as error:
        print(f"memory: {error}", file=sys.stderr)
        return 2
    plans = []
    for run in study().runs:
        if run.name.partition("-")[0] in (args.sizes or SIZES):
            plans.append(plan(run, None))
            print(row(plans[-1]), flush=True)
    worst = max(plans, key=lambda each: abs(_ratio(each) - 1))
    held = "met" if abs(_ratio(worst) - 1) <= TARGET else "missed"
    print(f"target: temporaries within {TARGET:.0%}: {held} (worst: {worst.run.name}, {_ratio(worst):.3f})")
    if args.out:
        args.out.write_text(json.dumps([summary(each) for each in plans], indent=1) + "\n")
    return 0


def row(made: Any) -> str:
    """Returns one line: state and batch, and temporaries, by formula and by the compiler with their ratio."""
    exact = made.held.state + made.held.batch
    return (f"{made.run.name:32} state and batch {table.size(exact):>10} {table.size(made.program.arguments):>10} "
            f"{exact / made.program.arguments:.4f}   temporaries {table.size(made.held.temporaries):>10} "
            f"{table.size(made.program.temporaries):>10} {_ratio(made):.3f}")


def _ratio(made: Any) -> float:
    return made.held.temporaries / made.program.temporaries


if __name__ == "__main__":
    sys.exit(main())
