"""Report of the study of refinement: table, pictures and words; reads nothing but what the study left in its folder."""

import dataclasses
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import seeds
from testbeds import logistic

from jaxlm.recipes import RefinedRun, refine
from jaxlm.schedules.refinement import SPAN
from jaxlm.sweep import RateGrid
from scaling import record
from scaling.errors import InputError

BASELINE, BY_HAND = "linear", "linear, warm-up"
BYTE_MODEL = "byte model"


def refined(times: int) -> str:
    """The name of the arm that was refined so often."""
    return "refined" if times == 1 else f"refined {times} times"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One schedule in one setting.

    Attributes:
      setting: a regime of the testbed, or the byte model.
      schedule: its name.
      rate: its best peak rate.
      final: by seed, what is compared: 1000 times the excess loss of a testbed, or the held-out loss.
      spans: of the smoothed norms that it was refined by, () for a schedule that was not.
      runs: of the byte model, by seed.
      grid: of the byte model, loss by rate of the first seed.
      origins: of the byte model, what its schedules were refined from, by seed.
    """

    setting: str
    schedule: str
    rate: float
    final: Mapping[int, float]
    spans: tuple[float, ...] = ()
    runs: Mapping[int, record.Run] = dataclasses.field(default_factory=dict)
    grid: Mapping[float, float] = dataclasses.field(default_factory=dict)
    origins: Mapping[int, RefinedRun] = dataclasses.field(default_factory=dict)


def write_beds(beds: Sequence[logistic.Bed], root: Path) -> None:
    """Writes what the testbeds measured: testbeds.json and testbeds.png."""
    (root / "testbeds.json").write_text(json.dumps([bed.to_dict() for bed in beds], indent=1) + "\n")
    logistic.plot(beds, root / "testbeds.png")


def draw(root: Path, *, grids: Sequence[RateGrid]) -> None:
    """Writes table.csv, report.md and byte_model.png into the study's folder; prints table and findings."""
    beds = json.loads((root / "testbeds.json").read_text())
    model = byte_model(root, grids)
    entries = [*bed_entries(beds), *model]
    lines = [line(entry, base(entries, entry)) for entry in entries]
    notes = [*findings(entries), *bounds(beds), *emerged(model)]
    seeds.write_csv(root / "table.csv", lines)
    plot(model, root / "byte_model.png")
    (root / "report.md").write_text(markdown(model, lines, notes, beds))
    seeds.print_table(lines)
    print("\n".join(notes))
    print(f"report: {root / 'report.md'}; pictures: testbeds.png, byte_model.png; table: table.csv")


def bed_entries(beds: Sequence[Mapping[str, Any]]) -> list[Entry]:
    """Returns the entries of the testbeds."""
    return [Entry(setting=f"logistic, {bed['problem']['name']}", schedule=name, rate=arm["peak"],
                  final={seed: 1e3 * value for seed, value in enumerate(arm["final"])},
                  spans=tuple(_infinite(found["span"]) for found in arm["refinements"]))
            for bed in beds for name, arm in bed["arms"].items()]


def byte_model(root: Path, grids: Sequence[RateGrid]) -> list[Entry]:
    """Returns the entries of the byte model; raises `InputError` where one has fewer than two finished seeds."""
    entries: list[Entry] = []
    before = BASELINE  # what the next refined schedule was made from
    for grid in grids:
        for name in grid.arms:
            best = grid.best(root, name)
            runs = {seed: found[-1] for seed, found in grid.finished(root, name, best).items()}
            if len(runs) < 2:
                raise InputError(f"{name}: fewer than two seeds finished at its best rate {best:g}")
            origins: dict[int, RefinedRun] = {}
            if name not in (BASELINE, BY_HAND):
                sources = next(entry.runs for entry in entries if entry.schedule == before)
                origins, before = {seed: _refine(sources[seed]) for seed in runs}, name
            entries.append(Entry(
                setting=BYTE_MODEL, schedule=name, rate=best,
                final={seed: run.heldout_loss for seed, run in runs.items()},
                spans=tuple(found.refinement.span for found in origins.values()), runs=runs,
                grid=grid.scores(root, name), origins=origins))
    return entries


def _refine(run: record.Run) -> RefinedRun:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the report says them
        return refine(run)


def _infinite(value: float | None) -> float:
    return float("inf") if value is None else value


