"""The picture of the study of learning rate and batch: excess loss in every cell, best rate against batch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lr_batch_laws as laws
import numpy as np
import quickstart
from lr_batch_grid import Point
from lr_batch_seen import Seen

import scaling
from scaling.laws.hyperparameter_rules import Recommendation

DARKEST = 0.1  # excess loss at the end of the colours
OWN_MARKS = {"step_law_basin (fit)": "*", "step_law (fit)": "P"}
MARKS = "osD^v<>"


def plot(everything: Sequence[Seen], slope: scaling.Fit | None, path: Path) -> None:
    """Draws a panel a cell and one of the best rate at each batch."""
    from matplotlib.figure import Figure

    across = 3 if len(everything) < 6 else 4
    down = -(-(len(everything) + 1) // across)
    figure = Figure(figsize=(4.6 * across, 4.2 * down + 0.8), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    names = list(dict.fromkeys(row.rule for one in everything for row in one.rules))
    for axes, one in zip(panels, everything):
        image = heat(axes, one)
        for row in one.rules:
            mark(axes, row, names, one=one)
        larger = ", not seen by the fits" if one is everything[-1] else ""
        axes.margins(0.08)
        axes.set(title=f"width {one.cell.width}, N {one.cell.N:,}, D {one.cell.D:,}{larger}", ylabel="peak rate",
                 xlabel="batch (sequences)")
        axes.title.set_fontsize(10)
    slopes(panels[len(everything)], everything, slope)
    for axes in panels[len(everything) + 1:]:
        axes.set_axis_off()
    figure.colorbar(image, ax=list(panels), shrink=0.6, label="loss over the cell's best, per cent", extend="max",
                    pad=0.01)
    handles = {label: handle for handle, label in zip(*panels[len(everything) - 1].get_legend_handles_labels())}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=9, frameon=False,
                  title="framed: the best; marks: rate and batch of the rules; lines: rules that give one of them")
    figure.savefig(path, dpi=100)


def heat(axes: Any, one: Seen) -> Any:
    """Draws the grid's losses as squares with their excess in per cent; returns the image."""
    grid = {point: loss for point, loss in one.losses.items() if one.cell.on_grid(point)}
    rates, batches = sorted({point.rate for point in grid}), sorted({point.batch for point in grid})
    excess = np.full((len(rates), len(batches)), np.nan)
    for point, loss in grid.items():
        excess[rates.index(point.rate), batches.index(point.batch)] = 100 * (loss / one.losses[one.best] - 1)
    x, y = np.log2(batches), np.log2(rates)
    colours = np.ma.masked_invalid(np.minimum(excess, 1e3))
    image = axes.pcolormesh(edges(x), edges(y), colours, cmap="YlOrRd", vmin=0, vmax=100 * DARKEST)
    for (i, j), value in np.ndenumerate(excess):
        if not np.isnan(value):
            text = f"{value:.1f}" if value < 99.95 else f"{value:.0f}" if np.isfinite(value) else "diverged"
            best = (rates[i], batches[j]) == (one.best.rate, one.best.batch)
            axes.text(x[j], y[i] - 0.3, text, ha="center", va="center", fontsize=8, fontweight="bold" if best else None,
                      color="white" if value > 70 * DARKEST else "black")
    _frame(axes, one, x, y, rates=rates, batches=batches)
    axes.set_xticks(x, [f"{batch}" for batch in batches])
    axes.set_yticks(y, [f"{rate:g}" for rate in rates])
    return image


def _frame(axes: Any, one: Seen, x: np.ndarray, y: np.ndarray, *, rates: list[float], batches: list[int]) -> None:
    from matplotlib.patches import Rectangle

    i, j = rates.index(one.best.rate), batches.index(one.best.batch)
    left, bottom = edges(x)[j], edges(y)[i]
    size = edges(x)[j + 1] - left, edges(y)[i + 1] - bottom
    axes.add_patch(Rectangle((left, bottom), *size, fill=False, linewidth=2.2, edgecolor="black", zorder=3))


def edges(middles: np.ndarray) -> np.ndarray:
    """Returns the borders between neighbouring middles, half a step beyond the first and the last."""
    middles = np.asarray(middles, dtype=float)
    if len(middles) == 1:
        return np.array([middles[0] - 0.5, middles[0] + 0.5])
    inner = (middles[1:] + middles[:-1]) / 2
    return np.array([2 * middles[0] - inner[0], *inner, 2 * middles[-1] - inner[-1]])


