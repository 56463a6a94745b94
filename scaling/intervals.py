"""Predictions of a fitted law with intervals.

An interval comes from the fit's bootstrap draws and covers the uncertainty of the parameters, and
with `observed=True` the scatter of single runs too. It never covers the error of the law itself:
how far the true loss leaves the formula outside the data. Without draws there is no interval.
"""

import dataclasses

import numpy as np

from scaling import bootstrap
from scaling.errors import InputError
from scaling.fitted import Fit
from scaling.laws import annealing, chinchilla

# Beyond this factor outside the fitted range a query is warned about. Published extrapolations that
# were checked reach it (10x in parameters, Bhagia et al. 2024, arXiv 2412.04403) and rarely pass it.
FAR = 10.0
_SEED = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """Predicted values at queries, with an interval where draws exist.

    Attributes:
      point: [queries] prediction at the point estimate.
      low, high: [queries] ends of the central interval, or None with the reason in `interval`.
      level: probability that the interval is meant to hold.
      interval: what the interval covers, or why there is none.
      warnings: queries far outside the data, with the range.
    """

    point: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None
    level: float
    interval: str
    warnings: tuple[str, ...] = ()


def predict(
    fit: Fit, *, level: float = 0.9, observed: bool = True, far: float = FAR, **columns: np.ndarray | float
) -> Prediction:
    """Returns the predicted loss at the queries `columns`, e.g. `predict(fit, N=1e6, D=1e8)`.

    Args:
      fit: a fit, or published coefficients.
      level: probability of the interval, in (0, 1).
      observed: True for the loss of one observed run (a log residual drawn from the fit's, widened
        like the bootstrap's, is added to each draw), False for the law's own value.
      far: factor beyond the fitted range from which a query is warned about.
      **columns: every input of the law, a number or [queries], in the units and counting of `fit`.
    """
    _check_level(level)
    law = fit.definition
    arrays = _queries(fit, columns)
    point = law.loss(fit.values[None], arrays)[0]
    warnings = _far_queries(fit, arrays, far)
    if fit.draws is None:
        return Prediction(
            point=point, low=None, high=None, level=level, interval=fit.bootstrap, warnings=warnings
        )
    losses = law.loss(fit.draws, arrays)
    what = "parameters"
    if observed:
        # One residual for each draw and query, the same numbers whenever the same is asked.
        rng = np.random.default_rng(_SEED)
        factor = bootstrap.widening(fit.residuals.size, len(law.parameters))
        losses = losses * np.exp(factor * rng.choice(fit.residuals, size=losses.shape))
        what = "parameters and single-run scatter"
    return _from_draws(point, losses, level, what, warnings)


def predict_curve(
    fit: Fit,
    schedule: np.ndarray,
    steps: np.ndarray | int,
    *,
    level: float = 0.9,
    observed: bool = True,
    warmup_steps: int | None = None,
    far: float = FAR,
) -> Prediction:
    """Returns the predicted loss at `steps` of a run under `schedule`, from an annealing fit.

    Args:
      fit: fit of the annealing law; its lambda and its treatment of warm-up are used.
      schedule: [updates] rate of every update, warm-up included.
      steps: update index or indices, from 0 to updates - 1.
      level, observed, far: as in `predict`.
      warmup_steps: updates of the warm-up; None takes the updates before the first peak.
    """
    if fit.law != "annealing":
        raise InputError(f"fit of the {fit.law} law: predict_curve needs one of the annealing law")
    s1, s2 = annealing.sums(
        schedule, lambda_=fit.fixed["lambda"], warmup=fit.fixed["warmup"], warmup_steps=warmup_steps
    )
    steps = np.atleast_1d(np.asarray(steps))
    wrong = (steps < 0) | (steps >= s1.size) | (steps != np.floor(steps))
    if wrong.any():
        raise InputError(f"step = {steps[wrong][0]}: must be an integer; the updates are 0 to {s1.size - 1}")
    steps = steps.astype(np.int64)
    return predict(fit, level=level, observed=observed, far=far, S1=s1[steps], S2=s2[steps])


def compute_optimal(fit: Fit, flops: float, *, level: float = 0.9) -> dict[str, Prediction]:
    """Returns N, D and D/N of least loss at C = 6 N D = `flops`, from a fit of the chinchilla law."""
    _check_level(level)
    if fit.law != "chinchilla":
        raise InputError(f"fit of the {fit.law} law: compute_optimal needs one of the chinchilla law")
    if not (np.isfinite(flops) and flops > 0):
        raise InputError(f"flops = {flops!r}: must be finite and above 0")
    n, d = chinchilla.compute_optimal(fit.values[None], flops)
    warnings = _far_queries(fit, {"N": n, "D": d}, FAR)
    points = {"N": n, "D": d, "D/N": d / n}
    if fit.draws is None:
        none = {"low": None, "high": None, "level": level, "interval": fit.bootstrap, "warnings": warnings}
        return {name: Prediction(point=point, **none) for name, point in points.items()}
    n, d = chinchilla.compute_optimal(fit.draws, flops)
    draws = {"N": n, "D": d, "D/N": d / n}
    return {
        name: _from_draws(points[name], values[:, None], level, "parameters", warnings)
        for name, values in draws.items()
    }


def _from_draws(
    point: np.ndarray, draws: np.ndarray, level: float, what: str, warnings: tuple[str, ...]
) -> Prediction:
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    covers = f"{level:.0%} from {len(draws)} draws, covers {what}, excludes model error"
    return Prediction(point=point, low=low, high=high, level=level, interval=covers, warnings=warnings)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise InputError(f"level = {level!r}: must lie between 0 and 1")


def _queries(fit: Fit, columns: dict[str, np.ndarray | float]) -> dict[str, np.ndarray]:
    law = fit.definition
    if set(columns) != set(law.inputs):
        given = ", ".join(columns) or "nothing"
        raise InputError(f"query {given}: the {law.name} law needs exactly {', '.join(law.inputs)}")
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


def _far_queries(fit: Fit, arrays: dict[str, np.ndarray], far: float) -> tuple[str, ...]:
    lines = []
    for name, (low, high) in fit.ranges.items():
        smallest, largest = arrays[name].min(), arrays[name].max()
        # An input that is zero in the data has no factor below it; a negative query is outside then.
        below = smallest < low / far if low > 0 else smallest < min(low, 0.0)
        if below or largest > max(high, 0.0) * far:
            at = f"{smallest:.4g}" if below else f"{largest:.4g}"
            lines.append(
                f"{name} = {at} lies more than {far:g} times outside the fitted {low:.4g} to {high:.4g}"
            )
    return tuple(lines)
