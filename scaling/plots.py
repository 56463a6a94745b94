"""Pictures of fitted laws, as matplotlib figures that touch no global state.

matplotlib is imported inside the functions: the extra `plots` is needed only by those who draw.
"""

import dataclasses
import os
import typing
from collections.abc import Mapping, Sequence

import numpy as np

from scaling import intervals
from scaling.curves import Curve, as_curve
from scaling.errors import InputError
from scaling.fitted import Fit
from scaling.intervals import Prediction

if typing.TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart by people with any common colour blindness.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
HELD_OUT = "#D55E00"
# More sizes than this are drawn as a continuous colour scale instead of a legend line each.
_LEGEND_SIZES = 7


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Points kept out of a fit of the chinchilla law: [points] N, D, their prediction and true losses."""

    N: np.ndarray
    D: np.ndarray
    prediction: Prediction
    truth: np.ndarray | None = None


def plot_law(
    fit: Fit, data: Mapping[str, np.ndarray] | None = None, *, predictions: Sequence[HeldOut] = ()
) -> "Figure":
    """Returns a figure of loss against tokens above, errors of the fit in per cent below.

    Points and fitted lines are coloured by size; held-out points stand out.

    Args:
      fit: a fit of the chinchilla law, or another in N and D.
      data: columns N, D, loss; None draws the rows that were fitted.
      predictions: held-out points, drawn with interval bars and, where known, the true loss.
    """
    if set(fit.definition.inputs) != {"N", "D"}:
        raise InputError(f"fit of the {fit.law} law: plot_law draws laws in N and D")
    data = fit.data if data is None else data
    if not {"N", "D", "loss"} <= set(data):
        raise InputError("data: plot_law needs the columns N, D, loss; published coefficients carry none")
    figure, (axes, lower) = _figure((7.6, 6.0), [3, 1])
    n, d, loss = (np.asarray(data[name], dtype=np.float64) for name in ("N", "D", "loss"))
    sizes = np.unique(n)
    if sizes.size <= _LEGEND_SIZES:
        for size, colour in zip(sizes, _ordered_colours(sizes.size)):
            rows = n == size
            axes.plot(d[rows], loss[rows], "o", color=colour, ms=5, alpha=0.8)
            lower.plot(d[rows], _error(fit, n[rows], d[rows], loss[rows]), "o", color=colour, ms=4, alpha=0.8)
            _draw_line(axes, fit, size, d[rows], colour=colour, label=f"N = {_short(size)}")
    else:
        colours = _draw_scale(figure, [axes, lower], fit, n, d, loss)
        lower.scatter(d, _error(fit, n, d, loss), c=colours, s=12, alpha=0.85, lw=0)
    for index, held_out in enumerate(predictions):
        _draw_held_out(axes, lower, fit, held_out, labelled=index == 0)
    axes.set(xscale="log", yscale="log", ylabel=f"loss ({fit.unit})")
    lower.set(xscale="log", xlabel="training tokens D", ylabel="observed over\npredicted (%)")
    lower.axhline(0, color="0.4", lw=0.8, zorder=0)
    axes.set_title(
        f"{fit.definition.equation},  N = {fit.counting.replace('_', '-')} parameters", fontsize=10
    )
    _plain_ticks(axes)
    lower.sharex(axes)
    axes.tick_params(labelbottom=False)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), frameon=False, fontsize=9)
    return figure


def plot_curves(fit: Fit, *, held_out: Sequence[Curve | Sequence] = ()) -> "Figure":
    """Returns a figure of loss curves with their predictions above, relative errors in per cent below.

    Args:
      fit: a fit of the annealing law; the curves that it was fitted to are drawn from its data.
      held_out: curves that it was not fitted to, drawn dashed with their interval where there is one.
    """
    if fit.law != "annealing":
        raise InputError(f"fit of the {fit.law} law: plot_curves draws the annealing law")
    curves = _fitted_curves(fit)
    for index, item in enumerate(held_out):
        curve = as_curve(item, index)
        result = intervals.predict_curve(fit, curve.schedule, curve.steps, warmup_steps=curve.warmup_steps)
        curves.append((f"{curve.name} (held out)", curve.steps, curve.losses, result, "--"))
    if not curves:
        raise InputError("curves: the fit carries no data and no held-out curve is given")
    figure, (upper, lower) = _figure((7.6, 5.6), [3, 1])
    for index, (name, steps, losses, result, style) in enumerate(curves):
        colour = PALETTE[index % len(PALETTE)]
        upper.plot(steps, losses, "o", color=colour, ms=3, alpha=0.45, mew=0)
        upper.plot(steps, result.point, style, color=colour, lw=1.5, label=name)
        if result.low is not None and style == "--":
            upper.fill_between(steps, result.low, result.high, color=colour, alpha=0.15, lw=0)
        lower.plot(steps, 100 * (losses / result.point - 1), style, color=colour, lw=1)
    lower.axhline(0, color="0.4", lw=0.8, zorder=0)
    upper.set(ylabel=f"loss ({fit.unit})")
    upper.set_title(f"{fit.definition.equation},  lambda {fit.fixed['lambda']:g}", fontsize=10)
    lower.set(xlabel="update", ylabel="observed over\npredicted (%)")
    upper.tick_params(labelbottom=False)
    lower.sharex(upper)
    upper.xaxis.set_major_formatter(lambda value, _: _short(value))
    upper.plot([], [], "o", color="0.5", ms=3, label="observed")
    upper.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), frameon=False, fontsize=9)
    return figure


def save(figure: "Figure", path: str | os.PathLike[str]) -> None:
    """Writes `figure` to `path` as PNG, 150 dots per inch."""
    figure.savefig(path, format="png", dpi=150, facecolor="white")


def _figure(size: tuple[float, float], heights: Sequence[int]) -> "tuple[Figure, list[Axes]]":
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise ModuleNotFoundError("plots need matplotlib: pip install 'jaxlm[plots]'") from None
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    axes = [figure.add_subplot(grid[row]) for row in range(len(heights))]
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.grid(True, color="0.9", lw=0.6)
        each.set_axisbelow(True)
    return figure, axes


def _fitted_curves(fit: Fit) -> list[tuple]:
    curves = []
    names = fit.data.get("curve", np.zeros(0, dtype=str))
    for name in dict.fromkeys(names.tolist()):
        rows = names == name
        result = intervals.predict(fit, S1=fit.data["S1"][rows], S2=fit.data["S2"][rows])
        curves.append((f"{name} (fitted)", fit.data["step"][rows], fit.data["loss"][rows], result, "-"))
    return curves


def _draw_line(
    axes: "Axes",
    fit: Fit,
    size: float,
    d: np.ndarray,
    *,
    colour: object,
    label: str | None = None,
    style: str = "-",
) -> None:
    grid = np.geomspace(d.min() / 1.15, d.max() * 1.15, 60)
    axes.plot(grid, intervals.predict(fit, N=size, D=grid).point, style, color=colour, lw=1.4, label=label)


def _error(fit: Fit, n: np.ndarray, d: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Returns observed over predicted less one, in per cent."""
    return 100 * (loss / intervals.predict(fit, N=n, D=d).point - 1)


