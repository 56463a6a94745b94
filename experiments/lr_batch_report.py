"""Tables, words and picture of the study of learning rate and batch; reads the records and the prediction only."""

from collections.abc import Callable, Sequence
from pathlib import Path

import lr_batch_findings as words
import lr_batch_laws as laws
import lr_batch_plot as picture
import lr_batch_seen as seen
import numpy as np
import quickstart
import seeds
from lr_batch_grid import Cell
from lr_batch_seen import Seen

import scaling


def draw(root: Path, *, cells: Sequence[Cell], larger: Callable[[Path], Cell]) -> None:
    """Writes report.md, table.csv, points.csv and grids.png into the study's folder; prints the tables."""
    fits = {name: laws.load(root, name) for name in (*laws.OWN, "batch_rate_cells")}
    own = [fits[name] for name in laws.OWN if fits[name]]
    everything = [seen.see(root, one, own) for one in (*cells, larger(root))]
    cell_lines, rule_lines = [cell_line(one) for one in everything], rule_table(everything)
    notes = words.findings(everything, laws.read(root), fits)
    slope = fits["batch_rate_cells"]
    picture.plot(everything, slope, root / "grids.png")
    seeds.write_csv(root / "table.csv", long_table(everything))
    seeds.write_csv(root / "points.csv", point_table(everything))
    tables = [cell_lines, rule_lines, exponent_table(fits)]
    (root / "report.md").write_text(markdown(everything, tables, notes))
    for lines in tables:
        if lines:
            seeds.print_table(lines)
            print()
    print("\n".join(notes))
    print(f"report: {root / 'report.md'}; picture: grids.png; tables: table.csv, points.csv")


def cell_line(one: Seen) -> dict[str, str]:
    """Returns the line of a cell: where its best lies, and how low."""
    finals = np.array(list(one.found[one.best].values()))
    loss = seeds.with_interval(*seeds.interval(finals)) if len(finals) > 1 else f"{finals[0]:.4f} (one seed)"
    return {"width": f"{one.cell.width}", "N": f"{one.cell.N:,}", "D": f"{one.cell.D:,}",
            "best rate": f"{one.best.rate:g}", "best batch": f"{one.best.batch}", "loss": loss,
            "best lies": one.cell.position(one.found), "points": f"{len(one.found)}",
            "runs": f"{sum(len(by_seed) for by_seed in one.found.values())}"}


def rule_table(everything: Sequence[Seen]) -> list[dict[str, str]]:
    """Returns a line for each rule: its point and regret in every cell; an own law's where it had not seen the cell."""
    names = list(dict.fromkeys(row.rule for one in everything for row in one.rules))
    return [{"rule": name} | {seen.title(one): _entry(one, name, last=one is everything[-1]) for one in everything}
            for name in names]


def _entry(one: Seen, name: str, *, last: bool) -> str:
    row = next((row for row in one.rules if row.rule == name), None)
    if row is None:
        return ""
    rate = "any rate" if row.lr is None else f"{row.lr:.3g}"
    batch = "any batch" if row.batch_tokens is None else f"{row.batch_tokens / quickstart.SEQUENCE:.3g}"
    cost = seen.regret(one, row) if last or not name.endswith("(fit)") else None
    return f"{rate} x {batch}" + ("" if cost is None else f": {cost}")


def long_table(everything: Sequence[Seen]) -> list[dict[str, str]]:
    """Returns a line for each rule in each cell."""
    lines = []
    for one in everything:
        for row in one.rules:
            cost = seen.regret(one, row)
            lines.append({
                "width": f"{one.cell.width}", "N_non_embedding": f"{one.cell.N}", "D": f"{one.cell.D}",
                "rule": row.rule,
                "lr": "" if row.lr is None else f"{row.lr:.6g}",
                "batch_tokens": "" if row.batch_tokens is None else f"{row.batch_tokens:.6g}",
                "regret": "" if cost is None else f"{cost.mean:.6f}",
                "half_interval": "" if cost is None or np.isnan(cost.half) else f"{cost.half:.6f}",
                "how": "not trained" if cost is None else cost.how or f"{len(one.cell.seeds)} seeds",
                "range": row.in_range})
    return lines


def point_table(everything: Sequence[Seen]) -> list[dict[str, str]]:
    """Returns a line for each trained point: its loss, and that of the mean over seeds as the laws read it."""
    return [{"N_non_embedding": f"{one.cell.N}", "D": f"{one.cell.D}", "lr": f"{point.rate:g}",
             "batch_tokens": f"{point.batch * quickstart.SEQUENCE}", "loss": f"{one.losses[point]:.6f}",
             "seeds": f"{len(one.found[point])}"} for one in everything for point in sorted(one.found)]


def exponent_table(fits: dict[str, scaling.Fit | None]) -> list[dict[str, str]]:
    """Returns a line for each exponent: published by Step Law, and by own fits with intervals."""
    published = scaling.published("step_law", "li2025").params
    lines = []
    for name in words.EXPONENTS:
        line = {"exponent": name, "Step Law": f"{published[name]:.3f}" if name in published else "none"}
        for law in laws.OWN:
            line[law] = seen.with_interval(fits[law], name) if fits[law] and name in fits[law].params else "none"
        lines.append(line)
    return lines


def markdown(everything: Sequence[Seen], tables: Sequence[list[dict[str, str]]], notes: list[str]) -> str:
    """Returns the report as text."""
    head = ("Losses in nats per byte on held-out text; N without embeddings; rates x batches in sequences of "
            f"{quickstart.SEQUENCE} tokens; regret: loss over the best of the cell, less one. The last cell is the "
            "larger one, which the own laws had not seen.\n\n"
            "![Excess loss over rate and batch in every cell](grids.png)\n\n")
    titles = ("Cells", "Rules: rate x batch and regret", "Exponents")
    body = "".join(f"## {name}\n\n{seeds.markdown_table(lines)}\n" for name, lines in zip(titles, tables) if lines)
    return head + body + "## What it shows\n\n" + "\n".join(f"* {note}" for note in notes) + "\n"
