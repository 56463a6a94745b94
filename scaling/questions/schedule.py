"""The learning-rate schedule of least predicted final loss under a fitted law of whole curves.

Source of the question: Luo et al. 2025, arXiv 2503.12811, who minimise the multi-power law's final loss
over non-negative drops of the rate with Adam from a constant rate. Here the same loss and exact
derivatives go to L-BFGS-B over fewer variables, and a search ends by a stated rule: the largest
decrease of the linearised loss anywhere in the family (Frank and Wolfe's gap) is at most `tolerance`.

What the laws get wrong an optimiser finds. Measured with the published 25M and 100M coefficients
(24000 updates): the multi-power law credits a fall in one update more than the same fall spread over
several, so that among all falling schedules its optimum is a staircase of three jumps, 2.1e-3 and
2.5e-3 nats below the authors' schedules; spreading each jump over 50 updates loses three times that. The
annealing law's optimum is the peak until some update and zero two updates later (their Theorem 2).
Such optima come back with a warning, and the default family leaves them out.
"""

import dataclasses
import functools
import time
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np

from scaling import intervals
from scaling.best_schedule import checks, families, search, staircase
from scaling.best_schedule.gradients import objective
from scaling.best_schedule.result import BestSchedule
from scaling.best_schedule.rivals import compare, rivals
from scaling.best_schedule.search import Found, Problem
from scaling.errors import InputError
from scaling.fitted import Fit
from scaling.threads import one_thread

FamilyName = Literal["pieces", "steps", "monotone", "wsd", "cosine", "linear"]
Peak = float | tuple[float, float] | Literal["free"] | None

# Cooldowns of 10 to 20% of a run reach the best losses in Haegele et al. 2024, arXiv 2405.18392.
_ANNEALING_SHARE = 0.1
# Updates of a run whose rate has left the peak by more than this share are its decay.
_LEFT_PEAK = 0.01
# Fewest updates after the warm-up.
_SHORTEST = 10


@one_thread
def schedule(
    fit: Fit,
    *,
    steps: int | Sequence[int],
    warmup_steps: int,
    peak_lr: Peak = None,
    floor: float = 0.0,
    family: FamilyName = "pieces",
    pieces: int | None = None,
    min_decay_steps: int | None = None,
    N: float | None = None,
    level: float = 0.9,
    redraws: int = 8,
    tolerance: float = 1e-6,
) -> BestSchedule | tuple[BestSchedule, ...]:
    """Returns the schedule of least predicted final loss in `family`, one for each horizon in `steps`.

    Args:
      fit: a fit, or published coefficients, of the multi-power or the annealing law.
      steps: updates of the run, warm-up included; several horizons give a tuple in their order.
      warmup_steps: updates of the warm-up; update t < warmup_steps has (t + 1) / warmup_steps of the peak.
      peak_lr: a peak; (low, high) to search it between those; "free" to search it among the rates that
        the fit saw; None for the largest rate that it saw. A curve law knows nothing of peaks that no
        curve had, however good it finds them.
      floor: lowest rate after the warm-up. The default lets the rate fall to zero, which beats a tenth
        of the peak (Bergsma et al. 2025, arXiv 2502.15938).
      family: "pieces" linear pieces that never rise; "steps" constant pieces, places and levels free;
        "monotone" every update free, never rising; "wsd" constant, then (1 - u)^k, share and k free;
        "cosine" and "linear" from the peak to the floor, nothing free but the peak.
      pieces: linear or constant pieces; None takes as many as the search finds useful.
      min_decay_steps: fewest updates in which "pieces" and "wsd" may fall from peak to floor. None is
        one update under the multi-power law and a tenth of the run under the annealing law.
      N: parameter count, for laws that have one.
      level: probability of the intervals.
      redraws: draws of the fit under which the schedule is optimised again, to see how its decay moves.
      tolerance: largest gap, in the unit of the loss, at which a search counts as converged; seeds
        alone move a final loss by about 7e-4 nats (Luo et al.).

    Raises `InputError` for laws without derivatives here, and for values that contradict each other.
    """
    question = functools.partial(
        _answer,
        fit,
        _Shape(family=family, pieces=pieces, min_decay_steps=min_decay_steps, floor=floor),
        warmup_steps=warmup_steps,
        peak_lr=peak_lr,
        N=N,
        level=level,
        redraws=redraws,
        tolerance=tolerance,
    )
    if isinstance(steps, (int, np.integer)):
        return question(steps=int(steps))
    return tuple(question(steps=int(each)) for each in steps)


