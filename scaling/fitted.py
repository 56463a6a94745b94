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
_VERSION = 2
_ARRAYS = ("residuals", "scatter", "draws")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fit:
    """A fitted law; every array is NumPy float64.

    Attributes:
      law: name of the law.
      params: point estimate by name.
      unit: unit of the loss, as declared.
      counting: which parameters N counts, as declared; None where the law has no N.
      settings: constants that were not fitted, e.g. lambda.
      pinned: parameters that were held at a value.
      delta: Huber threshold on log residuals.
      objective: sum over rows of Huber(delta), without the prior's part.
      n_rows: rows fitted.
      starts: number of starting points.
      starts_at_best: share of them that ended within a thousandth of the best objective.
      ranges: smallest and largest value of each input among the rows.
      prior: the declared priors; `noise` is the standard deviation of log loss that weighs them.
      residuals: [rows] observed - predicted, of logarithms where the law compares those.
      scatter: [any] sample of how far single observations lie from the law, on the same scale.
      draws: [draws, parameters] bootstrap parameters, or None with the reason in `bootstrap`.
      bootstrap: how the draws were made, or why there are none.
      warnings: what a reader should know before trusting the fit.
      notes: which rows were left out and why, what was derived.
      data: the rows, columns by name.
      conditions: of a law of whole curves, under what its curves were trained: the distinct values of each
        fact (peak_lr, updates, and `Curve.facts`) that all of them state.
    """

    law: str
    params: dict[str, float]
    unit: str | None
    counting: str | None
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    pinned: dict[str, float] = dataclasses.field(default_factory=dict)
    delta: float = float("nan")
    objective: float = float("nan")
    n_rows: int = 0
    starts: int = 0
    starts_at_best: float = float("nan")
    ranges: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    prior: tuple[Prior, ...] = ()
    noise: float | None = None
    residuals: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    scatter: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    draws: np.ndarray | None = None
    bootstrap: str = "no bootstrap was asked for"
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    data: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    conditions: dict[str, list[Any]] = dataclasses.field(default_factory=dict)

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
        conventions = [f"loss in {self.unit}"] if self.unit else []
        conventions += [f"N = {self.counting} parameters"] if self.counting else []
        conventions += [f"{name} {value}" for name, value in self.settings.items()]
        lines.append(f"  {', '.join(conventions) or 'no units to declare'}")
        if self.starts:
            share = f"{self.starts_at_best:.0%} of {self.starts} starts reached it"
            kind = "squares" if np.isinf(self.delta) else f"Huber({self.delta:g})"
            total = 2 * self.objective if np.isinf(self.delta) else self.objective
            lines.append(f"  {self.n_rows} rows, sum of {kind} {total:.6g}, {share}")
        elif self.n_rows:
            lines.append(f"  {self.n_rows} rows, solved in closed form")
        lines.append("")
        lines.append(f"  {'name':<8}{'value':>12}   {f'{level:.0%} interval':<24} meaning")
        for parameter in law.parameters:
            bounds = self.interval(parameter.name, level)
            text = f"{bounds[0]:.5g} to {bounds[1]:.5g}" if bounds else "none"
            text = "pinned" if parameter.name in self.pinned else text
            value = self.params[parameter.name]
            lines.append(f"  {parameter.name:<8}{value:>12.6g}   {text:<24} {parameter.meaning}")
        lines.append("")
        lines.append(f"  intervals: {self.bootstrap}")
        lines.extend(f"  prior: {prior.describe()}; noise {self.noise:.3g}" for prior in self.prior)
        lines.extend(f"  warning: {warning}" for warning in self.warnings)
        lines.extend(f"  note: {note}" for note in self.notes)
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
        settings={**definition.settings, **entry.settings},
        ranges=dict(entry.ranges),
        bootstrap=f"none: published coefficients without draws ({entry.source}; {checked})",
        warnings=(entry.note,) if entry.note else (),
    )


def save(fit: Fit, path: str | os.PathLike[str]) -> None:
    """Writes `fit` as JSON, replaced atomically; `load` is its inverse, bit for bit."""
    files.replace_atomically(files.folder(path), (files.to_json(to_dict(fit), "fit") + "\n").encode())


def load(path: str | os.PathLike[str]) -> Fit:
    """Returns the fit in the JSON file `path`; raises `InputError` where it is not one."""
    path = files.folder(path)
    try:
        data = json.loads(files.read_bytes(path))
    except OSError as error:
        raise InputError(f"fit = {str(path)!r}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON: {error}") from None
    return from_dict(data, str(path))


def to_dict(fit: Fit) -> dict[str, Any]:
    """Returns `fit` with its format and version, for JSON; `from_dict` is the inverse."""
    data = {field.name: getattr(fit, field.name) for field in dataclasses.fields(fit)}
    data["prior"] = [dataclasses.asdict(prior) for prior in fit.prior]
    for name, value in data.items():
        if isinstance(value, float):
            data[name] = files.null_if_not_finite(value)
    if np.isinf(fit.delta):
        data["delta"] = "inf"
    return {"format": _FORMAT, "version": _VERSION} | data


def from_dict(data: Any, where: str) -> Fit:
    """Returns the fit in `data`, read from JSON; raises `InputError` naming `where` if it is none."""
    data = dict(data) if isinstance(data, dict) else data
    kind = (data.pop("format", None), data.pop("version", None)) if isinstance(data, dict) else (None, None)
    if kind[0] == _FORMAT and kind[1] != _VERSION:
        rule = f"this scaling reads version {_VERSION}: fit again"
        raise InputError(f"{where}: a fit of version {kind[1]!r}; {rule}")
    if kind[0] == "scaling.chain":
        raise InputError(f"{where}: a chain of two fits; this question takes a single fit")
    if kind[0] != _FORMAT:
        raise InputError(f"{where}: not a fit saved by scaling (format {_FORMAT!r}, version {_VERSION})")
    try:
        for name in _ARRAYS:
            data[name] = None if data[name] is None else np.asarray(data[name], dtype=np.float64)
        data["data"] = {name: np.asarray(column) for name, column in data["data"].items()}
        data["prior"] = tuple(Prior(**prior) for prior in data["prior"])
        data["ranges"] = {name: tuple(bounds) for name, bounds in data["ranges"].items()}
        data["warnings"], data["notes"] = tuple(data["warnings"]), tuple(data["notes"])
        for name in ("objective", "starts_at_best"):
            data[name] = float("nan") if data[name] is None else data[name]
        data["delta"] = float("nan" if data["delta"] is None else data["delta"])
        law = registry.get(data["law"])
        data["params"] = {name: float(data["params"][name]) for name in law.names}
        if data["draws"] is not None and data["draws"].shape[1:] != (len(law.names),):
            raise ValueError(f"draws of shape {data['draws'].shape} for {len(law.names)} parameters")
        return Fit(**data)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{where}: damaged fit: {error!r}") from None
