"""What a fit returns, and its JSON file."""

import dataclasses
import json
import os
from typing import Any

import numpy as np

from scaling.errors import InputError
from scaling.law import Law
from scaling.laws import registry
from scaling.prior import Prior
from scaling.record import files

_FORMAT = "scaling.fit"
_VERSION = 1
_ARRAYS = ("residuals", "draws")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fit:
    """A fitted law; every array is NumPy float64.

    Attributes:
      law: name of the law.
      params: point estimate by name.
      unit: unit of the loss, as declared.
      counting: which parameters N counts, as declared; None where the law has no N.
      fixed: constants that were not fitted, e.g. lambda.
      delta: Huber threshold on log residuals.
      objective: sum over rows of Huber(delta), without the prior's part.
      n_rows: rows fitted.
      starts: number of starting points.
      starts_at_best: share of them that ended within a thousandth of the best objective.
      ranges: smallest and largest value of each input among the rows.
      prior: the declared priors; `noise` is the standard deviation of log loss that weighs them.
      residuals: [rows] log observed - log predicted.
      draws: [draws, parameters] bootstrap parameters, or None with the reason in `bootstrap`.
      bootstrap: how the draws were made, or why there are none.
      warnings: what a reader should know before trusting the fit.
      data: the rows, columns by name.
    """

    law: str
    params: dict[str, float]
    unit: str
    counting: str | None
    fixed: dict[str, Any] = dataclasses.field(default_factory=dict)
    delta: float = 1e-3
    objective: float = float("nan")
    n_rows: int = 0
    starts: int = 0
    starts_at_best: float = float("nan")
    ranges: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    prior: tuple[Prior, ...] = ()
    noise: float | None = None
    residuals: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    draws: np.ndarray | None = None
    bootstrap: str = "no bootstrap was asked for"
    warnings: tuple[str, ...] = ()
    data: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def definition(self) -> Law:
        """The law's definition."""
        return registry.get(self.law)

    @property
    def values(self) -> np.ndarray:
        """The point estimate, [parameters], in the law's order."""
        return np.array([self.params[name] for name in self.definition.names])

    def interval(self, parameter: str, level: float = 0.9) -> tuple[float, float] | None:
        """Returns the central interval of one parameter from the draws, None where there are none."""
        if not 0 < level < 1:
            raise InputError(f"level = {level!r}: must lie between 0 and 1")
        if self.draws is None:
            return None
        column = self.draws[:, self.definition.names.index(parameter)]
        low, high = np.quantile(column, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    def table(self, level: float = 0.9) -> str:
        """Returns the fit as plain text: parameters with intervals, conventions, warnings."""
        law = self.definition
        lines = [f"{law.name}: {law.equation}", f"  {law.source}"]
        counted = f", N = {self.counting} parameters" if self.counting else ""
        fixed = "".join(f", {name} {value}" for name, value in self.fixed.items())
        lines.append(f"  loss in {self.unit}{counted}{fixed}")
        if self.n_rows:
            share = f"{self.starts_at_best:.0%} of {self.starts} starts reached it"
            objective = f"sum of Huber({self.delta:g}) {self.objective:.6g}"
            lines.append(f"  {self.n_rows} rows, {objective}, {share}")
        lines.append("")
        lines.append(f"  {'name':<8}{'value':>12}   {f'{level:.0%} interval':<24} meaning")
        for parameter in law.parameters:
            bounds = self.interval(parameter.name, level)
            text = f"{bounds[0]:.5g} to {bounds[1]:.5g}" if bounds else "none"
            value = self.params[parameter.name]
            lines.append(f"  {parameter.name:<8}{value:>12.6g}   {text:<24} {parameter.meaning}")
        lines.append("")
        lines.append(f"  intervals: {self.bootstrap}")
        lines.extend(f"  prior: {prior.describe()}; noise {self.noise:.3g}" for prior in self.prior)
        lines.extend(f"  warning: {warning}" for warning in self.warnings)
        return "\n".join(lines)


def published(law: str, key: str) -> Fit:
    """Returns the coefficients of publication `key` as a `Fit` without data and without draws."""
    definition = registry.get(law)
    known = {entry.key: entry for entry in definition.published}
    if key not in known:
        raise InputError(f"published = {key!r}: the {law} law knows {', '.join(known) or 'none'}")
    entry = known[key]
    checked = "read in the authors' paper or code" if entry.verified else "quoted by others, not verified"
    return Fit(
        law=law,
        params=dict(entry.values),
        unit=entry.unit,
        counting=entry.counting,
        fixed=dict(entry.fixed),
        bootstrap=f"none: published coefficients without draws ({entry.source}; {checked})",
        warnings=(entry.note,) if entry.note else (),
    )


def save(fit: Fit, path: str | os.PathLike[str]) -> None:
    """Writes `fit` as JSON, replaced atomically; `load` is its inverse, bit for bit."""
    data = {field.name: getattr(fit, field.name) for field in dataclasses.fields(fit)}
    data["prior"] = [dataclasses.asdict(prior) for prior in fit.prior]
    for name, value in data.items():
        if isinstance(value, float):
            data[name] = files.null_if_not_finite(value)
    text = files.to_json({"format": _FORMAT, "version": _VERSION} | data, "fit") + "\n"
    files.replace_atomically(files.folder(path), text.encode())


def load(path: str | os.PathLike[str]) -> Fit:
    """Returns the fit in the JSON file `path`; raises `InputError` where it is not one."""
    path = files.folder(path)
    try:
        data = json.loads(files.read_bytes(path))
    except OSError as error:
        raise InputError(f"fit = {str(path)!r}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON: {error}") from None
    kind = (data.pop("format", None), data.pop("version", None)) if isinstance(data, dict) else None
    if kind != (_FORMAT, _VERSION):
        raise InputError(f"{path}: not a fit saved by scaling (format {_FORMAT!r}, version {_VERSION})")
    try:
        for name in _ARRAYS:
            data[name] = None if data[name] is None else np.asarray(data[name], dtype=np.float64)
        data["data"] = {name: np.asarray(column) for name, column in data["data"].items()}
        data["prior"] = tuple(Prior(**prior) for prior in data["prior"])
        data["ranges"] = {name: tuple(bounds) for name, bounds in data["ranges"].items()}
        data["warnings"] = tuple(data["warnings"])
        for name in ("objective", "starts_at_best"):
            data[name] = float("nan") if data[name] is None else data[name]
        return Fit(**data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: damaged fit: {error!r}") from None