def decay_start(rates: np.ndarray, warmup_steps: int) -> int:
    """Returns the first update after the warm-up 1% below the peak, the number of updates if none."""
    after = rates[warmup_steps:]
    below = np.flatnonzero(after < (1.0 - _LEFT_PEAK) * after[0])
    return warmup_steps + int(below[0]) if below.size else rates.size


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Shape:
    """The family that is searched and its limits, as asked for."""

    family: FamilyName
    pieces: int | None
    min_decay_steps: int | None
    floor: float

    def shortest(self, fit: Fit, falling: int) -> int:
        """Returns the fewest updates of a fall from peak to floor; raises `InputError` for bad values."""
        known = get_args(FamilyName)
        if self.family not in known:
            raise InputError(f"family = {self.family!r}: must be one of {', '.join(known)}")
        if self.pieces is not None and (self.family not in ("pieces", "steps") or self.pieces < 2):
            rule = "must be at least 2, and goes with the families pieces and steps"
            raise InputError(f"pieces = {self.pieces}: {rule}")
        limited = self.family in ("pieces", "wsd")
        asked = self.min_decay_steps
        if asked is None:
            by_law = limited and fit.law != checks.MULTI_POWER
            return max(1, round(_ANNEALING_SHARE * falling)) if by_law else 1
        if not limited:
            raise InputError(f"min_decay_steps = {asked}: the family {self.family} has no such limit")
        if not 1 <= asked < falling:
            raise InputError(f"min_decay_steps = {asked}: must be from 1 to below {falling}")
        return int(asked)

    def search(self, problem: Problem, start: Found | None = None) -> Found:
        """Returns the best schedule of the family, begun from `start` where given."""
        if self.family == "pieces":
            return search.smooth(problem, pieces=self.pieces, start=start)
        if self.family == "steps":
            return staircase.steps(problem, pieces=self.pieces, start=start)
        if self.family == "monotone":
            return staircase.monotone(problem, start=start)
        updates = problem.falling
        if self.family == "wsd":
            family = families.power_decay(updates, 1.0 / problem.steepest)
        else:
            family = families.fixed(getattr(families, self.family)(updates))
        peak = problem.peak[1] if start is None else start.peak
        return search.minimise(problem, family, peak=peak)


