"""What the study of continued training shows, in words that follow from the figures, beside what was published."""

from collections.abc import Mapping

import numpy as np
import seeds
from continual_rows import HOLD, INFINITE, JOINT, REWARM, Row, Shift, difference, label, told

# Ibrahim et al. 2024 (2403.08763), 405M parameters, as summarised elsewhere from table 2 of its fourth version: the
# shift, the loss on the old text by the share of replay, and that of the joint run.
PUBLISHED = {"bible": ("weak", {0.0: 2.44, 0.01: 2.26, 0.05: 2.23}, 2.17),
             "code": ("strong", {0.0: 3.56, 0.01: 2.83, 0.05: 2.57, 0.25: 2.33}, 2.26)}


def findings(rows: Mapping[str, Row], shift: Shift) -> list[str]:
    """Returns what the intervals show, a line for each comparison, with nulls and reversals named."""
    return [against_joint(rows), *along_replay(rows, shift), *beside_hold(rows, shift), *beside_infinite(rows, shift),
            forgetting(rows, shift), compute(rows), tried(rows)]


def against_joint(rows: Mapping[str, Row]) -> str:
    """Says which arms reach the run from scratch, by the mean of both losses."""
    found: dict[str, list[str]] = {"lower": [], "null": [], "higher": []}
    for name, row in rows.items():
        if name != JOINT:
            found[seeds.verdict(*difference(row, rows[JOINT], "mean"))].append(name)
    words = {"lower": "below it", "null": "not told apart from it", "higher": "above it"}
    parts = [f"{words[verdict]}: {'; '.join(names)}" for verdict, names in found.items() if names]
    reached = any(name.startswith(REWARM) for name in (*found["lower"], *found["null"]))
    return (f"Mean of both losses against retraining on both, {'. '.join(parts)}. Published: re-warming with enough "
            f"replay matches it{', as here.' if reached else '; NOT SHOWN HERE, no re-warming arm does.'}")


def along_replay(rows: Mapping[str, Row], shift: Shift) -> list[str]:
    """Says what each step up in replay does to both losses."""
    arms = [rows[name] for name in (label(REWARM, replay) for replay in shift.replays) if name in rows]
    if len(arms) < 2:
        return []
    notes = []
    shares = [arm.name.removeprefix(f"{REWARM}, ") for arm in arms]
    for text, name, wanted, published in (("old", shift.old, "lower", "falls"),
                                          ("new", shift.new, "higher", "rises a little")):
        steps = [difference(after, before, text) for before, after in zip(arms, arms[1:])]
        lines = [f"{a} to {b} {told(step)}" for a, b, step in zip(shares, shares[1:], steps)]
        whole = seeds.verdict(*difference(arms[-1], arms[0], text))
        moved = {"lower": "falls", "null": "is not told apart: a NULL", "higher": "rises"}[whole]
        against = any(seeds.verdict(*step) not in (wanted, "null") for step in steps)
        notes.append(f"Loss on {name} with more replay: {'; '.join(lines)}. From the least to the most it {moved}; "
                     f"published: it {published}.{' REVERSED in at least one step.' if against else ''}")
    named, losses, joint = PUBLISHED[shift.new]
    values = ", ".join(f"{loss:g} at {share:.0%}" for share, loss in losses.items())
    share = (losses[0.0] - losses[shift.chosen]) / (losses[0.0] - joint)
    notes.append(f"Published loss on the old text, {named} shift, 405M parameters: {values}, joint {joint:g}: at "
                 f"{shift.chosen:.0%} replay {share:.0%} of the gap from no replay to the joint run is closed; here "
                 f"{closed(rows, shift)}.")
    return notes