def mark(axes: Any, row: Recommendation, names: list[str], *, one: Seen) -> None:
    """Draws a rule's point where it says, with its excess where that is off the grid; a line for a single value."""
    own = row.rule.endswith("(fit)")
    published = [name for name in names if not name.endswith("(fit)")]
    colour = "black" if own else f"C{(0, 2, 4, 9, 5, 6, 7)[published.index(row.rule) % 7]}"
    at_batch = None if row.batch_tokens is None else np.log2(row.batch_tokens / quickstart.SEQUENCE)
    at_rate = None if row.lr is None else np.log2(row.lr)
    if at_batch is None:
        axes.axhline(at_rate, color=colour, linestyle="--", linewidth=1.4, label=f"{row.rule}: rate")
    elif at_rate is None:
        axes.axvline(at_batch, color=colour, linestyle=":", linewidth=1.8, label=f"{row.rule}: batch")
    else:
        shape = OWN_MARKS.get(row.rule, "*") if own else MARKS[published.index(row.rule) % len(MARKS)]
        axes.plot(at_batch, at_rate, marker=shape, markersize=13 if own else 9, linestyle="none", color=colour,
                  markerfacecolor="white" if own else colour, markeredgecolor="black", zorder=4, label=row.rule,
                  clip_on=False)
        at = laws.points([row], top=one.cell.top)[row.rule]
        if at in one.losses and _off(at, [point for point in one.losses if one.cell.on_grid(point)]):
            excess = 100 * (one.losses[at] / one.losses[one.best] - 1)
            text = f"{excess:.1f}" if np.isfinite(excess) else "diverged"
            axes.annotate(text, (at_batch, at_rate), xytext=(8, -3), textcoords="offset points", fontsize=8,
                          color=colour)


def _off(at: Point, grid: list[Point]) -> bool:
    """Whether a point lies outside the squares, where its excess can be read."""
    inside = [min(values) / 2**0.5 <= value <= max(values) * 2**0.5 for value, values in (
        (at.rate, [point.rate for point in grid]), (at.batch, [point.batch for point in grid]))]
    return not all(inside)


def slopes(axes: Any, everything: Sequence[Seen], fit: scaling.Fit | None) -> None:
    """Draws the best rate at each batch of every cell, with the fitted slope and those of the claims."""
    drawn: list[tuple[float, float]] = []
    for k, one in enumerate(everything):
        found = {batch: best_rate(one, batch) for batch in sorted({point.batch for point in one.found})}
        pairs = [(batch, rate) for batch, rate in found.items() if rate is not None]
        if pairs:
            axes.plot(*zip(*pairs), marker=MARKS[k % len(MARKS)], color=f"C{k}",
                      label=f"width {one.cell.width}, D {one.cell.D / 1e6:.2g}M")
            drawn += pairs
    if drawn:
        batches, rates = np.array(drawn).T
        middle = np.exp(np.log(batches).mean()), np.exp(np.log(rates).mean())
        ends = np.array([batches.min(), batches.max()])
        claims = {"slope 1/2 (Adam)": (0.5, "--"), "slope 1 (SGD)": (1.0, ":")}
        fitted = {} if fit is None else {f"fitted slope {fit.params['lr_B']:.2f}": (fit.params["lr_B"], "-")}
        for label, (slope, style) in (claims | fitted).items():
            axes.plot(ends, middle[1] * (ends / middle[0]) ** slope, style, color="black",
                      linewidth=2 if style == "-" else 1, label=label)
        ticks = sorted(set(batches))
        axes.set(xscale="log", yscale="log", ylim=(rates.min() / 3, rates.max() * 1.3))  # room for the legend
        axes.set_xticks(ticks, [f"{batch:g}" for batch in ticks])
        shown = [rate for rate in 1e-3 * 2.0 ** np.arange(-4, 12) if rates.min() / 2 < rate < rates.max() * 1.3]
        axes.set_yticks(shown, [f"{rate:g}" for rate in shown])
        axes.minorticks_off()
    axes.set(xlabel="batch (sequences)", ylabel="best rate at this batch", title="best rate against batch")
    axes.title.set_fontsize(10)
    axes.legend(fontsize=8, frameon=False, loc="lower right", ncols=2)


def best_rate(one: Seen, batch: int) -> float | None:
    """Returns the vertex of a parabola through the best of a batch's rates and its neighbours, None without them."""
    row = sorted((point.rate, loss) for point, loss in one.losses.items()
                 if point.batch == batch and one.cell.on_grid(point))
    rates, losses = np.array(row).reshape(-1, 2).T
    at = int(np.argmin(losses)) if len(losses) else 0
    if not 0 < at < len(losses) - 1 or not np.isfinite(losses[at - 1:at + 2]).all():
        return None
    a, b, _ = np.polyfit(np.log(rates[at - 1:at + 2]), losses[at - 1:at + 2], 2)
    return float(np.exp(-b / (2 * a)))
