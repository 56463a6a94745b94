"""Tables and pictures of the study of law-optimal schedules; reads nothing but records, fits and predictions."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optimal_schedule_forecast as forecast
import seeds

import scaling
from jaxlm.sweep import RateGrid
from jaxlm.train import RunConfig
from scaling import record
from scaling.errors import InputError
from scaling.readers import curve_of

Runs = dict[int, record.Run]
TITLES = {"multi_power": "best, multi-power law", "annealing": "best, annealing law", "wsd": "WSD", "cosine": "cosine",
          "linear": "linear"}
ENOUGH = 0.8  # of the seeds inside the interval: four of five


def draw(root: Path, *, arms: Callable[[Path], Mapping[str, tuple[RunConfig, ...]]], grid: RateGrid | None) -> None:
    """Writes table.csv, differences.csv, report.md and two pictures into the study's folder; prints the tables."""
    told = json.loads((root / "forecast.json").read_text())
    runs = {name: finished(root, configs) for name, configs in arms(root).items()}
    lines = [line(law, name, told, runs[name]) for law in forecast.LAWS for name in (law, *others(told, law))]
    gaps = [gap(law, name, told, runs) for law in forecast.LAWS for name in others(told, law)]
    gaps += own_rates(root, grid, runs) if grid is not None else []
    seeds.write_csv(root / "table.csv", lines)
    seeds.write_csv(root / "differences.csv", gaps)
    draw_schedules(runs, root / "schedules.png")
    draw_curves(root, told, runs, root / "curves.png")
    notes = [finding for law in forecast.LAWS for finding in findings(law, told, runs)]
    (root / "report.md").write_text(markdown(told, runs, lines, gaps=gaps, notes=notes))
    seeds.print_table(lines)
    seeds.print_table(gaps)
    print("\n".join(notes))
    print(f"report: {root / 'report.md'}; pictures: schedules.png, curves.png; tables: table.csv, differences.csv")


def finished(root: Path, configs: tuple[RunConfig, ...]) -> Runs:
    """Returns the finished runs by seed."""
    there = {config.seed: root / config.folder for config in configs}
    runs = {seed: record.read(folder) for seed, folder in there.items() if (folder / "run.json").exists()}
    done = {seed: run for seed, run in runs.items() if run.state == "finished"}
    if len(done) < 2:
        raise InputError(f"runs: fewer than two of {', '.join(path.name for path in there.values())} finished")
    return done


def others(told: Mapping[str, Any], law: str) -> list[str]:
    """Returns the schedules beside the law's own whose loss it predicted."""
    return [name for name in told["losses"][law] if name != law]


def finals(runs: Runs) -> np.ndarray:
    """Returns [seeds] the final held-out losses."""
    return np.array([run.heldout_loss for run in runs.values()])


def line(law: str, name: str, told: Mapping[str, Any], runs: Runs) -> dict[str, str]:
    """Returns one line of predicted against measured."""
    at, losses = told["losses"][law][name], finals(runs)
    return {"law": law.replace("_", "-"), "schedule": TITLES[name], "predicted": f"{at['predicted']:.4f}",
            f"{told['level']:.0%} interval": f"{at['low']:.4f} to {at['high']:.4f}",
            "measured": seeds.with_interval(*seeds.interval(losses)),
            "mean error": f"{losses.mean() - at['predicted']:+.4f}", "inside": f"{inside(at, losses)} of {losses.size}"}


def inside(at: Mapping[str, float], losses: np.ndarray) -> int:
    """Returns how many losses lie in the interval."""
    return int(np.sum((at["low"] <= losses) & (losses <= at["high"])))


def gap(law: str, name: str, told: Mapping[str, Any], runs: Mapping[str, Runs]) -> dict[str, str]:
    """Returns one line of the difference between a law's best schedule and another, predicted and measured."""
    losses = told["losses"][law]
    mean, half = seeds.interval(difference(runs[law], runs[name], law))
    return {"schedule": TITLES[law], "minus": TITLES[name],
            "predicted": f"{losses[law]['predicted'] - losses[name]['predicted']:+.4f}",
            "measured, paired": seeds.with_interval(mean, half, signed=True), "verdict": seeds.verdict(mean, half)}


def difference(runs: Runs, rival: Runs, name: str) -> np.ndarray:
    """Returns the differences of final losses, one for each seed that both have."""
    losses, baseline = ({seed: run.heldout_loss for seed, run in group.items()} for group in (runs, rival))
    return seeds.paired(name, losses, baseline)


