"""Report of the study of continued training; reads nothing but the records."""

from collections.abc import Callable
from pathlib import Path

import continual_findings
import continual_plot
import numpy as np
import seeds
from continual_rows import JOINT, Row, Shift, difference, read, told

from scaling import record


def draw(root: Path, *, shifts: Callable[[Path], list[Shift]]) -> None:
    """Writes table.csv, report.md and a picture for each second text into the study's folder; prints the tables."""
    parts, everything = [], []
    for shift in shifts(root):
        rows = read(root, shift)
        lines = [line(row, rows[JOINT]) for row in rows.values()]
        everything += [{"new text": shift.new} | one for one in lines]
        picture = f"{shift.new}.png"
        continual_plot.plot(rows, shift, root / picture)
        notes = continual_findings.findings(rows, shift)
        parts.append(section(shift, lines, notes, picture))
        print(f"{shift.old} -> {shift.new}")
        seeds.print_table(lines)
        print("\n".join(notes))
    seeds.write_csv(root / "table.csv", everything)
    (root / "report.md").write_text(setting(root) + "\n\n" + "\n".join(parts))
    print(f"report: {root / 'report.md'}; pictures beside it; table: table.csv")


def line(row: Row, joint: Row) -> dict[str, str]:
    """Returns one line of the table; differences from the joint run are paired by seed."""
    cells = {"arm, replay": row.name, "peak": f"{row.rate:.3g}"}
    for text in ("old", "new"):
        cells[text] = seeds.with_interval(*seeds.interval(np.array(list(row.final(text).values()))))
        cells[f"{text} - joint"] = "" if row is joint else told(difference(row, joint, text))
    cells["mean - joint"] = "" if row is joint else told(difference(row, joint, "mean"))
    return cells


def setting(root: Path) -> str:
    """Returns the title and what all runs share."""
    run = record.read(record.find(root)[0])
    config, counts = run.identity["config"], run.identity["params"]
    texts = "; ".join(text["name"] for text in run.identity["corpus"]["evaluated"])
    return (f"# Continued training\n\n{counts['total']:,} parameters ({config['model']['layers']} layers of width "
            f"{config['model']['width']}), {run.identity['tokens_per_update']:,} tokens an update. Texts, the old one "
            f"first: {texts}. Losses in nats per byte on held-out text of each. "
            "One size, one length of a phase, bytes: nothing here says what happens at another.")


def section(shift: Shift, lines: list[dict[str, str]], notes: list[str], picture: str) -> str:
    """Returns the part of the report on one second text."""
    return (f"## {shift.old} -> {shift.new}\n\n![Losses along the run, at its end, and the grids]({picture})\n\n"
            + seeds.markdown_table(lines) + "\n" + "\n".join(f"* {note}" for note in notes) + "\n")
