"""Which peak rate does each size of the quick start want? A grid over the fit sizes at the middle budget.

    jaxlm study quickstart_rates      about five minutes on two cores

Writes rates.csv into the study's folder; the quick start reads the committed copy beside this file.
"""

import csv
from pathlib import Path

import quickstart

from jaxlm.sweep import Stage, Study
from scaling import record

GRID = tuple(2e-3 * 2**k for k in range(6))


def study() -> Study:
    """Returns the study."""
    updates = quickstart.BUDGETS[1]
    runs = [quickstart.base(f"w{width}-lr{rate:g}", width, seed=0, updates=updates,
                            schedule=quickstart.wsd(rate, updates))
            for width in quickstart.FIT_WIDTHS for rate in GRID]
    return Study(name="quickstart_rates", question="Which peak rate does each size want?",
                 stages=(Stage(title="rate grid", runs=tuple(runs), then=write),))


def write(root: Path) -> None:
    """Writes the table and prints the optimum of every size."""
    table = root / "rates.csv"
    with open(table, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["width", "N_total", "D", "peak_lr", "loss"])
        for run in sorted((record.read(folder) for folder in record.find(root)),
                          key=lambda run: (run.n("total"), run.peak_lr)):
            writer.writerow([run.identity["config"]["model"]["width"], run.n("total"), run.tokens,
                             f"{run.peak_lr:g}", f"{run.heldout_loss:.6f}"])
    for width, rate in quickstart.peak_rates(table).items():
        print(f"  width {width}: peak rate {rate:g}{' (extrapolated)' if width == quickstart.TARGET_WIDTH else ''}")
    print(f"table: {table}")
