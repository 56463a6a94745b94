"""What importing jaxlm and scaling costs, in CPU seconds of a fresh process over those of `import jax`.

    python experiments/bench/imports.py [--rounds 5]

The imports take turns, each in a process of its own; user and system time, medians. Targets:
`jaxlm.train` under 2.5 times `jax`, `scaling` under 2.2 times.
"""

import argparse
import resource
import statistics
import subprocess
import sys
from collections.abc import Sequence

BASE = "jax"
TARGETS = {"jaxlm.train": 2.5, "scaling": 2.2}


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="imports of each module that count (default 5)")
    rounds = parser.parse_args().rounds
    if rounds < 1:
        parser.error(f"--rounds = {rounds}: must be at least 1")
    print(table(measure((BASE, *TARGETS), rounds=rounds)))


def measure(modules: Sequence[str], *, rounds: int) -> dict[str, float]:
    """Returns the median CPU seconds of a process that imports the module and ends, for each module."""
    seconds: dict[str, list[float]] = {module: [] for module in modules}
    for module in modules:
        import_seconds(module)  # not counted: it may write byte code and fills the file cache
    for _ in range(rounds):
        for module in modules:
            seconds[module].append(import_seconds(module))
    return {module: statistics.median(values) for module, values in seconds.items()}


def import_seconds(module: str) -> float:
    """Returns user plus system seconds of one process that imports `module`; raises if that fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def table(seconds: dict[str, float]) -> str:
    """Returns the table of CPU seconds, ratios to `import jax` and targets."""
    lines = [f"{'import':12} {'CPU s':>6} {'over ' + BASE:>9}"]
    for module, value in seconds.items():
        ratio = value / seconds[BASE]
        limit = TARGETS.get(module)
        verdict = "" if limit is None else f"  target under {limit}: {'met' if ratio < limit else 'missed'}"
        lines.append(f"{module:12} {value:6.2f} {ratio:9.2f}{verdict}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
