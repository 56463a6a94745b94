"""Queries of a fitted law with intervals.

An interval comes from the fit's bootstrap draws, or, with method="profile", from refits that hold the
query at a value; it covers the uncertainty of the parameters, and with `observed=True` the scatter of
single runs too. It never covers the error of the law itself: how far the truth leaves the formula
outside the data. Without draws (or, for a profile, without rows) there is no interval.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from scaling import curves, profile
from scaling.errors import InputError
from scaling.fitted import Fit
from scaling.threads import one_thread

Method = Literal["bootstrap", "profile"]
_SEED = 0
_SLACK = 1e-3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """Predicted values at queries, with an interval where draws exist.

    Attributes:
      point: [queries] prediction at the point estimate.
      low, high: [queries] ends of the central interval, or None with the reason in `interval`.
      level: probability that the interval is meant to hold.
      interval: what the interval covers, or why there is none.
      warnings: how far the queries lie outside the data, and whatever else a reader should know.
      name: what is predicted, e.g. "loss"; `unit` is its unit.
    """

    point: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None
    level: float
    interval: str
    warnings: tuple[str, ...] = ()
    name: str = "loss"
    unit: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns the prediction as plain numbers and text, for JSON."""
        data = dataclasses.asdict(self)
        return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in data.items()}

    def table(self, labels: "list[str] | None" = None) -> str:
        """Returns one line a query, then what the interval covers and the warnings."""
        lines = []
        for index, point in enumerate(self.point):
            label = labels[index] if labels else self.name
            text = f"{label}: {point:.6g}"
            if self.low is not None and self.high is not None:
                text += f"   [{self.low[index]:.6g}, {self.high[index]:.6g}]"
            lines.append(text + (f"   ({self.unit})" if self.unit else ""))
        lines.append(f"  interval: {self.interval}")
        lines.extend(f"  warning: {warning}" for warning in self.warnings)
        return "\n".join(lines)


def predict(
    fit: Fit,
    *,
    level: float = 0.9,
    observed: bool = True,
    output: str | None = None,
    method: Method = "bootstrap",
    **columns: np.ndarray | float,
) -> Prediction:
    """Returns an output of the law, its target by default, at the queries `columns`.

    Example: `predict(fit, N=1e6, D=1e8)`.

    Args:
      fit: a fit, or published coefficients.
      level: probability of the interval, in (0, 1).
      observed: True for one observed run (a residual drawn from the fit's scatter is added to each
        draw), False for the law's own value. Only the target has a scatter.
      output: name of the output, e.g. "lr" of a law that gives rate and batch.
      method: "bootstrap" uses the fit's draws, "profile" refits (see `scaling.profile`).
      **columns: every input of the law, a number or [queries], in the units and counting of `fit`.
    """
    output = _output(fit, output)
    arrays = _queries(fit, columns)
    return _interval(fit, arrays, output, level=level, observed=observed, method=method)


@one_thread
def predict_curve(
    fit: Fit,
    schedule: np.ndarray,
    steps: np.ndarray | int,
    *,
    level: float = 0.9,
    observed: bool = True,
    warmup_steps: int | None = None,
    N: float | None = None,
    method: Method = "bootstrap",
) -> Prediction:
    """Returns the predicted loss at `steps` of a run under `schedule`, from a fit of a curve law.

    Args:
      fit: fit of a law of whole curves; its settings are used.
      schedule: [updates] rate of every update, warm-up included.
      steps: update index or indices, from 0 to updates - 1.
      level, observed, method: as in `predict`.
      warmup_steps: updates of the warm-up; None takes the updates before the first peak.
      N: parameter count, where the law has one.
    """
    law = fit.definition
    if law.columns_of is None:
        raise InputError(f"fit of the {law.name} law: predict_curve needs a law of whole curves")
    if law.counted != (N is not None):
        raise InputError(f"N = {N!r}: the {law.name} law {'needs a' if law.counted else 'has no'} parameter count")
    schedule = curves.check_schedule(schedule, "schedule")
    steps = np.atleast_1d(np.asarray(steps))
    wrong = (steps < 0) | (steps >= schedule.size) | (steps != np.floor(steps))
    if wrong.any():
        raise InputError(f"step = {steps[wrong][0]}: must be an integer; the updates are 0 to {schedule.size - 1}")
    curve = curves.Curve(
        name="query",
        schedule=schedule,
        steps=steps.astype(np.int64),
        losses=np.ones(steps.size),
        warmup_steps=warmup_steps,
        N=N,
    )
    arrays = law.columns_of([curve], fit.settings)
    return _interval(fit, arrays, law.target, level=level, observed=observed, method=method)