def _answer(
    fit: Fit,
    shape: _Shape,
    *,
    steps: int,
    warmup_steps: int,
    peak_lr: Peak,
    N: float | None,
    level: float,
    redraws: int,
    tolerance: float,
) -> BestSchedule:
    began = time.process_time()
    intervals.check_level(level)
    seen = checks.rates_seen(fit)
    peak = _peak_bounds(peak_lr, seen)
    if not 0 <= warmup_steps <= steps - _SHORTEST:
        rule = f"must be from 0 to steps - {_SHORTEST} = {steps - _SHORTEST}"
        raise InputError(f"warmup_steps = {warmup_steps}: {rule}")
    if not 0 <= shape.floor < peak[0]:
        raise InputError(f"floor = {shape.floor}: must be from 0 to below the lowest peak, {peak[0]:g}")
    shortest = shape.shortest(fit, steps - warmup_steps)
    problem = Problem(
        objective=objective(fit, N=N),
        updates=steps,
        warmup_steps=warmup_steps,
        floor=shape.floor,
        peak=peak,
        steepest=1.0 / shortest,
        tolerance=tolerance,
    )
    found = shape.search(problem)
    seconds = time.process_time() - began
    rates = problem.rates(found.shape, found.peak)
    loss = intervals.predict_curve(fit, rates, steps - 1, level=level, warmup_steps=warmup_steps, N=N)
    fixed = shape.family in ("cosine", "linear")
    doubts = checks.warnings(fit, problem, found, seen=seen, searched=not fixed)
    # Under the annealing law that optimum is the peak to the last update but one (Luo et al., Theorem 2).
    abrupt = fit.law == checks.MULTI_POWER and shape.family not in ("steps", "monotone")
    others = rivals(problem, found.peak, abrupt=abrupt)
    return BestSchedule(
        schedule=rates,
        final_loss=found.loss,
        low=None if loss.low is None else float(loss.low[0]),
        high=None if loss.high is None else float(loss.high[0]),
        level=level,
        interval=loss.interval,
        unit=fit.unit,
        compared=compare(fit, problem, found, others, N=N, level=level),
        converged=found.gap <= tolerance,
        gap=found.gap,
        iterations=found.iterations,
        evaluations=found.evaluations,
        cpu_seconds=seconds,
        peak_lr=found.peak,
        decay_start=decay_start(rates, warmup_steps),
        decay_starts=None if fixed else _decay_starts(fit, shape, problem, found, N=N, redraws=redraws),
        warnings=tuple(dict.fromkeys((*doubts, *loss.warnings))),
        provenance=_provenance(fit, shape, problem, N),
    )


def _decay_starts(
    fit: Fit, shape: _Shape, problem: Problem, found: Found, *, N: float | None, redraws: int
) -> np.ndarray | None:
    """Returns where the decay starts when draws of the fit are optimised, warm-started, [redraws]."""
    if fit.draws is None or redraws == 0:
        return None
    picked = np.unique(np.linspace(0, len(fit.draws) - 1, redraws).astype(int))
    result = []
    for draw in fit.draws[picked]:
        params = dict(zip(fit.definition.names, draw.tolist()))
        other = dataclasses.replace(problem, objective=objective(fit, params=params, N=N))
        again = shape.search(other, found)
        result.append(decay_start(problem.rates(again.shape, again.peak), problem.warmup_steps))
    return np.array(result)


def _peak_bounds(peak_lr: Peak, seen: tuple[float, float] | None) -> tuple[float, float]:
    if peak_lr is None or isinstance(peak_lr, str):
        if peak_lr not in (None, "free"):
            raise InputError(f"peak_lr = {peak_lr!r}: must be a rate, (low, high), 'free' or None")
        if seen is None:
            rule = "the fit does not say which rates it saw; give a rate or (low, high)"
            raise InputError(f"peak_lr = {peak_lr!r}: {rule}")
        return (seen[1], seen[1]) if peak_lr is None else seen
    low, high = peak_lr if isinstance(peak_lr, (tuple, list)) else (peak_lr, peak_lr)
    if not (np.isfinite(high) and 0 < low <= high):
        rule = "must be above 0 and finite, the low end not above the high one"
        raise InputError(f"peak_lr = {peak_lr!r}: {rule}")
    return float(low), float(high)


def _provenance(fit: Fit, shape: _Shape, problem: Problem, N: float | None) -> dict[str, Any]:
    low, high = problem.peak
    return {
        "source": "scaling.schedule",
        "law": fit.law,
        "law_source": fit.definition.source,
        "params": dict(fit.params),
        "settings": dict(fit.settings),
        "conditions": fit.conditions,
        "counting": fit.counting,
        "N": N,
        "steps": problem.updates,
        "warmup_steps": problem.warmup_steps,
        "peak_range": [low, high],
        "floor": shape.floor,
        "family": shape.family,
        "pieces": shape.pieces,
        "min_decay_steps": round(1.0 / problem.steepest),
        "tolerance": problem.tolerance,
    }
