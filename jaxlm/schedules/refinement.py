"""Refinement of linear decay: the schedule that a run's gradient norms ask for."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from jaxlm.config import require
from jaxlm.schedules.arrays import ArraySchedule, from_array
from jaxlm.schedules.steps import check_peak_lr

Kind = Literal["sgd", "adam"]

# Largest over smallest smoothed norm above which the schedule is suspect. On logistic regression
# (experiments/testbeds/logistic.py) spans up to 2 go with refinement no worse than linear decay by 0.1e-3 of excess
# loss, spans from 2000 with two to four times the excess. Between them 10 is a choice; of the norms that the
# authors recorded, RoBERTa's span 15 and ViT's 2200, ImageNet's and RCNN's below 3.
SPAN = 10.0
# Annealing has begun for good where the rate stays below this fraction of the peak.
ANNEALED = 0.9


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Refinement:
    """A refined schedule and what it was made of.

    Attributes:
      rates: float64[updates], fractions of the peak: the largest is 1, the last 0.
      norms: float64[updates], the smoothed norms whose weights were taken, after the floor.
      kind: "sgd" for weights norm^-2, "adam" for norm^-1.
      smoothing: share of the norms that the median filter spans.
      width: of the median filter, in norms.
      floor, cap: as asked for.
      dropped: norms that were infinite.
      span: largest over smallest smoothed norm, before the floor; infinite where the smallest is 0.
      warmup: the update of the largest rate, so the length of the warm-up that emerged; 0 for none.
      annealing: the first update from which on the rate stays below 90% of the peak.
      warnings: why one might distrust it.
    """

    rates: np.ndarray
    norms: np.ndarray
    kind: Kind
    smoothing: float
    width: int
    floor: float
    cap: float | None
    dropped: int
    span: float
    warmup: int
    annealing: int
    warnings: tuple[str, ...]

    def summary(self) -> dict[str, Any]:
        """Returns everything but the arrays as JSON-ready data."""
        data = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del data["rates"], data["norms"]
        return data | {"span": self.span if np.isfinite(self.span) else None, "warnings": list(self.warnings)}

    def schedule(self, peak_lr: float = 1.0, provenance: Mapping[str, Any] | None = None) -> ArraySchedule:
        """Returns the schedule with its largest rate at `peak_lr`; `provenance` is added to the summary."""
        check_peak_lr(peak_lr)
        return from_array(peak_lr * self.rates, {"source": "jaxlm.schedules.refine_norms"} | dict(provenance or {})
                          | {"peak_lr": peak_lr, "refinement": self.summary()})


def refine_norms(norms: npt.ArrayLike, *, kind: Kind, smoothing: float = 0.1, updates: int | None = None,
                 ends: int = 2, floor: float = 0.0, cap: float | None = None) -> Refinement:
    """Returns the schedule that minimises the last-iterate bound of a run with these gradient norms.

    With w_t = G_t^-2 ("sgd", G the l2 norm of the whole gradient) or G_t^-1 ("adam", G its l1 norm),

        rate_t = w_t * sum_{p > t} w_p / (the largest such product),      so that rate_{T-1} = 0.

    Constant norms give linear decay, (T-1-t)/(T-1). Norms that fall early give a warm-up, norms that rise
    give a faster decay. G is smoothed first: infinite norms are dropped, then `ends` at either end; a running
    median over 2*floor(int(smoothing*n)/2) + 1 of the n that are left, past the end of which they are reflected
    (the last one not repeated), and before whose beginning the first one is repeated.

    Args:
      norms: [T], norm of every update's gradient before clipping, all of one batch size, >= 0; inf is
        dropped, NaN is an error.
      kind: "sgd" or "adam".
      smoothing: tau, share of the norms that the filter spans, in [0, 0.5]; 0 for none. 0.1 is the authors'.
      updates: length of the schedule, >= 2; by default T.
      ends: norms dropped at either end, >= 0.
      floor: quantile of the smoothed norms, in [0, 1], up to which smaller ones are raised. Off at 0.
      cap: largest rate as a multiple of linear decay's, both as fractions of their peaks, >= 1; the result
        is scaled to a peak of 1 again. Off at None.

    Raises:
      ConfigError: naming field, value and rule; among others for fewer than 3 norms left, and for a smoothed
        norm of 0, whose weight would be infinite.

    Source: Defazio, Cutkosky, Mehta and Mishchenko 2023, "Optimal Linear Decay Learning Rate Schedules and
    Further Refinements", arXiv 2310.07831, and its public code. Deviations: norms that were dropped are
    interpolated, their neighbours held at the ends, so that update t keeps its own norm and the schedule has
    the run's full length (the code stretches what is left); to another number of updates the smoothed norms
    are interpolated linearly in t/(T-1), and not the schedule, so that its last rate is 0 at any length; the
    filter's width is `smoothing` of the norms at hand (the authors' plots take it of 10,000 for longer
    sequences too); floor and cap are ours.

    >>> refine_norms([3.0] * 9, kind="sgd").rates.tolist()
    [1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0.0]
    """
    values = np.asarray(norms, np.float64)
    updates = values.size if updates is None else updates
    _check(values, kind=kind, smoothing=smoothing, updates=updates, ends=ends, floor=floor, cap=cap)
    finite = np.flatnonzero(np.isfinite(values))
    kept = finite[ends:finite.size - ends]
    require(kept.size >= 3, "norms", int(kept.size),
            f"at least 3 finite ones must be left after dropping {ends} at either end")
    smoothed, width = smooth(values[kept], smoothing)
    smoothed = np.interp(np.linspace(0, values.size - 1, updates), kept, smoothed)
    span = float(smoothed.max() / smoothed.min()) if smoothed.min() > 0 else float("inf")
    raised = np.maximum(smoothed, np.quantile(smoothed, floor)) if floor > 0 else smoothed
    require(raised.min() > 0, "norms", 0.0, f"the smoothed norm at update {int(raised.argmin())} must be positive: "
            "its weight would be infinite; a floor raises it")
    rates = _capped(refined_rates(raised, kind), cap)
    return Refinement(
        rates=rates, norms=raised, kind=kind, smoothing=float(smoothing), width=width, floor=float(floor), cap=cap,
        dropped=values.size - finite.size, span=span, warmup=int(rates.argmax()),
        annealing=int(np.flatnonzero(rates >= ANNEALED)[-1]) + 1, warnings=_warnings(smoothed, rates, span, width))


def smooth(norms: np.ndarray, smoothing: float) -> tuple[np.ndarray, int]:
    """Returns the running median of `norms` [n], and the width of its window."""
    from scipy.ndimage import median_filter

    width = 2 * (int(smoothing * norms.size) // 2) + 1
    padded = np.pad(norms, (0, 2 * width), mode="reflect")
    return median_filter(padded, size=width, mode="nearest")[:norms.size], width


def refined_rates(norms: np.ndarray, kind: Kind) -> np.ndarray:
    """Returns the refined schedule of `norms` [T] > 0, taken as they are, as fractions of its peak."""
    # Division and multiplication alone round alike on every processor; powers do not.
    weights = norms.min() / norms
    weights = weights * weights if kind == "sgd" else weights
    later = np.append(np.cumsum(weights[:0:-1])[::-1], 0.0)
    rates = weights * later
    return rates / rates.max()


def linear_rates(updates: int) -> np.ndarray:
    """Returns (T-1-t)/(T-1), what constant norms are refined to."""
    return np.arange(updates - 1, -1, -1) / (updates - 1)


def _capped(rates: np.ndarray, cap: float | None) -> np.ndarray:
    if cap is None:
        return rates
    capped = np.minimum(rates, cap * linear_rates(rates.size))
    return capped / capped.max()


def _check(values: np.ndarray, *, kind: str, smoothing: float, updates: int, ends: int, floor: float,
           cap: float | None) -> None:
    require(values.ndim == 1 and values.size > 0, "norms", list(values.shape), "must be a one-dimensional array")
    wrong = np.flatnonzero(~(values >= 0))
    if wrong.size:
        require(False, f"norms[{wrong[0]}]", float(values[wrong[0]]), "must be a number that is not negative")
    require(kind in get_args(Kind), "kind", kind, f"must be one of {', '.join(get_args(Kind))}")
    require(0 <= smoothing <= 0.5, "smoothing", smoothing, "is a share of the norms and must lie in [0, 0.5]")
    require(isinstance(updates, int) and updates >= 2, "updates", updates, "must be a whole number from 2")
    require(isinstance(ends, int) and ends >= 0, "ends", ends, "must be a whole number that is not negative")
    require(0 <= floor <= 1, "floor", floor, "is a quantile and must lie in [0, 1]")
    require(cap is None or 1 <= cap < float("inf"), "cap", cap, "must be at least 1, or None for none")


def _warnings(smoothed: np.ndarray, rates: np.ndarray, span: float, width: int) -> tuple[str, ...]:
    found = []
    if span > SPAN:
        high, low = int(smoothed.argmax()), int(smoothed.argmin())
        found.append(
            f"norms span a factor of {span:.3g} after smoothing ({smoothed[high]:.3g} at update {high}, "
            f"{smoothed[low]:.3g} at update {low}), more than {SPAN:g}: the schedule hangs on the updates where they "
            f"are small. {np.mean(rates < 0.25):.0%} of the updates get less than a quarter of the peak (25% under "
            "linear decay). Where norms collapse, as when the training loss goes to zero, refinement was measured to "
            "lose to linear decay (experiments/testbeds/logistic.py)")
    if width == 1:
        found.append("the norms are not smoothed (a window of one): the smallest of a noisy sequence sets the peak")
    return tuple(found)
