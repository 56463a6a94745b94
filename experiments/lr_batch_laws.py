"""Laws of the best learning rate and batch: published rules, own fits, and the prediction that is never rewritten."""

import dataclasses
import functools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import lr_batch_grid as grids
import numpy as np
import quickstart
from lr_batch_grid import Cell, Losses, Point

import scaling
from scaling.errors import InputError
from scaling.law import Law
from scaling.laws import basin, batch_rate, hyperparameter_rules, step_law
from scaling.laws.hyperparameter_rules import Recommendation

LEVEL, DRAWS = 0.9, 1000
COUNTING = "non_embedding"
# "Step Law, tool" is Step Law within 2%, the table of Porian et al. is known at second hand only, and ceilings bound a
# batch rather than choose it.
LEFT_OUT = ("Step Law, tool", "Porian, as tabled", "Power Lines, ceiling", "Zhang, ceiling")
PREDICTION, FITS = "prediction.json", "fits"
# Excess over which a run's weight falls by e, in standard deviations of a seed: less would follow the luck of runs.
SCALE_IN_NOISE = 2.0
OWN = ("step_law_basin", "step_law")  # the first one that can be fitted is the prediction
# Batches that rules are rounded to, sequences: each costs a compilation, and the basin is flat in the batch.
SIZES = tuple(sorted({factor * 2**k for factor in (1, 3) for k in range(16)}))


def rules(*, N: int, D: int, flops: int, fits: Sequence[scaling.Fit] = ()) -> list[Recommendation]:
    """Returns what own fits and published rules say of a cell, without those that lack an input here.

    N counts non-embedding parameters, D tokens, `flops` those of training on one token without embedding and head.
    """
    rows = hyperparameter_rules.recommend(N, D, counting=COUNTING, flops_per_token=flops, fits=fits, level=LEVEL)
    return [row for row in rows if not row.missing and row.rule not in LEFT_OUT]


def points(rows: Iterable[Recommendation], *, top: int) -> dict[str, Point]:
    """Returns by name the points that can be trained: three digits of the rate, the nearest of `SIZES` up to `top`."""
    allowed = [size for size in SIZES if size <= top]
    return {row.rule: Point(float(f"{row.lr:.3g}"), min(allowed, key=lambda size: abs(np.log(
        size * quickstart.SEQUENCE / row.batch_tokens)))) for row in rows if None not in (row.lr, row.batch_tokens)}


def columns(cells: Sequence[Cell], found: Sequence[Losses]) -> dict[str, np.ndarray]:
    """Returns a row for each trained point of the cells whose runs finished: N, D, B in tokens, lr, loss, cell."""
    rows = [(one.N, one.D, point.batch * quickstart.SEQUENCE, point.rate, loss, one.name)
            for one, losses in zip(cells, found) for point, loss in grids.adjusted(losses, one.seeds).items()
            if np.isfinite(loss)]
    table = dict(zip(("N", "D", "B", "lr", "loss", "cell"), map(np.array, zip(*rows))))
    return {name: column if name == "cell" else column.astype(np.float64) for name, column in table.items()}


def scale(cells: Sequence[Cell], found: Sequence[Losses]) -> float:
    """Returns the basin's scale for runs as noisy as these, at least that of its authors' data."""
    sd = grids.noise([(losses, one.seeds) for one, losses in zip(cells, found)])
    return max(basin.SCALE, SCALE_IN_NOISE * sd) if np.isfinite(sd) else basin.SCALE


def law(name: str, width: float) -> Law:
    """Returns `step_law`, or one of the laws of a basin with runs weighed by exp(-excess / width)."""
    if name == "step_law":
        return step_law.LAW
    if name == "step_law_basin":
        recipe = functools.partial(step_law.basin_recipe, given=("N", "D"), scale=width)
        return dataclasses.replace(step_law.BASIN, solve=recipe)
    return dataclasses.replace(batch_rate.CELLS, solve=functools.partial(_rates, width=width))


def _rates(table: dict[str, np.ndarray], weights: np.ndarray, *, width: float) -> np.ndarray:
    """Returns `batch_rate.sweep_recipe` at another scale."""
    found, curvature = basin.solve(table, weights, tuned=("lr",), given=("N", "D", "B"), scale=width)
    found[:, :, 0] = np.exp(found[:, :, 0])
    return np.hstack([found[:, 0], curvature[:, :, 0]])


def fit(name: str, table: dict[str, np.ndarray], width: float) -> scaling.Fit:
    """Returns a law fitted to the points of cells; intervals resample the points within each cell.

    So few cells cannot be resampled whole, as Li et al. do: what a cell's points have in common is not covered.
    Raises `InputError` where the points allow no fit; where resampling fails, the fit says why it has no intervals.
    """
    kept = {key: table[key] for key in (*law(name, width).fit_columns, "cell")}
    how = {"unit": "nats/token", "counting": COUNTING}
    try:
        return scaling.fit(law(name, width), kept, **how, bootstrap=scaling.Bootstrap(draws=DRAWS, strata="cell"))
    except InputError as error:
        found = scaling.fit(law(name, width), kept, **how)
        return dataclasses.replace(found, bootstrap=f"none: {error}")


def fits(cells: Sequence[Cell], found: Sequence[Losses]) -> tuple[dict[str, scaling.Fit], list[str]]:
    """Returns the own laws that the cells allow, by name, and a line for each that they do not."""
    table, width, lines = columns(cells, found), scale(cells, found), []
    done: dict[str, scaling.Fit] = {}
    for name in (*OWN, "batch_rate_cells"):
        try:
            done[name] = fit(name, table, width)
        except InputError as error:
            lines.append(f"{name}: {error}")
    return done, lines


def predict(root: Path, *, cells: Sequence[Cell], target: Cell) -> None:
    """Fits the own laws to the cells and writes what they say of the larger one; leaves alone what is written."""
    if not written(root):
        found, lines = fits(cells, [one.read(root) for one in cells])
        own = [found[name] for name in OWN if name in found]
        if not own:
            raise InputError(f"cells: no law of rate and batch can be fitted: {'; '.join(lines)}")
        (root / FITS).mkdir(exist_ok=True)
        for name, one in found.items():
            scaling.save(one, root / FITS / f"{name}.json")
        rows = rules(N=target.N, D=target.D, flops=target.flops, fits=own)[:len(own)]
        data = {"cell": target.name, "N": target.N, "counting": COUNTING, "D": target.D, "level": LEVEL,
                "not fitted": lines, "laws": [dataclasses.asdict(row) for row in rows]}
        text = json.dumps(data, indent=1)  # before the file is there: a failure leaves none
        with open(root / PREDICTION, "x") as file:
            file.write(text)
    print(f"predicted for the larger cell, N {target.N:,} ({COUNTING}), D {target.D:,}, before it is trained:")
    print(hyperparameter_rules.table(read(root)))


def written(root: Path) -> bool:
    """Whether the prediction is there."""
    return (root / PREDICTION).exists()


def read(root: Path) -> list[Recommendation]:
    """Returns the own laws' recommendations for the larger cell, the one that its grid starts from first."""
    if not written(root):
        raise InputError(f"{root / PREDICTION}: no such file; the larger cell is trained after it is written")
    return [Recommendation(**_tuples(row)) for row in json.loads((root / PREDICTION).read_text())["laws"]]


def load(root: Path, name: str) -> scaling.Fit | None:
    """Returns a law as it was fitted when the prediction was written, None where it could not be."""
    path = root / FITS / f"{name}.json"
    return scaling.load(path) if path.exists() else None


def _tuples(row: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
