"""Does the quick start end with equal records when it is interrupted ten times at random moments?

    python experiments/interrupted.py [--out runs] [--times 10] [--seed 0]

Compares runs/quickstart, undisturbed, with a second run of the study in runs/interrupted that gets
SIGINT or SIGTERM at random moments and is started again each time. Equal means: every result field of
every record, the digest of the final parameters included.
"""

import argparse
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from scaling import record

NAME = "quickstart"


def main() -> int:
    """Runs the comparison; the exit code is 0 if all records are equal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--longest", type=float, default=45.0, help="the longest stretch between signals, seconds")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    started = time.monotonic()
    if run_study(args.out).wait() != 0:
        return 1
    print(f"undisturbed: {time.monotonic() - started:.0f} s")
    disturbed = args.out / "interrupted"
    rng, hits = random.Random(args.seed), []
    while len(hits) < args.times:
        process = run_study(disturbed)
        wait, number = rng.uniform(0.0, args.longest), rng.choice((signal.SIGINT, signal.SIGTERM))
        try:
            process.wait(timeout=wait)
            print(f"the study ended before signal {len(hits) + 1}")
            break
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            hits.append(f"{number.name} after {wait:.1f} s, exit code {process.wait()}")
            print(f"  {hits[-1]}", flush=True)
    code = run_study(disturbed).wait()
    return code or compare(args.out / NAME, disturbed / NAME, signals=len(hits))


def run_study(out: Path) -> subprocess.Popen:
    """Starts the study with its output hidden."""
    command = [sys.executable, "-c", "from jaxlm.cli import main; raise SystemExit(main())", "study", NAME]
    return subprocess.Popen([*command, "--out", str(out)], stdout=subprocess.DEVNULL)


def compare(one: Path, other: Path, *, signals: int) -> int:
    """Prints whether all records are equal; returns 0 if they are."""
    names = [folder.name for folder in record.find(one)]
    missing = sorted(set(names) ^ {folder.name for folder in record.find(other)})
    differences = [f"{name}: not in both" for name in missing]
    attempts = 0
    for name in sorted(set(names) - set(missing)):
        first, second = record.read(one / name), record.read(other / name)
        attempts += len(second.attempts)
        differences += [f"{name}: {line}" for line in (*record.equal(first, second), *second.notes)]
    for line in differences:
        print(f"  {line}")
    print(f"{len(names)} runs, {signals} signals, {attempts} attempts: "
          f"{'all records equal' if not differences else f'{len(differences)} differences'}")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
