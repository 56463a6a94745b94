"""Fits any law: checks the data, starts from a grid, minimises, bootstraps.

Recipe: sum over rows of Huber(1e-3) on log residuals (Hoffmann et al. 2022, arXiv 2203.15556), the
*sum*, scaled to order one, because averaging stops optimisers early (Besiroglu et al. 2024, arXiv
2404.10102); parameters in which the law is linear solved exactly at every start; exact derivatives.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from scaling import bootstrap as bootstrap_module
from scaling import prior as prior_module
from scaling import robust
from scaling.bootstrap import Bootstrap
from scaling.errors import InputError
from scaling.fitted import Fit
from scaling.law import Law, check_conventions
from scaling.laws import registry
from scaling.prior import Prior

# Starts have reached the best objective within this share of it, or, where rows fit without error,
# within this much in units of delta^2.
_REACHED, _EXACT = 1e-3, 1e-6
# A parameter this close to its bound, as a share of the box, is reported.
_AT_BOUND = 1e-6


def fit(
    law: str | Law,
    data: Mapping[str, np.ndarray],
    *,
    unit: str,
    counting: str | None = None,
    bootstrap: Bootstrap | None = None,
    prior: Sequence[Prior] = (),
    noise: float | None = None,
    delta: float = 1e-3,
    fixed: Mapping[str, object] | None = None,
) -> Fit:
    """Returns the law fitted to `data`.

    Args:
      law: a registered law or its name.
      data: columns [rows]: the law's inputs, `loss`, and any that `bootstrap` names.
      unit: unit of the loss, one of `scaling.law.UNITS`.
      counting: which parameters N counts; needed exactly where the law has an N.
      bootstrap: how to make draws; None makes none.
      prior: declared priors. The objective becomes Huber sum + noise^2 * sum z^2 / 2.
      noise: standard deviation of log loss that weighs rows against priors. None estimates it from
        a fit without priors: noise^2 = 2 * Huber sum / (rows - parameters).
      delta: Huber threshold on log residuals, above 0; 1e-3 is Hoffmann et al.'s.
      fixed: constants behind the columns, e.g. lambda, kept in the result.

    Raises `InputError` for missing, non-finite or too few rows, for inputs with too few distinct
    values, and for undeclared conventions.
    """
    law = registry.get(law) if isinstance(law, str) else law
    check_conventions(law, unit, counting)
    if not delta > 0:
        raise InputError(f"delta = {delta!r}: must be above 0")
    data = {name: np.asarray(column) for name, column in data.items()}
    columns, log_loss = _check_rows(law, data, len(prior))
    centre, precision = prior_module.as_arrays(law, prior)
    starts = _starts(law, columns, np.exp(log_loss))
    problem = robust.Problem(
        law=law,
        columns=columns,
        log_target=log_loss[None],
        weights=np.ones((1, log_loss.size)),
        delta=delta,
        prior_centre=robust.to_moved(law, centre)[None],
        prior_precision=np.zeros_like(precision),
    )
    noise = _noise(problem, starts, noise) if len(prior) else None
    problem = dataclasses.replace(problem, prior_precision=precision * (noise or 0.0) ** 2)
    moved, reached = robust.minimise(problem, starts)
    best = int(np.argmin(reached))
    share = float(np.mean(reached <= reached[best] * (1 + _REACHED) + _EXACT))
    values = robust.to_natural(law, moved[best])
    residuals = log_loss - np.log(law.loss(values[None], columns)[0])
    draws, how = None, "none: no bootstrap was asked for"
    if bootstrap is not None:
        sd = np.where(precision > 0, 1 / np.sqrt(np.maximum(precision, 1e-300)), 0.0)
        draws, how = bootstrap_module.draw(
            problem, moved[best], residuals, bootstrap, data=data, prior_sd=sd
        )
    return Fit(
        law=law.name,
        params=dict(zip(law.names, values.tolist())),
        unit=unit,
        counting=counting,
        fixed=dict(fixed or {}),
        delta=delta,
        objective=float(np.sum(robust.huber(residuals, delta))),
        n_rows=log_loss.size,
        starts=len(starts),
        starts_at_best=share,
        ranges={name: (float(column.min()), float(column.max())) for name, column in columns.items()},
        prior=tuple(prior),
        noise=noise,
        residuals=residuals,
        draws=draws,
        bootstrap=how,
        warnings=_warnings(law, columns, values, share),
        data=data,
    )


def _check_rows(
    law: Law, data: Mapping[str, np.ndarray], priors: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Returns the law's inputs and log losses as float64 [rows]."""
    columns = {name: _number_column(law, data, name) for name in (*law.inputs, "loss")}
    rows = columns["loss"].size
    for name, column in data.items():
        if column.shape != (rows,):
            shapes = f"column {name!r} has shape {column.shape}, loss has {columns['loss'].shape}"
            raise InputError(f"data: {shapes}; all must be [rows]")
    needed = len(law.parameters) + 1 - priors
    if rows < needed:
        rule = f"{len(law.parameters)} parameters with {priors} priors need at least {needed}"
        raise InputError(f"data: {rows} rows: {rule}")
    for name, (required, _) in law.distinct.items():
        seen = np.unique(columns[name]).size
        if seen < required:
            rule = f"the law needs at least {required}"
            raise InputError(f"data: {name} takes {seen} distinct value(s): {rule}")
    return {name: columns[name] for name in law.inputs}, np.log(columns["loss"])