def base(entries: Sequence[Entry], entry: Entry) -> Entry:
    """Returns linear decay in the same setting."""
    return next(other for other in entries if (other.setting, other.schedule) == (entry.setting, BASELINE))


def difference(entry: Entry, other: Entry) -> tuple[float, float]:
    """Returns the mean of the differences paired by seed, and the half-width of its interval."""
    return seeds.interval(seeds.paired(f"{entry.setting}, {entry.schedule}", entry.final, other.final))


def line(entry: Entry, baseline: Entry) -> dict[str, str]:
    """Returns one line of the table."""
    own = entry is baseline
    found = (0.0, 0.0) if own else difference(entry, baseline)
    return {"setting": entry.setting, "schedule": entry.schedule, "peak rate": f"{entry.rate:.3g}",
            "loss": seeds.with_interval(*seeds.interval(np.array(list(entry.final.values())))),
            f"minus {BASELINE}": "" if own else seeds.with_interval(*found, signed=True),
            "verdict": "" if own else seeds.verdict(*found),
            "norms span": f"{min(entry.spans):.3g} to {max(entry.spans):.3g}" if entry.spans else "",
            "guard warned": f"{sum(span > SPAN for span in entry.spans)} of {len(entry.spans)}" if entry.spans else ""}


def findings(entries: Sequence[Entry]) -> list[str]:
    """Returns in words what the intervals show of the refined schedules, and whether the guard saw it coming."""
    notes = []
    for entry in (entry for entry in entries if entry.spans):
        found = difference(entry, base(entries, entry))
        word = {"lower": "ends lower than", "higher": "ends HIGHER than", "null": "is not told apart from"}[
            seeds.verdict(*found)]
        warned = sum(span > SPAN for span in entry.spans)
        notes.append(f"{entry.setting}: {entry.schedule} {word} linear decay, "
                     f"{seeds.with_interval(*found, signed=True)}; the guard warned of {warned} of {len(entry.spans)} "
                     "refinements.")
    by_hand = next((entry for entry in entries if entry.schedule == BY_HAND), None)
    for entry in (entry for entry in entries if by_hand and entry.spans and entry.setting == by_hand.setting):
        found = difference(entry, by_hand)
        word = {"lower": "lower than", "higher": "higher than", "null": "not told apart from"}[seeds.verdict(*found)]
        notes.append(f"{entry.setting}: {entry.schedule} is {word} linear decay with a warm-up by hand, "
                     f"{seeds.with_interval(*found, signed=True)}.")
    plain = [entry for entry in entries if entry.schedule.startswith("refined") and "," not in entry.schedule]
    wrong = [f"{entry.setting} ({entry.schedule})" for entry in plain if entry.spans
             and (seeds.verdict(*difference(entry, base(entries, entry))) == "higher") != _guarded(entry)]
    notes.append("The guard and the measurement " + (
        f"disagree in: {'; '.join(wrong)}." if wrong else "agree: without floor or cap, refinement lost to linear "
        "decay where it warned of most seeds, and nowhere else."))
    return notes


def _guarded(entry: Entry) -> bool:
    return 2 * sum(span > SPAN for span in entry.spans) > len(entry.spans)


