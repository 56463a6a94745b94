"""Gaussian priors on parameters, declared by the user and printed with every fit."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from scaling.errors import InputError
from scaling.law import Law


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prior:
    """A Gaussian prior on one parameter.

    Attributes:
      parameter: name of the parameter.
      value: its centre, in natural units.
      sd: standard deviation of the natural logarithm for a parameter that the law keeps positive
        (0.3 is about 30%), of the parameter itself otherwise.
    """

    parameter: str
    value: float
    sd: float

    def describe(self) -> str:
        """Returns the prior as text for tables."""
        rule = "of the log where the parameter is positive"
        return f"{self.parameter} ~ {self.value:g}, sd {self.sd:g} ({rule})"


def as_arrays(law: Law, priors: Sequence[Prior]) -> tuple[np.ndarray, np.ndarray]:
    """Returns centres in natural units and 1/sd^2 (0 where there is no prior), [parameters] each."""
    centre = np.ones(len(law.parameters))
    precision = np.zeros(len(law.parameters))
    for prior in priors:
        if prior.parameter not in law.names:
            known = ", ".join(law.names)
            raise InputError(f"prior on {prior.parameter!r}: the {law.name} law has only {known}")
        index = law.names.index(prior.parameter)
        parameter = law.parameters[index]
        if precision[index] > 0:
            raise InputError(f"prior on {prior.parameter!r}: given twice")
        if not prior.sd > 0:
            raise InputError(f"prior on {prior.parameter!r}: sd = {prior.sd!r}: must be above 0")
        if not parameter.low <= prior.value <= parameter.high:
            rule = f"must lie in [{parameter.low:g}, {parameter.high:g}]"
            raise InputError(f"prior on {prior.parameter!r}: value = {prior.value!r}: {rule}")
        centre[index], precision[index] = prior.value, prior.sd**-2
    return centre, precision