def _number_column(law: Law, data: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in data:
        needs = ", ".join((*law.inputs, "loss"))
        raise InputError(f"data: no column {name!r}; the {law.name} law needs {needs}")
    try:
        column = data[name].astype(np.float64)
    except ValueError:
        raise InputError(f"data: column {name!r} holds something that is not a number") from None
    if column.ndim != 1:
        raise InputError(f"data: column {name!r} has shape {column.shape}: must be [rows]")
    positive = name == "loss" or name in law.positive
    wrong = ~np.isfinite(column) | ((column <= 0) & positive)
    if wrong.any():
        row = int(np.argmax(wrong))
        rule = "must be finite and above 0" if positive else "must be finite"
        raise InputError(f"data: {name}[{row}] = {column[row]}: {rule}")
    return column


def _starts(law: Law, columns: Mapping[str, np.ndarray], loss: np.ndarray) -> np.ndarray:
    """Returns the starting points [starts, parameters] in moved coordinates.

    A grid over the parameters that are not linear; the linear ones by non-negative least squares
    on relative residuals, which is the exact minimum of the quadratic problem there.
    """
    from scipy.optimize import nnls  # a second of import time, paid only by those who fit

    grid = itertools.product(*(p.starts for p in law.parameters if p.name not in law.linear))
    searched = [index for index, name in enumerate(law.names) if name not in law.linear]
    solved = [index for index, name in enumerate(law.names) if name in law.linear]
    starts = []
    for point in grid:
        values = np.zeros((len(solved) + 1, len(law.names)))
        values[:, searched] = point
        values[np.arange(len(solved)), solved] = 1.0
        terms = law.loss(values, columns)
        basis = (terms[:-1] - terms[-1]) / loss  # each linear term over the loss, less the constant part
        size = np.abs(basis).max(axis=1)
        scales, _ = nnls((basis / size[:, None]).T, 1.0 - terms[-1] / loss)
        # A term that least squares leaves out starts at one per cent, from where its logarithm can move.
        values[0, solved] = np.maximum(scales, 0.01) / size
        starts.append(values[0])
    return robust.to_moved(law, np.array(starts))


def _noise(problem: robust.Problem, starts: np.ndarray, declared: float | None) -> float:
    """Returns the declared deviation of log losses, or an estimate from a fit without priors."""
    if declared is not None:
        if not declared > 0:
            raise InputError(f"noise = {declared!r}: must be above 0")
        return declared
    _, reached = robust.minimise(problem, starts)
    rows, parameters = problem.log_target.size, starts.shape[1]
    return float(problem.delta * np.sqrt(2 * reached.min() / max(rows - parameters, 1)))


def _warnings(
    law: Law, columns: Mapping[str, np.ndarray], values: np.ndarray, share: float
) -> tuple[str, ...]:
    lines = []
    for name, (_, wanted) in law.distinct.items():
        seen = np.unique(columns[name]).size
        if seen < wanted:
            why = "are wanted to tell its exponent from its scale"
            lines.append(f"{name} takes {seen} distinct values; {wanted} {why}")
    logs = np.log(np.array([columns[name] for name in law.positive]))
    spread = logs - logs.mean(axis=1, keepdims=True)
    if len(logs) > 1 and np.linalg.svd(spread, compute_uv=False)[-1] < 1e-3 * np.linalg.norm(spread):
        lines.append(
            f"{' and '.join(law.positive)} move together in all rows, so their terms cannot be told apart"
        )
    moved = robust.to_moved(law, values)
    for parameter, at, low, high in zip(law.parameters, moved, *robust.box(law)):
        if min(at - low, high - at) < _AT_BOUND * (high - low):
            lines.append(f"{parameter.name} stands at its bound {values[law.names.index(parameter.name)]:g}")
    if share < 0.1:
        lines.append(f"only {share:.0%} of the starts reached the best objective")
    return tuple(lines)
