"""What the study of learning rate and batch shows, in words that follow from its figures."""

from collections.abc import Sequence

import lr_batch_grid as grids
import lr_batch_laws as laws
import lr_batch_seen as seen
import numpy as np
import quickstart
import seeds
from lr_batch_seen import Seen

import scaling
from scaling.laws import batch_rate
from scaling.laws.hyperparameter_rules import Recommendation

EXPONENTS = ("lr_N", "lr_D", "batch_N", "batch_D")
SLOPES = {"no dependence": 0.0, "square root": batch_rate.ADAM, "linear": batch_rate.SGD}


def findings(
    everything: Sequence[Seen], own: Sequence[Recommendation], fits: dict[str, scaling.Fit | None]
) -> list[str]:
    """Returns in words what the figures show, nulls and reversals as such."""
    larger = everything[-1]
    return [*_positions(everything), *_prediction(larger, own), *_against(larger, own), *_rules(everything),
            *_exponents(fits), *_slope(fits["batch_rate_cells"]), *_caveats(everything)]


def _positions(everything: Sequence[Seen]) -> list[str]:
    places = {seen.title(one): one.cell.position(one.found) for one in everything}
    other = [f"{name} ({place})" for name, place in places.items() if place != grids.INSIDE]
    count = len(places) - len(other)
    return [f"Best strictly inside in rate and batch in {count} of {len(places)} cells" + (
        f"; not so: {', '.join(other)}." if other else ".")]


def _prediction(larger: Seen, own: Sequence[Recommendation]) -> list[str]:
    """What the own laws' points cost in the cell that they had not seen, and whether their intervals hold its best."""
    notes = []
    for row in own:
        cost = seen.regret(larger, row)
        if cost is None:
            continue
        shown = {"lower": "below the grid's best: a reversal", "null": "not told apart from it",
                 "higher": "told apart from it"}
        verdict = "" if np.isnan(cost.half) else shown[seeds.verdict(cost.mean, cost.half)]
        said = f", {verdict} by {len(larger.cell.seeds)} seeds" if verdict else ""
        inside = {"rate": (row.lr_interval, larger.best.rate),
                  "batch": (row.batch_interval, larger.best.batch * quickstart.SEQUENCE)}
        held = [f"the best {name} lies {'inside' if ends[0] <= at <= ends[1] else 'outside'} its {laws.LEVEL:.0%} "
                f"interval {ends[0]:.3g} to {ends[1]:.3g}{unit}"
                for name, (ends, at) in inside.items() if ends for unit in [" tokens" if name == "batch" else ""]]
        batch = row.batch_tokens / quickstart.SEQUENCE
        notes.append(f"{row.rule} put the larger cell's best at {row.lr:.3g} x {batch:.3g} sequences before it was "
                     f"trained; that point costs {cost} over the best found, {larger.best.rate:g} x {larger.best.batch}"
                     f"{said}; {'; '.join(held) or 'it has no intervals'}. Range: {row.in_range}.")
    return notes


def _against(larger: Seen, own: Sequence[Recommendation]) -> list[str]:
    """Whether the first own law beats each trained published rule in the larger cell."""
    points = laws.points(larger.rules, top=larger.cell.top)
    mine = laws.points(own[:1], top=larger.cell.top).get(own[0].rule)
    verdicts: dict[str, list[str]] = {"lower": [], "null": [], "higher": []}
    for name, at in points.items():
        both = sorted(set(larger.found.get(at, {})) & set(larger.found.get(mine, {})))
        if name.endswith("(fit)") or len(both) < 2 or at == mine:
            continue
        gaps = np.array([larger.found[mine][seed] - larger.found[at][seed] for seed in both])
        if np.isfinite(gaps).all():
            mean, half = seeds.interval(gaps)
            verdicts[seeds.verdict(mean, half)].append(f"{name} ({seeds.with_interval(mean, half, signed=True)})")
        else:
            verdicts["lower"].append(f"{name} (diverged)")
    words = {"lower": "lower than at", "null": "not told apart from", "higher": "HIGHER than at"}
    said = [f"{words[verdict]} {', '.join(names)}" for verdict, names in verdicts.items() if names]
    head = f"Loss at the point of {own[0].rule} in the larger cell, nats per byte, paired by seed: "
    return [f"{head}{'; '.join(said)}."] if said else []