def closed(rows: Mapping[str, Row], shift: Shift) -> str:
    """Returns the share of the old text's gap, from no replay to the joint run, that the chosen replay closes."""
    none, chosen = rows.get(label(REWARM, 0.0)), rows.get(label(REWARM, shift.chosen))
    if none is None or chosen is None:
        return "an unknown share"
    forgot, kept, joint = (np.mean(list(row.final("old").values())) for row in (none, chosen, rows[JOINT]))
    return f"{(forgot - kept) / (forgot - joint):.0%}" if forgot > joint else "there is no gap"


def beside_hold(rows: Mapping[str, Row], shift: Shift) -> list[str]:
    """Says what re-warming does beside going on at the old last rate."""
    notes = []
    endings = {"lower": ", as here.", "null": "; a NULL here.", "higher": "; REVERSED here."}
    for replay in (0.0, shift.chosen):
        row, other = rows.get(label(REWARM, replay)), rows.get(label(HOLD, replay))
        if row is not None and other is not None:
            new, old = difference(row, other, "new"), difference(row, other, "old")
            notes.append(f"Re-warming minus holding the old last rate, {replay:.0%} replay: {shift.new} {told(new)}, "
                         f"{shift.old} {told(old)}. Published: re-warming learns the new text better"
                         f"{endings[seeds.verdict(*new)]}")
    return notes


def beside_infinite(rows: Mapping[str, Row], shift: Shift) -> list[str]:
    """Says what the infinite schedule does beside re-warming with the same replay."""
    row, other = rows.get(label(INFINITE, shift.chosen)), rows.get(label(REWARM, shift.chosen))
    if row is None or other is None:
        return []
    parts = [f"{name} {told(difference(row, other, text))}"
             for text, name in (("old", shift.old), ("new", shift.new), ("mean", "mean"))]
    mean = seeds.verdict(*difference(row, other, "mean"))
    words = {"lower": "better here", "null": "the same here within the interval", "higher": "worse here"}[mean]
    return [f"Infinite schedule minus re-warming, {shift.chosen:.0%} replay: {', '.join(parts)}: {words}. Published, "
            "only without a shift of text: about equal."]


def forgetting(rows: Mapping[str, Row], shift: Shift) -> str:
    """Says how far the old text's loss rises along the second phase, and where it ends."""
    parts = []
    for name, row in rows.items():
        if name != JOINT:
            along = row.losses[:, row.start - 1:, 0] - row.losses[:, row.start - 1:row.start, 0]
            parts.append(f"{name} {along.max(axis=1).mean():+.3f}, {along[:, -1].mean():+.3f}")
    return (f"Loss on {shift.old} along the second phase less that at its start, largest and last, mean of seeds: "
            f"{'; '.join(parts)}. The infinite schedule starts from a rate that has not been annealed.")


def compute(rows: Mapping[str, Row]) -> str:
    """Says what continuing costs beside retraining."""
    joint = rows[JOINT]
    row = next((row for name, row in rows.items() if name != JOINT), None)
    if row is None:
        return "No arm that continues finished."
    first = row.tokens[-1] - row.spent
    return (f"Given a trained first phase, continuing spends {row.spent / 1e6:.2f} M tokens and retraining on both "
            f"{joint.spent / 1e6:.2f} M ({row.flops / joint.flops:.0%} of the FLOPs); with the first phase, "
            f"{(first + row.spent) / 1e6:.2f} M against {(first + joint.spent) / 1e6:.2f} M. The search for rates "
            "comes on top and is not counted.")


def tried(rows: Mapping[str, Row]) -> str:
    """Lists the grids, each with its best strictly inside."""
    parts = [f"{name} {min(row.grid):g} to {max(row.grid):g}, best {min(row.grid, key=row.grid.get):g}"
             for name, row in rows.items() if row.grid]
    freedom = len(rows[JOINT].seeds) - 1
    return (f"Peak rates tried, in factors of two, scored by the mean of both losses on the first seed: "
            f"{'; '.join(parts)}. Intervals: {seeds.LEVEL:.0%}, t with {freedom} degrees of freedom over seeds, "
            "differences paired by seed.")
