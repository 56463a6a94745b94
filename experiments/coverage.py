"""How often do the quick start's 90% intervals hold the truth? Five replicates with seeds of their own.

    python experiments/coverage.py [--out runs] [--replicates 5]      five times the quick start

Writes coverage.csv under --out; the committed copy is quickstart_coverage.csv beside this file.
"""

import argparse
import csv
import sys
from pathlib import Path

import quickstart
import quickstart_report as report

from jaxlm import data
from jaxlm.cli.study import data_root
from jaxlm.sweep import Pool, Stage, Study
from scaling import record

COLUMNS = ("replicate", "run", "N", "D", "predicted", "low", "high", "truth", "error", "covered")


def main() -> int:
    """Trains what is not trained yet, then prints and writes the coverage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--replicates", type=int, default=5)
    args = parser.parse_args()
    rows, curves = [], []
    for replicate in range(args.replicates):
        # Replicate 0 is the quick start itself.
        name = "quickstart" if replicate == 0 else f"coverage-{replicate}"
        folders = train(quickstart.study(replicate, name), args.out)
        if folders is None:
            return 130
        runs = {role: [record.read(args.out / name / folder) for folder in getattr(folders, role)]
                for role in ("fit", "target", "known", "unseen")}
        law, annealing = report.fit_law(runs["fit"]), report.fit_annealing(runs["known"])
        rows += [{"replicate": replicate} | row for row in report.law_rows(law, runs["target"])]
        curves.append({"replicate": replicate} | report.curve_scores(annealing, runs["unseen"][0]))
    write(args.out / "coverage.csv", rows, curves)
    inside = sum(row["covered"] for row in rows)
    print(f"L(N, D): {inside} of {len(rows)} predictions inside their {report.LEVEL:.0%} interval, "
          f"mean absolute error {sum(abs(row['error']) for row in rows) / len(rows):.2f}%")
    ends = sum(row["low"] <= row["truth"] <= row["high"] for row in curves)
    print(f"schedule: last loss inside in {ends} of {len(curves)}, points inside "
          f"{sum(row['covered'] for row in curves) / len(curves):.0%}, "
          f"mean error {sum(row['pred_e'] for row in curves) / len(curves):.2f}%")
    return 0


def train(study: Study, out: Path) -> report.Folders | None:
    """Trains the runs of a study; returns the roles of its runs, None if interrupted."""
    for config in dict.fromkeys(run.data for run in study.runs):
        data.prepare_all(config, data_root(out))
    (out / study.name).mkdir(parents=True, exist_ok=True)
    everything = Stage(title=study.name, runs=study.runs)  # no prediction is printed: stages may mix
    with Pool(study, out / study.name, data_root(out)) as pool:
        outcome = pool.run_stage(everything)
    if outcome.failed:
        print(f"did not end: {', '.join(outcome.failed)}", file=sys.stderr)
        return None
    return study.stages[-1].then.keywords["folders"]


def write(path: Path, rows: list[dict], curves: list[dict]) -> None:
    """Writes a line per predicted run; the schedule's line is that of its last point."""
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n", restval="")
        writer.writeheader()
        ends = [curve | {"error": 100 * (curve["truth"] / curve["predicted"] - 1),
                         "covered": curve["low"] <= curve["truth"] <= curve["high"]} for curve in curves]
        for row in (*rows, *ends):
            writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})
    print(f"table: {path}")


if __name__ == "__main__":
    sys.exit(main())