def _rules(everything: Sequence[Seen]) -> list[str]:
    """The published rules over all cells, and how far outside their range they are asked."""
    costs: dict[str, list[float]] = {}
    for one in everything:
        for row in one.rules:
            cost = None if row.rule.endswith("(fit)") else seen.regret(one, row)
            if cost is not None:
                costs.setdefault(row.rule, []).append(cost.mean)
    ranked = sorted(costs, key=lambda name: np.mean(costs[name]))
    means = ", ".join(f"{name} {np.mean(costs[name]):+.1%} (worst {max(costs[name]):+.1%})" for name in ranked)
    asked = [row for row in everything[-1].rules if not row.rule.endswith("(fit)")]
    inside = ", ".join(row.rule for row in asked if row.in_range == "inside") or "none"
    ranges = "; ".join(f"{row.rule}: {row.in_range}" for row in asked if row.in_range != "inside")
    return [f"Published rules, mean regret over {len(everything)} cells: {means}. A rule that gives one value only is "
            "scored with the other at its best, at the nearest value on the grid, which flatters it.",
            f"Inside the range that it was made for, in the larger cell: {inside}. The others: {ranges}."]


def _exponents(fits: dict[str, scaling.Fit | None]) -> list[str]:
    published = scaling.published("step_law", "li2025").params
    notes = []
    for law in laws.OWN:
        shared = [name for name in EXPONENTS if fits[law] and name in published and name in fits[law].params]
        known = {name: fits[law].interval(name, laws.LEVEL) for name in shared}
        where = {name: ends[0] <= published[name] <= ends[1] for name, ends in known.items() if ends}
        inside, outside = ([name for name, within in where.items() if within is side] for side in (True, False))
        if where:
            notes.append(f"Step Law's exponents against the intervals of {law}: inside {', '.join(inside) or 'none'}, "
                         f"outside {', '.join(outside) or 'none'}.")
    return notes


def _slope(fit: scaling.Fit | None) -> list[str]:
    if fit is None:
        return ["The slope of the best rate in the batch could not be fitted."]
    ends = fit.interval("lr_B", laws.LEVEL)
    if ends is None:
        return [f"Best rate ~ B^{fit.params['lr_B']:.2f} over the fitted cells, without an interval: {fit.bootstrap}."]
    held = [name for name, slope in SLOPES.items() if ends[0] <= slope <= ends[1]]
    apart = [name for name in SLOPES if name not in held]
    low, high = fit.ranges["B"]
    return [f"Best rate ~ B^p over the fitted cells, batches {low:,.0f} to {high:,.0f} tokens: "
            f"p = {seen.with_interval(fit, 'lr_B')}; holds {', '.join(held) or 'none of the claims'}; excludes "
            f"{', '.join(apart) or 'none'}. (Granziol et al. 2022: square root for Adam, linear for SGD, below the "
            "critical batch, of the largest stable rate rather than the best.)"]


def _caveats(everything: Sequence[Seen]) -> list[str]:
    sd = grids.noise([(one.found, one.cell.seeds) for one in everything])
    count = len(everything[0].cell.seeds)
    return [f"Runs that differ in the seed alone differ by {sd:.2%} (one standard deviation of log loss, the seeds' "
            f"common part taken out). Intervals of regrets and losses: {seeds.LEVEL:.0%}, t over {count} seeds, "
            "paired. The best was picked on the same seeds, which makes it look too low and every regret too large.",
            "Intervals of the laws resample the points within each cell; what all points of a cell share, and the "
            "error of the form, are not covered.",
            "One text, one schedule (warm-up, hold, a fifth of 1-sqrt cooldown to zero) and one weight decay, 0.1, at "
            "every batch: a rule made for another is judged outside its own terms."]