def bounds(beds: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the testbed's check against theory in words."""
    return [f"logistic, {bed['problem']['name']}, T = {updates}: linear decay from D/(G sqrt T) = {eta:.3g} ends "
            f"{1e3 * excess:.2f}e-3 above f*, {'within' if excess <= bound else 'ABOVE'} the bound D G/sqrt T = "
            f"{1e3 * bound:.1f}e-3."
            for bed in beds for updates, (eta, excess, bound) in bed["bounds"].items()]


def emerged(model: Sequence[Entry]) -> list[str]:
    """Returns where warm-up and annealing emerged on the byte model, and what the guard said there."""
    notes = []
    for entry in (entry for entry in model if entry.origins):
        found = [origin.refinement for origin in entry.origins.values()]
        warmups, falls, first, means = (np.array(column) for column in zip(*(
            (each.warmup / each.rates.size, each.annealing / each.rates.size, each.rates[0], each.rates.mean())
            for each in found), strict=True))
        notes.append(
            f"{entry.schedule}: over {len(found)} seeds the peak is at {_percent(warmups)} of the run, the first rate "
            f"{first.min():.2f} to {first.max():.2f} of it; below 90% of the peak for good from {_percent(falls)} "
            f"(linear decay from 10%); mean rate {means.min():.2f} to {means.max():.2f} of the peak (0.50).")
        told = {text for origin in entry.origins.values() for text in origin.warnings}
        notes += [f"{entry.schedule}, warned: {text}" for text in sorted(told)]
    return notes


def _percent(values: np.ndarray) -> str:
    return f"{values.min():.1%} to {values.max():.1%}"


def markdown(model: Sequence[Entry], lines: Sequence[Mapping[str, str]], notes: Sequence[str],
             beds: Sequence[Mapping[str, Any]]) -> str:
    """Returns the report as text."""
    run = next(iter(model[0].runs.values()))
    config, counts = run.identity["config"], run.identity["params"]
    head = (
        f"Byte model: {counts['total']:,} parameters, {run.identity['tokens_per_update'] * config['updates']:,} tokens "
        f"of {run.identity['corpus']['name']} in {config['updates']} updates, {config['optimizer']['kind']}, clipping at "
        f"{config['clip_norm']:g}, no weight decay; loss in nats per byte on held-out text, {len(model[0].final)} "
        "seeds. Logistic regression: 1000 times the excess of the last iterate's loss over f*, "
        f"{len(beds[0]['optimum'])} seeds. Each schedule at its own best peak rate, strictly inside one grid of factors "
        "of sqrt 2. A refined run costs the run before it too, which the table does not count.\n\n"
        "![The byte model](byte_model.png)\n\n![Both regimes of logistic regression](testbeds.png)\n\n")
    tail = (f"Intervals: {seeds.LEVEL:.0%}, t over seeds, differences paired by seed; rates were picked on the first "
            "seed (testbeds: on the mean of all).")
    return head + seeds.markdown_table(lines) + "\n" + "\n".join(f"* {note}" for note in [*notes, tail]) + "\n"


def plot(model: Sequence[Entry], path: Path) -> None:
    """Draws norms, schedules, the loss minus that of linear decay along the run, and the grids."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7.6), layout="constrained")
    (norms, rates), (gaps, grids) = figure.subplots(2, 2)
    for i, entry in enumerate(model):
        style = {"color": f"C{i}", "linewidth": 1.3}
        for j, (seed, run) in enumerate(entry.runs.items()):
            label = {"label": entry.schedule} if j == 0 else {}
            rates.plot(run.schedule, alpha=1 if j == 0 else 0.3, **style, **label)
            if seed in entry.origins:
                norms.plot(entry.origins[seed].refinement.norms, alpha=1 if j == 0 else 0.3, **style,
                           **({"label": f"smoothed, for {entry.schedule}"} if j == 0 else {}))
        _draw_gap(gaps, entry, model[0], style)
        grids.plot(list(entry.grid), list(entry.grid.values()), "o-", markersize=4, label=entry.schedule, **style)
    first = next(entry for entry in model if entry.origins)
    raw = next(iter(first.origins.values()))
    norms.plot(raw.norms, color="0.8", linewidth=0.6, zorder=0, label="of each update, first seed")
    norms.set(yscale="log", xlabel="update", ylabel=f"gradient {raw.norm} norm before clipping",
              title="norms of the runs that were refined, by seed")
    rates.set(xlabel="update", ylabel="learning rate", title="schedules at their best rates, by seed")
    gaps.set(xlabel="tokens (millions)", ylabel="held-out loss minus linear decay's",
             title=f"along the run: mean and range of {len(model[0].runs)} seeds")
    gaps.axhline(0, color="0.6", linewidth=0.8)
    grids.set(xscale="log", xlabel="peak rate", ylabel="held-out loss", title="rate grids, first seed")
    norms.legend(frameon=False, fontsize=8)
    rates.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


def _draw_gap(axes: Any, entry: Entry, baseline: Entry, style: Mapping[str, Any]) -> None:
    both = [seed for seed in entry.runs if seed in baseline.runs]
    if entry is baseline or not both:
        return
    seen = np.isfinite(entry.runs[both[0]].metrics["heldout_loss"])
    tokens = entry.runs[both[0]].metrics["tokens"][seen]
    gap = np.stack([entry.runs[seed].metrics["heldout_loss"][seen] - baseline.runs[seed].metrics["heldout_loss"][seen]
                    for seed in both])
    axes.plot(tokens / 1e6, gap.mean(axis=0), "o-", markersize=3, **style)
    axes.fill_between(tokens / 1e6, gap.min(axis=0), gap.max(axis=0), color=style["color"], alpha=0.15)