def own_rates(root: Path, grid: RateGrid, runs: Mapping[str, Runs]) -> list[dict[str, str]]:
    """Returns the differences to the rivals each at the best rate of its own grid, which no law predicts."""
    lines = []
    for law in forecast.LAWS:
        for name in grid.arms:
            rate = grid.best(root, name)
            rival = {seed: found[-1] for seed, found in grid.finished(root, name, rate).items()}
            mean, half = seeds.interval(difference(runs[law], rival, law))
            lines.append({"schedule": TITLES[law], "minus": f"{TITLES[name]} at its own rate {rate:g}", "predicted": "",
                          "measured, paired": seeds.with_interval(mean, half, signed=True),
                          "verdict": seeds.verdict(mean, half)})
    return lines


def findings(law: str, told: Mapping[str, Any], runs: Mapping[str, Runs]) -> list[str]:
    """Returns in words whether the prediction held, if not why not as far as the figures tell, and the order."""
    at, losses = told["losses"][law][law], finals(runs[law])
    hits, title = inside(at, losses), TITLES[law]
    held = hits >= ENOUGH * losses.size
    notes = [f"{title}: predicted and measured final loss differ by less than the {told['level']:.0%} interval in "
             f"{hits} of {losses.size} seeds: {'the prediction holds' if held else 'the prediction fails'}."]
    if not held:
        notes.append(why(law, told, runs))
    verdicts = {name: seeds.verdict(*seeds.interval(difference(runs[law], runs[name], law)))
                for name in others(told, law)}
    better, null, worse = ([name for name, one in verdicts.items() if one == word]
                           for word in ("lower", "null", "higher"))
    notes.append(f"{title} at the same peak: " + "; ".join(
        f"{word} {', '.join(TITLES[name] for name in names)}" for word, names in
        (("below", better), ("above", worse), ("not told apart from", null)) if names) + ".")
    # A pair ties where the measured difference includes zero; an order is only judged on the others.
    order = [name for name in (*better, *worse)
             if (told["losses"][law][law]["predicted"] < told["losses"][law][name]["predicted"]) != (name in better)]
    if order:
        notes.append(f"The law predicted the opposite order against {', '.join(TITLES[name] for name in order)}.")
    doubts = runs[law][next(iter(runs[law]))].provenance.get("from", {}).get("warnings", [])
    return notes + [f"Said of it before it was trained: {doubt}." for doubt in doubts]


def why(law: str, told: Mapping[str, Any], runs: Mapping[str, Runs]) -> str:
    """Returns what the figures say of a prediction that failed."""
    predicted, losses = told["losses"][law], finals(runs[law])
    error, spread = losses - predicted[law]["predicted"], losses.std(ddof=1)
    text = [f"why: the mean error is {error.mean():+.4f}; the seeds differ by a standard deviation of {spread:.4f}, "
            f"those of the fitted runs by {told['seed_sd']:.4f}"]
    if np.all(error > 0) or np.all(error < 0):
        side = "above" if error[0] > 0 else "below"
        text.append(f"all seeds lie {side} the prediction, so that the law errs and not the noise")
    hits = {name: inside(predicted[name], finals(runs[name])) / len(runs[name]) for name in others(told, law)}
    missed, kept = ([name for name in hits if (hits[name] < ENOUGH) is out] for out in (True, False))
    if missed:
        text.append(f"it also misses {', '.join(TITLES[name] for name in missed)}")
    if kept:
        text.append(f"it holds for {', '.join(TITLES[name] for name in kept)}" + (
            ": it errs where it was optimised" if not missed else ""))
    return "; ".join(text) + "."