def outside(fit: Fit, arrays: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """Returns a line for each input whose queries leave the fitted range, saying how far."""
    lines = []
    for name, (low, high) in fit.ranges.items():
        if name not in arrays:
            continue
        smallest, largest = float(np.min(arrays[name])), float(np.max(arrays[name]))
        # A tenth of a per cent is rounding of counts, no extrapolation.
        if smallest < low - _SLACK * abs(low):
            factor = f"{low / smallest:.3g} times " if smallest > 0 else ""
            lines.append(f"extrapolates: {name} = {smallest:.4g} lies {factor}below the fitted {low:.4g} to {high:.4g}")
        if largest > high + _SLACK * abs(high):
            factor = f"{largest / high:.3g} times " if high > 0 else ""
            lines.append(f"extrapolates: {name} = {largest:.4g} lies {factor}above the fitted {low:.4g} to {high:.4g}")
    if not fit.ranges:
        lines.append("the runs behind these coefficients are not stated: how far this extrapolates is unknown")
    return tuple(lines)


def from_draws(
    point: np.ndarray, draws: np.ndarray | None, *, level: float, covers: str, **rest: Any
) -> Prediction:
    """Returns the prediction `point` [queries] with the central interval of `draws` [draws, queries].

    `covers` says what the draws vary, or, without draws, why there are none.
    """
    if draws is None:
        return Prediction(point=point, low=None, high=None, level=level, interval=covers, **rest)
    # A draw may have no answer (a minimum outside every bound); such a draw is left out.
    quantile = np.nanquantile if np.isnan(draws).any() else np.quantile  # the first is slow
    low, high = quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    text = f"{level:.0%} from {len(draws)} draws, covers {covers}, excludes model error"
    return Prediction(point=point, low=low, high=high, level=level, interval=text, **rest)


def with_scatter(fit: Fit, draws: np.ndarray) -> np.ndarray:
    """Returns predictions [draws, queries] with one drawn scatter of a single observation each."""
    rng = np.random.default_rng(_SEED)  # the same numbers whenever the same is asked
    scatter = rng.choice(fit.scatter, size=draws.shape)
    return draws * np.exp(scatter) if fit.definition.residual == "log" else draws + scatter


def check_level(level: float) -> None:
    """Raises `InputError` unless `level` is a probability strictly between 0 and 1."""
    if not 0 < level < 1:
        raise InputError(f"level = {level!r}: must lie between 0 and 1")


def _interval(
    fit: Fit,
    arrays: Mapping[str, np.ndarray],
    output: str,
    *,
    level: float,
    observed: bool,
    method: Method,
) -> Prediction:
    check_level(level)
    law = fit.definition
    point = law.predict(fit.values[None], arrays, output)[0]
    unit = fit.unit if output == "loss" else None
    rest = {"warnings": outside(fit, arrays), "name": output, "unit": unit}
    observed = observed and output == law.target and fit.scatter.size > 0
    covers = "parameters and single-run scatter" if observed else "parameters"
    if method == "profile":
        low, high = _profiled(fit, arrays, output, level=level, observed=observed)
        text = f"{level:.0%} by profile, covers {covers}, excludes model error"
        return Prediction(point=point, low=low, high=high, level=level, interval=text, **rest)
    if fit.draws is None:
        return from_draws(point, None, level=level, covers=fit.bootstrap, **rest)
    draws = law.predict(fit.draws, arrays, output)
    draws = with_scatter(fit, draws) if observed else draws
    return from_draws(point, draws, level=level, covers=covers, **rest)


def _profiled(
    fit: Fit, arrays: Mapping[str, np.ndarray], output: str, *, level: float, observed: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Returns profile ends [queries]; the scatter's quantiles are added in quadrature on each side."""
    law = fit.definition
    count = law.predict(fit.values[None], arrays, output).shape[1]
    ends = np.array(
        [
            profile.interval(fit, lambda law, values: law.predict(values, arrays, output)[:, index], level=level)
            for index in range(count)
        ]
    )
    if not observed:
        return ends[:, 0], ends[:, 1]
    sides = np.quantile(fit.scatter, [(1 - level) / 2, (1 + level) / 2])
    log = law.residual == "log"
    point = law.predict(fit.values[None], arrays, output)[0]
    centre, ends = (np.log(point), np.log(ends)) if log else (point, ends)
    half = np.sqrt((ends - centre[:, None]) ** 2 + sides**2) * np.array([-1.0, 1.0])
    ends = centre[:, None] + half
    ends = np.exp(ends) if log else ends
    return ends[:, 0], ends[:, 1]


def _output(fit: Fit, output: str | None) -> str:
    law = fit.definition
    output = output or law.target
    if output not in law.outputs:
        raise InputError(f"output = {output!r}: the {law.name} law gives {', '.join(law.outputs)}")
    return output


def _queries(fit: Fit, columns: Mapping[str, np.ndarray | float]) -> dict[str, np.ndarray]:
    law = fit.definition
    if law.columns_of is not None and law.ragged:
        raise InputError(f"fit of the {law.name} law: ask predict_curve, with a schedule")
    if set(columns) != set(law.inputs):
        given = ", ".join(columns) or "nothing"
        raise InputError(f"query {given}: the {law.name} law needs exactly {', '.join(law.inputs) or 'nothing'}")
    arrays = {name: np.atleast_1d(np.asarray(value, dtype=np.float64)) for name, value in columns.items()}
    for name, array in arrays.items():
        wrong = ~np.isfinite(array) | ((array <= 0) & (name in law.positive))
        if wrong.any():
            rule = "must be finite and above 0" if name in law.positive else "must be finite"
            raise InputError(f"query {name} = {array[wrong][0]}: {rule}")
    try:
        return dict(zip(arrays, np.broadcast_arrays(*arrays.values())))
    except ValueError:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise InputError(f"query {shapes}: shapes do not go together") from None
