"""Tables, claims and picture of the study of schedules; reads nothing but the records."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import schedules_claims as claims
import seeds
from schedules_rows import Row, difference, read

from jaxlm.sweep import Compute, RateGrid
from scaling import record
from scaling.errors import InputError

BASELINE = "cosine"
LABELS = {"constant": "constant", "wsd": "WSD, 1-sqrt", "wsd_linear": "WSD, linear", "wsd_s": "WSD-S",
          "cosine": "cosine", "linear": "linear to 0", "linear_10": "linear to 10%", "cyclic_cosine": "cyclic cosine",
          "schedule_free": "schedule-free"}


def draw(root: Path, *, grid: RateGrid, budgets: tuple[int, ...], accounts: Mapping[str, Compute]) -> None:
    """Writes table.csv, claims.csv, report.md and schedules.png into the study's folder; prints the tables."""
    rows = sorted(read(root, grid, budgets, accounts), key=lambda row: row.table.mean())
    by_name = {row.name: row for row in rows}
    if BASELINE not in by_name:
        raise InputError(f"runs: no finished runs of {BASELINE}, which the others are compared with")
    tokens = [budget * rows[0].runs[next(iter(rows[0].runs))][0].batch_tokens for budget in budgets]
    finals = [line(row, tokens) for row in rows]
    differences = [compared(row, by_name[BASELINE], tokens) for row in rows if row.name != BASELINE]
    checks, notes = claims.check(by_name, budgets), findings(rows, by_name[BASELINE], tokens)
    joined = {row["schedule"]: row for row in differences}
    seeds.write_csv(root / "table.csv", [row | joined.get(row["schedule"], dict.fromkeys(differences[0], "") | row)
                                         for row in finals])
    seeds.write_csv(root / "claims.csv", checks)
    plot(rows, by_name[BASELINE], tokens, path=root / "schedules.png")
    (root / "report.md").write_text(
        setting(root, tokens) + "\n\n![Losses along the way, at the budgets, by rate and by cost](schedules.png)\n\n"
        + seeds.markdown_table(finals) + f"\nMinus {LABELS[BASELINE]}, paired by seed:\n\n"
        + seeds.markdown_table(differences) + "\n" + seeds.markdown_table(checks) + "\n"
        + "".join(f"* {note}\n" for note in notes))
    for table in (finals, differences, checks):
        seeds.print_table(table)
        print()
    print("\n".join(notes))
    print(f"report: {root / 'report.md'}; picture: schedules.png; tables: table.csv, claims.csv")


def line(row: Row, tokens: Sequence[int]) -> dict[str, str]:
    """Returns one line of the table of losses and costs."""
    losses = {f"loss at {count / 1e6:.2f}M": seeds.with_interval(*seeds.interval(row.table[:, k]))
              for k, count in enumerate(tokens)}
    return {"schedule": LABELS[row.name], "peak rate": f"{row.rate:g}"} | losses | {
        "tokens, all budgets": f"{row.account.total.tokens / 1e6:.2f}M", "of separate runs": f"{row.account.share:.0%}"}


def compared(row: Row, baseline: Row, tokens: Sequence[int]) -> dict[str, str]:
    """Returns one line of the table of differences with their verdicts."""
    cells = {"schedule": LABELS[row.name]}
    for k, count in enumerate(tokens):
        found = difference(row, baseline, k)
        cells[f"at {count / 1e6:.2f}M"] = f"{seeds.with_interval(*found, signed=True)} {seeds.verdict(*found)}"
    return cells


def findings(rows: list[Row], baseline: Row, tokens: Sequence[int]) -> list[str]:
    """Returns nulls, reversals and what limits them, in words."""
    others = [row for row in rows if row is not baseline]
    verdicts = {row.name: [seeds.verdict(*difference(row, baseline, k)) for k in range(len(tokens))] for row in others}
    notes = []
    for k, count in enumerate(tokens):
        nulls = [LABELS[name] for name, found in verdicts.items() if found[k] == "null"]
        notes.append(f"Not told apart from {LABELS[baseline.name]} at {count / 1e6:.2f}M tokens: "
                     f"{', '.join(nulls) or 'none'}.")
    turned = [LABELS[name] for name, found in verdicts.items() if {"lower", "higher"} <= set(found)]
    notes.append(f"Lower than {LABELS[baseline.name]} at one budget, higher at another: {', '.join(turned) or 'none'}.")
    cheap = [row for row in rows if row.account.share < 0.999]
    notes.append("Lowest mean over the budgets: " + LABELS[rows[0].name] + (
        f"; of those that share updates {LABELS[cheap[0].name]}, in {cheap[0].account.share:.0%} of the compute of "
        "separate runs." if cheap else "."))
    missing = [LABELS[row.name] for row in rows if len(row.runs) < len(baseline.runs)]
    if missing:
        notes.append(f"Seeds missing because a run did not finish: {', '.join(missing)}.")
    count = len(others) * len(tokens)
    notes.append(f"Intervals: {seeds.LEVEL:.0%}, t over {len(baseline.runs)} seeds, differences paired by "
                 f"seed; of {count} comparisons about {(1 - seeds.LEVEL) * count:.0f} would show a difference by chance alone. "
                 "One rate a schedule serves all its budgets, picked on the first seed.")
    return notes


