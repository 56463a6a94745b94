"""The question `holdout`: how well a law predicts runs that it was not fitted to.

Whole curves, sizes, budgets or cells are left out: a random split of points from one curve would
prove nothing, because its neighbours give every point away.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scaling import intervals, scores
from scaling import curves as curves_module
from scaling.bootstrap import Bootstrap
from scaling.curves import Curve
from scaling.errors import InputError
from scaling.fitted import Fit
from scaling.law import Law
from scaling.laws import registry
from scaling.questions import data as data_module
from scaling.questions.data import Data
from scaling.questions.fit import fit_data, resampled_by
from scaling.questions.holdout_result import Fold, Holdout
from scaling.readers import ColumnMap

# Budgets within 5% of each other are one: FLOPs are rarely hit exactly.
_SAME_BUDGET = 0.05
# More values than this are left out in ten groups of neighbours: a fit for each would prove no more.
_MANY, _GROUPS = 20, 10


def holdout(
    law: str | Law,
    data: Any,
    *,
    by: str = "",
    fit_on: Sequence[str] = (),
    level: float = 0.9,
    bootstrap: Bootstrap | int | None = None,
    unit: str | None = None,
    counting: str | None = None,
    mapping: ColumnMap | str | None = None,
    **recipe: Any,
) -> Holdout:
    """Returns the scores of `law` on rows or curves that each of its fits has not seen.

    Args:
      law: a law or its name.
      data: anything that `scaling.fit` takes.
      by: one of `holdout_result.PROTOCOLS`, or the name of a column whose values are left out in turn, in ten groups
        of neighbours where there are more than twenty. "" is curve for laws of whole curves, else size.
      fit_on: curves by name that are fitted, in place of `by`: all others are held out, a fold each.
      level: probability of the intervals.
      bootstrap: how draws are made, as in `scaling.fit`; None gives no share of rows inside.
      unit, counting, mapping: as in `scaling.fit`.
      **recipe: further arguments of `scaling.fit`: prior, pinned, settings, delta, from_step.

    Raises `InputError` for unknown protocols, and where no fold can be fitted.
    """
    intervals.check_level(level)
    law = registry.get(law) if isinstance(law, str) else law
    curves = law.columns_of is not None
    if not isinstance(data, Data):
        data = data_module.read(data, curves=curves, mapping=mapping, unit=unit, counting=counting)
    if curves != (data.curves is not None):
        raise InputError(f"data: the {law.name} law takes {'whole curves' if curves else 'rows, a run each'}")
    by = by or ("curve" if curves else "size")
    if curves:
        folds = _curve_folds(law, data, by, fit_on=fit_on, level=level, bootstrap=bootstrap, recipe=recipe)
    else:
        if fit_on:
            raise InputError(f"fit_on = {list(fit_on)}: the {law.name} law has no curves")
        folds = _row_folds(law, data, by, level=level, bootstrap=bootstrap, recipe=recipe)
    if all(fold.reason for fold in folds):
        raise InputError(f"holdout: no fold could be fitted; the first: {folds[0].reason}")
    protocol = "curves not among " + ", ".join(fit_on) if fit_on else by
    return Holdout(law=law.name, protocol=protocol, folds=tuple(folds), level=level)


def labels(data: Mapping[str, np.ndarray], by: str) -> tuple[np.ndarray, bool]:
    """Returns the label [rows] by which rows are left out, and whether only the largest is."""
    largest, kind = by.startswith("largest-"), by.removeprefix("largest-")
    if kind == "size":
        label = _column(data, "N", by)
    elif kind == "budget":
        flops = np.asarray(data["C"]) if "C" in data else 6.0 * _column(data, "N", by) * _column(data, "D", by)
        label = _merged(flops.astype(np.float64))
    elif kind == "cell" and "cell" not in data:
        label = data_module.cells({name: _column(data, name, by) for name in ("N", "D")})
    else:
        label = _column(data, kind, by)
    return label, largest


def score(fit: Fit, predicted: intervals.Prediction, observed: np.ndarray, name: str) -> Fold:
    """Returns the scores of `predicted` against `observed`, [rows] both."""
    covered = None
    if predicted.low is not None and predicted.high is not None:
        covered = float(np.mean((predicted.low <= observed) & (observed <= predicted.high)))
    return Fold(
        name=name,
        fitted=fit.n_rows,
        held_out=observed.size,
        pred_e=scores.pred_e(predicted.point, observed),
        worst_e=scores.worst_e(predicted.point, observed),
        r2=scores.r2(predicted.point, observed),
        covered=covered,
    )


def _row_folds(
    law: Law,
    given: Data,
    by: str,
    *,
    level: float,
    bootstrap: Bootstrap | int | None,
    recipe: Mapping[str, Any],
) -> list[Fold]:
    further = given.table.further if given.table is not None else {}
    given = given.for_law(law, *resampled_by(bootstrap))
    data = {name: np.asarray(column) for name, column in (given.rows or {}).items()}
    label, largest = labels({**further, **data}, by)
    missing = [] if law.score else [name for name in (*law.inputs, law.target) if name not in data]
    if missing:
        raise InputError(f"holdout: no column {missing[0]!r}, which the {law.name} law is judged by")
    values = np.unique(label)
    if values.size < 2:
        raise InputError(f"holdout by {by}: all rows have one value, so nothing can be left out")
    groups = np.array_split(values, _GROUPS) if values.size > _MANY else np.array_split(values, values.size)
    folds = []
    for group in groups[-1:] if largest else groups:
        held = np.isin(label, group)
        ends = [f"{value:.4g}" if np.issubdtype(label.dtype, np.number) else str(value) for value in group[[0, -1]]]
        name = " to ".join(dict.fromkeys(ends))
        try:
            kept = {column: array[~held] for column, array in data.items()}
            fit = fit_data(law, dataclasses.replace(given, rows=kept), bootstrap=bootstrap, **recipe)
        except InputError as error:
            folds.append(_failed(name, int(np.sum(~held)), int(np.sum(held)), str(error)))
            continue
        rows = {column: array[held] for column, array in data.items()}
        if law.score is not None:
            folds.append(_own_score(law, fit, rows, name))
            continue
        predicted = intervals.predict(fit, level=level, **{key: rows[key] for key in law.inputs})
        folds.append(score(fit, predicted, rows[law.target].astype(np.float64), name))
    return folds


def _own_score(law: Law, fit: Fit, rows: Mapping[str, np.ndarray], name: str) -> Fold:
    errors = law.score(fit.values[None], rows)[0]
    mean, worst = float(np.mean(errors)), float(np.max(errors))
    size = rows[law.fit_columns[0]].size
    return Fold(name=name, fitted=fit.n_rows, held_out=size, pred_e=mean, worst_e=worst, r2=np.nan, covered=None)


def _curve_folds(
    law: Law,
    given: Data,
    by: str,
    *,
    fit_on: Sequence[str],
    level: float,
    bootstrap: Bootstrap | int | None,
    recipe: Mapping[str, Any],
) -> list[Fold]:
    if by not in ("", "curve", "size", "largest-size"):
        raise InputError(f"by = {by!r}: a law of whole curves is judged by curve, size or largest-size")
    curves = [curves_module.as_curve(item, index) for index, item in enumerate(given.curves or ())]
    groups = _curve_groups(curves, by, fit_on)
    folds, fits = [], {}
    for held in groups:
        left_out = {curve.name for curve in held}
        kept = [curve for curve in curves if (curve.name in fit_on if fit_on else curve.name not in left_out)]
        key = tuple(curve.name for curve in kept)
        try:
            part = dataclasses.replace(given, curves=kept)
            fits[key] = fits.get(key) or fit_data(law, part, bootstrap=bootstrap, **recipe)
        except InputError as error:
            folds.extend(_failed(curve.name, 0, curve.steps.size, str(error)) for curve in held)
            continue
        folds.extend(_score_curve(fits[key], curve, level, recipe.get("from_step", 0)) for curve in held)
    return folds


def _curve_groups(curves: list[Curve], by: str, fit_on: Sequence[str]) -> list[list[Curve]]:
    """Returns the curves that each fold leaves out."""
    if fit_on:
        unknown = sorted(set(fit_on) - {curve.name for curve in curves})
        if unknown:
            known = ", ".join(curve.name for curve in curves)
            raise InputError(f"fit_on = {unknown[0]!r}: no such curve; known: {known}")
        groups = [[curve] for curve in curves if curve.name not in fit_on]
    elif by in ("size", "largest-size"):
        if any(curve.N is None for curve in curves):
            raise InputError(f"by = {by!r}: needs the parameter count N of every curve")
        sizes = sorted({curve.N for curve in curves})
        groups = [[curve for curve in curves if curve.N == n] for n in (sizes[-1:] if "largest" in by else sizes)]
    else:
        groups = [[curve] for curve in curves]
    if not groups or len(curves) < 2:
        raise InputError("holdout: no curve is left to hold out")
    return groups


def _score_curve(fit: Fit, curve: Curve, level: float, from_step: int) -> Fold:
    first = max(curves_module.warmup_end(curve.schedule, curve.warmup_steps), from_step)
    keep = curve.steps >= first
    predicted = intervals.predict_curve(
        fit, curve.schedule, curve.steps[keep], level=level, warmup_steps=curve.warmup_steps,
        N=curve.N if fit.definition.counted else None,
    )
    return score(fit, predicted, curve.losses[keep], curve.name)


def _failed(name: str, fitted: int, held: int, reason: str) -> Fold:
    none = {"pred_e": np.nan, "worst_e": np.nan, "r2": np.nan, "covered": None}
    return Fold(name=name, fitted=fitted, held_out=held, reason=reason, **none)


def _column(data: Mapping[str, np.ndarray], name: str, by: str) -> np.ndarray:
    if name not in data:
        raise InputError(f"holdout by {by}: no column {name!r}; known: {', '.join(data)}")
    return np.asarray(data[name])


def _merged(flops: np.ndarray) -> np.ndarray:
    """Returns for each budget the smallest of the run of budgets that it continues."""
    order = np.argsort(flops, kind="stable")
    merged = flops.copy()
    for before, at in zip(order, order[1:]):
        if flops[at] <= flops[before] * (1 + _SAME_BUDGET):
            merged[at] = merged[before]
    return merged
