"""Picture of the study of continued training: one second text, all arms."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from continual_rows import Row, Shift


def plot(rows: Mapping[str, Row], shift: Shift, path: Path) -> None:
    """Draws both losses against tokens, one against the other at the end, and the grids of rates.

    Args:
      rows: by arm.
      shift: the second text that the arms learn.
      path: the picture.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8.6), layout="constrained")
    (old, new), (ends, grids) = figure.subplots(2, 2)
    for i, (name, row) in enumerate(rows.items()):
        color = f"C{i}"
        for axes, text in ((old, 0), (new, 1)):
            _curve(axes, row, text, color=color)
        last = row.losses[:, -1]
        ends.plot(last[:, 0], last[:, 1], "o", color=color, markersize=5, label=name)
        if row.grid:
            grids.plot(list(row.grid), list(row.grid.values()), "o-", color=color, markersize=4)
    for axes, text, name in ((old, 0, shift.old), (new, 1, shift.new)):
        axes.set(xlabel="tokens since the first update (millions)", ylabel="held-out loss (nats per byte)",
                 title=f"{name}: mean and range of seeds", ylim=_limits(rows, text))
        axes.axvline(_begin(rows), color="0.6", linewidth=0.8)
    ends.set(xlabel=f"loss on {shift.old}", ylabel=f"loss on {shift.new}", title="at the end, a point for each seed")
    scores = np.array([score for row in rows.values() for score in row.grid.values() if np.isfinite(score)])
    if len(scores):
        low = scores.min()
        grids.set_ylim(low - 0.05, min(scores.max(), low + 1.0) + 0.05)
    grids.set(xscale="log", xlabel="peak rate", ylabel="mean of both losses", title="grids of rates, first seed")
    tried = sorted({rate for row in rows.values() for rate in row.grid})
    rotation = 45 if len(tried) > 6 else 0  # else they run into each other
    grids.set_xticks(tried, [f"{rate:g}" for rate in tried], rotation=rotation)
    grids.minorticks_off()
    figure.legend(*ends.get_legend_handles_labels(), loc="outside lower center", ncols=4,
                  frameon=False, title="arm, replay")
    figure.savefig(path, dpi=110)


def _curve(axes: Any, row: Row, text: int, *, color: str) -> None:
    # A second phase is drawn from where it starts, the last point of the first.
    first = max(row.start - 1, 0)
    for part, style in ((slice(0, row.start), ":"), (slice(first, None), "-")):
        tokens, losses = row.tokens[part] / 1e6, row.losses[:, part, text]
        if len(tokens):
            axes.plot(tokens, losses.mean(axis=0), style, color=color, linewidth=1.4)
            axes.fill_between(tokens, losses.min(axis=0), losses.max(axis=0), color=color, alpha=0.15, linewidth=0)


def _begin(rows: Mapping[str, Row]) -> float:
    """Where the second phases begin, in millions of tokens."""
    return max(row.tokens[row.start - 1] if row.start else 0 for row in rows.values()) / 1e6


def _limits(rows: Mapping[str, Row], text: int) -> tuple[float, float]:
    """From just below the lowest loss to just above the highest one of the second halves of all runs."""
    late = np.concatenate([row.losses[:, len(row.tokens) // 2:, text].ravel() for row in rows.values()])
    margin = 0.05 * (late.max() - late.min())
    return float(late.min() - margin), float(late.max() + margin)
