"""What a law is: named parameters with bounds, a pure formula, the data and conventions it assumes."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from scaling.errors import InputError

# Losses in one unit are fitted and predicted in that unit; nothing is converted.
UNITS = ("nats/token", "bits/token", "nats/byte", "bits/byte")
COUNTINGS = ("total", "non_embedding", "with_head")

Columns = Mapping[str, np.ndarray]
Formula = Callable[[Mapping[str, np.ndarray], Columns], np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter of a law.

    Attributes:
      name: name in the formula.
      meaning: one line for tables.
      low, high: bounds in natural units; the fit never leaves them.
      starts: starting values of a parameter in which the formula is not linear.
      log: whether the fit moves its logarithm (the parameter is positive).
    """

    name: str
    meaning: str
    low: float
    high: float
    starts: tuple[float, ...] = ()
    log: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """Coefficients from a publication.

    `verified` is True where they were read in the authors' own paper, code or data, or measured
    again from it, and False where they were only quoted by others. `fixed` holds constants that
    the source did not fit.
    """

    key: str
    source: str
    values: Mapping[str, float]
    unit: str
    counting: str | None
    verified: bool
    fixed: Mapping[str, object] = dataclasses.field(default_factory=dict)
    note: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Law:
    """A law as the engine sees it; adding one is a file with such an object and a registry line.

    Attributes:
      name: name in the registry and on the command line.
      equation: the formula as text.
      source: author, year and arXiv number.
      parameters: all parameters, in the order of parameter arrays.
      linear: names of the parameters in which the formula is linear, all of them positive. They are
        solved exactly when a fit starts.
      formula: maps parameters [draws, 1] and columns [rows] to losses [draws, rows]. It must be
        analytic in the parameters that are not linear (no abs, no comparison), because derivatives
        are taken by a complex step, which is exact to rounding.
      inputs: columns that the formula needs, all but the loss.
      positive: the inputs that must be above zero.
      distinct: for an input, how many distinct values are required and how many are wanted.
      counted: whether an input is a parameter count, so that the counting must be declared.
      published: coefficients from the literature.
    """

    name: str
    equation: str
    source: str
    parameters: tuple[Parameter, ...]
    linear: tuple[str, ...]
    formula: Formula
    inputs: tuple[str, ...]
    positive: tuple[str, ...]
    distinct: Mapping[str, tuple[int, int]]
    counted: bool
    published: tuple[Published, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in order."""
        return tuple(parameter.name for parameter in self.parameters)

    def loss(self, values: np.ndarray, columns: Columns) -> np.ndarray:
        """Returns the losses [draws, rows] at parameters `values` [draws, parameters]."""
        named = {name: values[:, index, None] for index, name in enumerate(self.names)}
        return self.formula(named, columns)


def check_conventions(law: Law, unit: str | None, counting: str | None) -> None:
    """Raises `InputError` unless the loss unit, and the counting where N enters, are declared."""
    if unit not in UNITS:
        raise InputError(f"unit = {unit!r}: declare the unit of the loss, one of {', '.join(UNITS)}")
    if law.counted and counting not in COUNTINGS:
        rule = f"declare which parameters N counts, one of {', '.join(COUNTINGS)}"
        raise InputError(f"counting = {counting!r}: {rule}")
    if not law.counted and counting is not None:
        raise InputError(f"counting = {counting!r}: the {law.name} law has no parameter count")