def setting(root: Path, tokens: Sequence[int]) -> str:
    """Returns what all runs share, in a few sentences."""
    run = record.read(record.find(root)[0])
    config, counts = run.identity["config"], run.identity["params"]
    budgets = ", ".join(f"{count / 1e6:.2f}" for count in tokens)
    return (f"{counts['total']:,} parameters ({config['model']['layers']} layers of width {config['model']['width']}), "
            f"budgets of {budgets} million tokens of {run.identity['corpus']['name']}, {run.batch_tokens} an update, "
            f"{config['schedule']['warmup']} updates of warm-up, clipping at {config['clip_norm']:g}, no weight decay. "
            "Losses in nats per byte on held-out text. One size, one text, one batch: nothing here says what happens "
            "at another.")


def path_to(runs: Sequence[record.Run]) -> tuple[np.ndarray, np.ndarray]:
    """Returns tokens and held-out losses along the last run and, before it, the trunk that it left."""
    last = runs[-1]
    parent = last.identity["parent"]
    chain = [last] if parent is None else [run for run in runs if run.folder.name == parent["run"]] + [last]
    points: dict[int, float] = {}
    for run in chain:
        before = run.metrics["step"] < (parent["step"] if parent and run is not last else np.inf)
        seen = np.isfinite(run.metrics["heldout_loss"]) & before
        points |= dict(zip(run.metrics["tokens"][seen].tolist(), run.metrics["heldout_loss"][seen].tolist()))
    return np.array(sorted(points)), np.array([points[at] for at in sorted(points)])


def plot(rows: list[Row], baseline: Row, tokens: Sequence[int], *, path: Path) -> None:
    """Draws the losses along the way to the longest budget, the differences, the grids, and loss against cost."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 9), layout="constrained")
    (way, differences), (grids, costs) = figure.subplots(2, 2)
    marks: list[Any] = ["o", "s", "^", "v", "D", "P", "X", "<", ">"]
    best = min(row.table[:, -1].mean() for row in rows)
    for i, name in enumerate(LABELS):
        for row in (row for row in rows if row.name == name):
            style = {"color": f"C{i}", "marker": marks[i], "markersize": 5}
            paths = [path_to(runs) for runs in row.runs.values()]
            way.plot(paths[0][0] / 1e6, np.mean([loss for _, loss in paths], axis=0), **style | {"markersize": 3},
                     label=LABELS[name])
            grids.plot(list(row.grid), list(row.grid.values()), **style)
            costs.errorbar(row.account.total.tokens / 1e6, row.table.mean(),
                           yerr=seeds.interval(row.table.mean(axis=1))[1], capsize=3, **style, linestyle="")
            if row is not baseline:
                found = [difference(row, baseline, k) for k in range(len(tokens))]
                shift = 1 + 0.02 * (i - 4)  # side by side, not one over the other
                differences.errorbar(np.array(tokens) / 1e6 * shift, [mean for mean, _ in found],
                                     yerr=[half for _, half in found], capsize=2, **style, linewidth=1)
    way.set(xlabel="tokens (millions)", ylabel="held-out loss (nats per byte)", ylim=(best - 0.05, best + 0.8),
            title="on the way to the longest budget")
    for at in tokens:
        way.axvline(at / 1e6, color="0.8", linewidth=1, zorder=0)
    differences.axhline(0, color="0.5", linewidth=1)
    differences.set(xscale="log", xlabel="budget (million tokens)", ylabel=f"loss minus {LABELS[baseline.name]}",
                    title=f"at the budgets, {seeds.LEVEL:.0%} intervals")
    differences.set_xticks(np.array(tokens) / 1e6, [f"{at / 1e6:.2f}" for at in tokens])
    differences.minorticks_off()
    lowest = min(min(row.grid.values()) for row in rows)
    grids.set(xscale="log", xlabel="peak rate", ylabel="mean loss of the budgets", title="rate grids, first seed",
              ylim=(lowest - 0.03, lowest + 0.5))
    tried = sorted({rate for row in rows for rate in row.grid})
    grids.set_xticks(tried, [f"{rate:g}" for rate in tried])
    grids.minorticks_off()
    costs.set(xlabel="tokens for all budgets together (millions)", ylabel="mean loss of the budgets",
              title="what the three results cost")
    figure.legend(*way.get_legend_handles_labels(), loc="outside lower center", ncols=9, fontsize=9)
    figure.savefig(path, dpi=100)
