"""Published claims about schedules, each held against the records: true, false or undecided by three seeds."""

from collections.abc import Mapping, Sequence

import numpy as np
import seeds
from schedules_rows import Row, difference, loss_at

from scaling import record

WITHIN = 0.01  # nats: how near is "the same"
STEEPER = 3  # how many times the loss falls faster in a decay than without it


def check(rows: Mapping[str, Row], budgets: Sequence[int]) -> list[dict[str, str]]:
    """Returns a line per claim whose schedules are there: what is claimed, the figures, the verdict.

    Each is true, false or undecided by the interval of its figure at each budget, in one word where they agree.
    """
    every = range(len(budgets))
    found = []
    if "wsd" in rows:
        same = [difference(rows["wsd"], rows["cosine"], k) for k in every]
        found.append(told(f"WSD ends within {WITHIN} nats of cosine (Haegele et al. 2024)", same,
                          [interval_within(*one) for one in same]))
        drops = [seeds.interval(np.array([steepness(runs, budget) for runs in rows["wsd"].runs.values()]))
                 for budget in budgets]
        found.append(told(f"the loss falls more than {STEEPER} times as far in the decay as on the trunk meanwhile "
                          "(difference of the falls)", drops, [above(*one) for one in drops]))
    if {"wsd", "wsd_linear"} <= set(rows):
        shapes = [difference(rows["wsd"], rows["wsd_linear"], k) for k in every]
        found.append(told("a 1-sqrt decay ends no higher than a linear one (Haegele et al. 2024)", shapes,
                          [below(*one) for one in shapes]))
    if {"wsd", "wsd_s"} <= set(rows):
        late = [seeds.interval(later(rows["wsd_s"], rows["wsd"], k)) for k in every]
        found.append(told("WSD-S ends no higher than WSD at equal total compute (Wen et al. 2024)", late,
                          [below(*one) for one in late]))
    if {"linear", "linear_10"} <= set(rows):
        gaps = [difference(rows["linear_10"], rows["linear"], k) for k in every]
        found.append(told("linear to zero ends below linear to 10% (Bergsma et al. 2025)", gaps,
                          [above(*one) for one in gaps]))
        falls = [{seed: loss[0] - loss[-1] for seed, loss in rows[name].losses.items()}
                 for name in ("linear", "linear_10")]
        growth = seeds.interval(seeds.paired("linear", *falls))
        found.append(told("that gap grows with tokens (longest budget minus shortest)", [growth], [above(*growth)]))
    return found


def told(claim: str, figures: Sequence[tuple[float, float]], verdicts: Sequence[str]) -> dict[str, str]:
    """Returns a line of the table."""
    shown = ", ".join(seeds.with_interval(*one, signed=True) for one in figures)
    return {"claim": claim, "by budget (nats)": shown,
            "verdict": ", ".join(verdicts if len(set(verdicts)) > 1 else verdicts[:1])}


def below(mean: float, half: float) -> str:
    """Says whether a difference is below zero: "true", "false" or "undecided"."""
    return "true" if mean + half < 0 else "false" if mean - half > 0 else "undecided"


def above(mean: float, half: float) -> str:
    """Says whether a difference is above zero."""
    return below(-mean, half)


def interval_within(mean: float, half: float) -> str:
    """Says whether a difference is smaller than `WITHIN`."""
    return "true" if abs(mean) + half < WITHIN else "false" if abs(mean) - half > WITHIN else "undecided"


def steepness(runs: Sequence[record.Run], budget: int) -> float:
    """Returns how much further the loss falls in the decay to a budget than `STEEPER` times its fall on the trunk."""
    trunk = runs[0]
    branch = next(run for run in runs[1:] if len(run.schedule) == budget)
    start = loss_at((trunk,), branch.identity["parent"]["step"])
    return (start - loss_at((branch,), budget)) - STEEPER * (start - loss_at((trunk,), budget))


def later(cycles: Row, wsd: Row, k: int) -> np.ndarray:
    """Returns by seed the loss of the WSD-S run whose ends are at WSD's compute, minus WSD's at budget `k`."""
    late = {seed: next(run for run in runs if "-late-" in run.name) for seed, runs in cycles.runs.items()}
    losses = {seed: loss_at((run,), run.identity["config"]["schedule"]["ends"][k]) for seed, run in late.items()}
    return seeds.paired(cycles.name, losses, {seed: loss[k] for seed, loss in wsd.losses.items()})