def _draw_scale(
    figure: "Figure", panels: "list[Axes]", fit: Fit, n: np.ndarray, d: np.ndarray, loss: np.ndarray
) -> np.ndarray:
    """Draws many sizes as one colour scale with fitted lines at six; returns the points' colours."""
    from matplotlib import cm, colors

    scale = cm.ScalarMappable(colors.LogNorm(n.min(), n.max()), _scale_colours())
    axes = panels[0]
    axes.scatter(d, loss, c=scale.to_rgba(n), s=18, alpha=0.85, lw=0)
    edges = np.quantile(np.log(n), np.linspace(0, 1, 7))
    for low, high in zip(edges, edges[1:]):
        rows = (np.log(n) >= low) & (np.log(n) <= high)
        size = float(np.exp(np.log(n[rows]).mean()))
        _draw_line(axes, fit, size, d[rows], colour=scale.to_rgba(size))
    bar = figure.colorbar(scale, ax=panels, label=f"N ({fit.counting.replace('_', '-')} parameters)")
    bar.ax.yaxis.set_major_formatter(lambda value, _: _short(value))
    return scale.to_rgba(n)


def _draw_held_out(axes: "Axes", lower: "Axes", fit: Fit, held_out: HeldOut, *, labelled: bool) -> None:
    n, d = np.atleast_1d(held_out.N), np.atleast_1d(held_out.D)
    result = held_out.prediction
    for size in np.unique(n):
        _draw_line(axes, fit, size, d[n == size], colour=HELD_OUT, style="--")
    bars, error_bars = None, None
    if result.low is not None:
        bars = np.maximum([result.point - result.low, result.high - result.point], 0)
        error_bars = 100 * bars / result.point
    label = None
    if labelled:
        sizes = ", ".join(_short(size) for size in np.unique(n))
        label = f"predicted, N = {sizes}" + (f"\n({result.level:.0%} interval)" if bars is not None else "")
    style = {"fmt": "s", "color": HELD_OUT, "mfc": "white", "ms": 6, "capsize": 4, "zorder": 4}
    axes.errorbar(d, result.point, yerr=bars, label=label, **style)
    lower.errorbar(d, np.zeros_like(d, dtype=float), yerr=error_bars, **style)
    if held_out.truth is not None:
        cross = {"color": "black", "ms": 6, "mew": 1.6, "zorder": 5}
        axes.plot(d, held_out.truth, "x", label="observed, held out" if labelled else None, **cross)
        lower.plot(d, 100 * (held_out.truth / result.point - 1), "x", **cross)


def _scale_colours() -> object:
    from matplotlib import colormaps, colors

    # The yellow end of viridis vanishes on white.
    return colors.ListedColormap(colormaps["viridis"](np.linspace(0, 0.88, 256)))


def _ordered_colours(count: int) -> list:
    scale = _scale_colours()
    return [scale(position) for position in np.linspace(0, 1, max(count, 2))[:count]]


def _plain_ticks(axes: "Axes") -> None:
    from matplotlib import ticker

    low, high = axes.get_ylim()
    ticks = ticker.MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    axes.yaxis.set_major_locator(
        ticker.FixedLocator([tick for tick in ticks if low <= tick <= high and tick > 0])
    )
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_locator(ticker.NullLocator())
    low, high = axes.get_xlim()
    steps = (1.0,) if high / low > 300 else (1.0, 2.0, 5.0)
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=steps, numticks=20))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: _short(value))


def _short(value: float) -> str:
    """Returns a count with a suffix: 20k, 1.5M, 3B, 2T."""
    for factor, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * factor:
            return f"{value / factor:.3g}{suffix}"
    return f"{value:.3g}"
