"""Fits laws to recorded curves, finds the best schedule under each, and predicts final losses before they are trained.

The interval of a predicted final loss joins two parts in quadrature: the law's own (its parameters, and the scatter
of points about it) and the spread between seeds, a t interval for one further run from the seeds of the fitted
schedules. It leaves out the error of the law itself: how a schedule unlike the fitted ones departs from its formula.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import quickstart_report
import seeds
from scipy import stats

import scaling
from scaling import record
from scaling.errors import InputError
from scaling.readers import curve_of
from scaling.record import files

LAWS, DRAWS = ("multi_power", "annealing"), 500
# No fall from peak to zero in less than this share of a run: what is faster profits from a law's errors, and Haegele
# et al. 2024 (2405.18392) saw cooldowns of 10 to 20% reach the best losses.
SHORTEST = 0.1
WARMUPS = 2  # points before this many warm-ups are not fitted: no law of these describes them
COVERS = "the law's parameters, the scatter of points about it and the spread between seeds; not the law's own error"


def write(root: Path, *, fitted: Mapping[str, tuple[str, ...]], rivals: Mapping[str, np.ndarray], warmup: int) -> None:
    """Writes fits/LAW.json, schedules/LAW and forecast.json into `root`, unless forecast.json is there already.

    Args:
      root: the study's folder.
      fitted: for each fitted schedule, the folder names of its runs, one for each seed.
      rivals: [updates] rates of further schedules whose loss is predicted, by name.
      warmup: updates of the warm-up of them all.
    """
    if (root / "forecast.json").exists():
        return
    runs = {name: quickstart_report.finished(root, folders) for name, folders in fitted.items()}
    curves = [mean_curve(name, group, WARMUPS * warmup) for name, group in runs.items()]
    spread, count = seed_spread(runs)
    peak, updates = curves[0].schedule.max(), curves[0].schedule.size
    found: dict[str, Any] = {"peak_lr": float(peak), "updates": updates, "warmup": warmup, "level": seeds.LEVEL,
                             "seed_sd": spread, "fitted_seeds": count, "covers": COVERS, "losses": {}}
    (root / "fits").mkdir(exist_ok=True)
    for law in LAWS:
        fit = fit_law(law, curves, WARMUPS * warmup)
        scaling.save(fit, root / "fits" / f"{law}.json")
        best = scaling.schedule(fit, steps=updates, warmup_steps=warmup, peak_lr=float(peak), level=seeds.LEVEL,
                                min_decay_steps=round(SHORTEST * (updates - warmup)))
        best.save(root / "schedules" / law)
        print(best.table())
        asked = {law: best.schedule, **rivals}
        found["losses"][law] = {name: final_loss(fit, rates, warmup, spread=spread, count=count)
                                for name, rates in asked.items()}
    files.replace_atomically(root / "forecast.json", (json.dumps(found, indent=1) + "\n").encode())


def mean_curve(name: str, runs: list[record.Run], from_step: int) -> scaling.Curve:
    """Returns the mean over seeds of a schedule's held-out curves from an update on."""
    first = curve_of(runs[0])
    keep = ~np.isnan(first.losses) & (first.steps >= from_step)
    losses = np.mean([curve_of(run).losses[keep] for run in runs], axis=0)
    return scaling.Curve(name=name, schedule=first.schedule, steps=first.steps[keep], losses=losses, facts=first.facts)


def seed_spread(runs: Mapping[str, list[record.Run]]) -> tuple[float, int]:
    """Returns the standard deviation of final losses between seeds, pooled over schedules, and the fewest seeds."""
    count = min(map(len, runs.values()))
    if count < 2:
        raise InputError("runs: fewer than two seeds of a fitted schedule finished: no spread between seeds")
    off = [np.array([run.heldout_loss for run in group]) for group in runs.values()]
    squares = sum(float(np.sum((losses - losses.mean()) ** 2)) for losses in off)
    return float(np.sqrt(squares / sum(losses.size - 1 for losses in off))), count


def fit_law(law: str, curves: list[scaling.Curve], from_step: int) -> scaling.Fit:
    """Returns the law fitted to the curves, the annealing law at the lambda, of the quick start's, that fits best."""
    recipe = {"unit": "nats/token", "from_step": from_step}
    settings = {}
    if law == "annealing":
        tried = [scaling.fit_curves(law, curves, settings={"lambda": value}, **recipe)
                 for value in quickstart_report.LAMBDAS]
        settings = min(tried, key=lambda fit: fit.objective).settings
    return scaling.fit_curves(law, curves, settings=settings, draws=DRAWS, **recipe)


def final_loss(fit: scaling.Fit, rates: np.ndarray, warmup: int, *, spread: float, count: int) -> dict[str, float]:
    """Returns the predicted loss after the last update, its interval, and the law's part of that."""
    at = scaling.predict_curve(fit, rates, rates.size - 1, level=seeds.LEVEL, warmup_steps=warmup)
    point, low, high = float(at.point[0]), float(at.low[0]), float(at.high[0])
    # Schedules share seeds, so the spread is known no better than from one of them: count - 1 degrees of freedom.
    half = stats.t.ppf(0.5 + seeds.LEVEL / 2, count - 1) * spread * np.sqrt(1 + 1 / count)
    return {"predicted": point, "low": point - float(np.hypot(point - low, half)),
            "high": point + float(np.hypot(high - point, half)), "law_low": low, "law_high": high}
