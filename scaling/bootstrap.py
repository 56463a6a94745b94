"""Bootstrap refits: draws of the parameters under resampled rows or resampled residuals.

Every refit starts at the point estimate, and all refits advance together, so a thousand cost about
as much as a few dozen separate ones. Within a stratum (say, a model size) resampling keeps the
number of rows or groups, so no stratum ever vanishes from a draw.
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal

import numpy as np

from scaling import robust
from scaling.errors import InputError

# Draws whose objective is still impossible would be starts gone wrong; more than this is an error.
_LOST = 0.05
# Draws times rows times parameters that are refitted together: 16 MB an array of this many.
_PORTION = 2_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """How draws are made.

    Attributes:
      draws: number of refits.
      scheme: "rows" resamples rows with replacement; "residual" keeps the rows and adds resampled
        log residuals, widened by sqrt(rows / (rows - parameters)), to the fitted log losses.
      strata: name of the column within whose values resampling stays; None makes one stratum.
      groups: name of the column whose equal values are resampled together (run, cell, seed within
        a size); None resamples single rows. Groups are told apart within their stratum.
      seed: seed of the draws.
    """

    draws: int = 500
    scheme: Literal["rows", "residual"] = "rows"
    strata: str | None = None
    groups: str | None = None
    seed: int = 0

    def describe(self) -> str:
        """Returns the scheme as text for tables."""
        unit = f"whole values of {self.groups}" if self.groups else "single rows"
        what = "residuals" if self.scheme == "residual" else "rows"
        within = f" within each {self.strata}" if self.strata else ""
        return f"{self.draws} bootstrap refits, {what} resampled by {unit}{within}, seed {self.seed}"


def draw(
    problem: robust.Problem,
    moved: np.ndarray,
    residuals: np.ndarray,
    how: Bootstrap,
    *,
    data: Mapping[str, np.ndarray],
    prior_sd: np.ndarray,
) -> tuple[np.ndarray, str]:
    """Returns bootstrap parameters [draws, parameters] in natural units, and how they were made.

    Args:
      problem: the fitted problem.
      moved: its minimum in moved coordinates.
      residuals: [rows] log observed - log predicted there.
      how: the scheme.
      data: columns that `how` may name.
      prior_sd: [parameters] standard deviation of the prior in moved coordinates, 0 where none. The
        centre of each prior is drawn anew for each refit: were it kept, a parameter that only the
        prior knows would seem certain.

    Raises `InputError` for an unknown column, or where no stratum has two groups to resample.
    """
    _check(how, data)
    rng = np.random.default_rng(how.seed)
    strata = _groups(how, data, residuals.size)
    if how.scheme == "rows":
        changed = {"weights": row_weights(strata, how.draws, residuals.size, rng)}
    else:
        sources = residual_sources(strata, how.draws, residuals.size, rng)
        fitted = problem.log_target[0] - residuals
        changed = {"log_target": fitted + widening(residuals.size, moved.size) * residuals[sources]}
    centre = problem.prior_centre + prior_sd * rng.standard_normal((how.draws, moved.size))
    refit = dataclasses.replace(problem, prior_centre=centre, **changed)
    found, reached = _refit(refit, moved, how.draws)
    good = reached < robust.IMPOSSIBLE
    if good.mean() < 1 - _LOST:
        raise InputError(f"bootstrap: {np.sum(~good)} of {how.draws} refits found no possible parameters")
    return robust.to_natural(problem.law, found[good]), how.describe()


def _refit(problem: robust.Problem, moved: np.ndarray, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Minimises every draw from the point estimate, in portions that fit into memory."""
    portion = max(1, _PORTION // (problem.log_target.shape[1] * moved.size))
    found = []
    for first in range(0, draws, portion):
        chosen = np.arange(first, min(first + portion, draws))
        start = np.repeat(moved[None], chosen.size, axis=0)
        found.append(robust.minimise(problem.only(chosen), start, iterations=150))
    return np.concatenate([moved for moved, _ in found]), np.concatenate([reached for _, reached in found])


def widening(rows: int, parameters: int) -> float:
    """Returns the factor that undoes how much a fit of `parameters` shrinks the residuals of `rows`."""
    return float(np.sqrt(rows / max(rows - parameters, 1)))


def row_weights(
    strata: list[list[np.ndarray]], draws: int, rows: int, rng: np.random.Generator
) -> np.ndarray:
    """Returns how often each row is drawn, [draws, rows]; a drawn group gives all its rows."""
    weights = np.zeros((draws, rows))
    for groups in strata:
        picks = rng.integers(len(groups), size=(draws, len(groups)))
        for index, group in enumerate(groups):
            weights[:, group] = np.sum(picks == index, axis=1)[:, None]
    return weights


def residual_sources(
    strata: list[list[np.ndarray]], draws: int, rows: int, rng: np.random.Generator
) -> np.ndarray:
    """Returns the row whose residual each row takes, [draws, rows]; groups pass theirs on in order."""
    sources = np.empty((draws, rows), dtype=np.int64)
    for groups in strata:
        if len({group.size for group in groups}) > 1:
            raise InputError("bootstrap: groups differ in size within a stratum; use scheme 'rows'")
        members = np.array(groups)
        picks = rng.integers(len(groups), size=(draws, len(groups)))
        for index, group in enumerate(groups):
            sources[:, group] = members[picks[:, index]]
    return sources


def _groups(how: Bootstrap, data: Mapping[str, np.ndarray], rows: int) -> list[list[np.ndarray]]:
    """Returns the row indices of every group of every stratum."""
    labels = data[how.strata] if how.strata else np.zeros(rows)
    members = data[how.groups] if how.groups else np.arange(rows)
    strata = []
    for value in np.unique(labels):
        inside = np.flatnonzero(labels == value)
        strata.append([inside[members[inside] == name] for name in np.unique(members[inside])])
    if max(len(groups) for groups in strata) < 2:
        where = f"{how.groups or 'row'} within {how.strata or 'all rows'}"
        raise InputError(f"bootstrap: one {where} only: at least two are needed to resample")
    return strata


def _check(how: Bootstrap, data: Mapping[str, np.ndarray]) -> None:
    if how.draws < 2:
        raise InputError(f"bootstrap draws = {how.draws}: must be at least 2")
    if how.scheme not in ("rows", "residual"):
        raise InputError(f"bootstrap scheme = {how.scheme!r}: must be rows or residual")
    for role in ("strata", "groups"):
        name = getattr(how, role)
        if name is not None and name not in data:
            raise InputError(f"bootstrap {role} = {name!r}: no such column; known: {', '.join(data)}")