def markdown(told: Mapping[str, Any], runs: Mapping[str, Runs], lines: list[dict[str, str]], *,
             gaps: list[dict[str, str]], notes: list[str]) -> str:
    """Returns the report."""
    run = next(iter(runs["wsd"].values()))
    counts, corpus = run.identity["params"], run.identity["corpus"]
    head = (f"{counts['total']:,} parameters, {told['updates']} updates of {run.batch_tokens} tokens of "
            f"{corpus['name']} (digest {corpus['digest'][:16]}), peak rate {told['peak_lr']:.4g} for all, "
            f"{told['warmup']} updates of "
            f"warm-up. Fitted: the mean over {told['fitted_seeds']} seeds of a constant, a cosine and a two-step run. "
            f"Predicted, and then trained with {len(runs['wsd'])} other seeds: the best schedule under each law, WSD, "
            f"cosine, linear. Held-out losses in nats per byte.\n\nThe {told['level']:.0%} intervals of predictions "
            f"are for one run and cover {told['covers']}; between seeds the fitted runs differ by a standard deviation "
            "of "
            f"{told['seed_sd']:.4f}. Those of measured means and paired differences are t intervals over seeds.\n\n")
    return (head + "## Predicted and measured\n\n" + seeds.markdown_table(lines)
            + "\n## Differences, paired by seed\n\n" + seeds.markdown_table(gaps) + "\n"
            + "\n".join(f"* {note}" for note in notes)
            + "\n\n![The schedules](schedules.png)\n\n![Predicted and measured losses](curves.png)\n")


def draw_schedules(runs: Mapping[str, Runs], path: Path) -> None:
    """Draws the rates of all schedules."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    for index, (name, group) in enumerate(runs.items()):
        rates, best = next(iter(group.values())).schedule, name in forecast.LAWS
        axes.plot(rates, color=f"C{index}", lw=2.0 if best else 1.2, ls="-" if best else "--", label=TITLES[name])
    axes.set(xlabel="update", ylabel="learning rate", ylim=(0, None))
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=120)


def draw_curves(root: Path, told: Mapping[str, Any], runs: Mapping[str, Runs], path: Path) -> None:
    """Draws for each law the measured curve of its best schedule in the predicted band, and final losses beside it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7), layout="constrained")
    panels = figure.subplots(2, 2, width_ratios=(1.5, 1))
    for (curves, ends), law in zip(panels, forecast.LAWS):
        draw_curve(curves, root, told, law, runs[law])
        draw_ends(ends, told, law, runs)
    figure.savefig(path, dpi=110)


def draw_curve(axes: Any, root: Path, told: Mapping[str, Any], law: str, runs: Runs) -> None:
    """Draws one law's predicted band and the measured curves."""
    curves = [curve_of(run) for run in runs.values()]
    keep = ~np.isnan(curves[0].losses) & (curves[0].steps >= forecast.WARMUPS * told["warmup"])
    steps, fit = curves[0].steps[keep], scaling.load(root / "fits" / f"{law}.json")
    at = scaling.predict_curve(fit, curves[0].schedule, steps, level=told["level"], warmup_steps=told["warmup"])
    # The law's band along the curve, widened by the seeds as the final loss was.
    final = told["losses"][law][law]
    half = np.sqrt(max(0.0, (final["high"] - final["predicted"]) ** 2 - (final["law_high"] - final["predicted"]) ** 2))
    low, high = at.point - np.hypot(at.point - at.low, half), at.point + np.hypot(at.high - at.point, half)
    axes.fill_between(steps, low, high, color="C0", alpha=0.2, label=f"predicted, {told['level']:.0%}")
    axes.plot(steps, at.point, color="C0", lw=1.5, label="predicted")
    for index, curve in enumerate(curves):
        label = None if index else f"measured, {len(curves)} seeds"
        axes.plot(steps, curve.losses[keep], color="C1", lw=0.8, label=label)
    axes.set(xlabel="update", ylabel="held-out loss (nats per byte)", title=TITLES[law])
    axes.legend(fontsize=8, frameon=False)


def draw_ends(axes: Any, told: Mapping[str, Any], law: str, runs: Mapping[str, Runs]) -> None:
    """Draws one law's predicted final losses with the measured ones."""
    names = [law, *others(told, law)]
    for row, name in enumerate(names):
        at, losses = told["losses"][law][name], finals(runs[name])
        axes.plot([at["low"], at["high"]], [row, row], color="C0", lw=5, alpha=0.3, solid_capstyle="butt")
        axes.plot(at["predicted"], row, "|", color="C0", ms=14, mew=2)
        axes.plot(losses, row + np.linspace(-0.12, 0.12, losses.size), "o", color="C1", ms=4)
    axes.set_yticks(range(len(names)), [TITLES[name].replace(", ", ",\n") for name in names])
    axes.set(ylim=(len(names) - 0.5, -0.5), xlabel="final held-out loss (nats per byte)",
             title="predicted (bar) and measured (dots)")
    axes.locator_params(axis="x", nbins=5)
