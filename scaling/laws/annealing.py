"""Whole loss curves under any learning-rate schedule, L(s) = L0 + A S1^-alpha - C S2.

Source: Tissue et al. 2024, arXiv 2408.11029 v2. S1(s) is the sum of rates up to update s;
m_i = lambda m_(i-1) + (eta_(i-1) - eta_i) follows the drops of the rate, and S2(s) = sum m_i.
lambda is not fitted: 0.999 in all their experiments. Both sums need the rate of *every* update:
on a thinned schedule lambda means something else.

Warm-up, by the argument `warmup`:
  "peak"  both sums as if the rate were at its peak throughout the warm-up (the paper's rule);
  "drops" S1 with the rates as they were, S2 without the rises of the warm-up;
  "asis"  both sums from the rates as they were, rises counted as negative drops.
Measured on Luo et al.'s 25M and 100M runs (arXiv 2503.12811; warm-up 2160 of 24000 updates, fitted on
three curves, tested on six), mean relative error: peak .0021 and .0020, drops .0014 and .0015, asis
.0015 and .0014. With a warm-up this long the paper's rule credits steps that were not taken.

Deviation: updates are counted from 0 and the sums include update s itself, where the paper counts
from 1; the first update has no drop in either.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from scaling import curves as curves_module
from scaling.curves import Curve
from scaling.errors import InputError
from scaling.law import Columns, Law, Parameter, Published

LAMBDA = 0.999
Warmup = Literal["peak", "drops", "asis"]


def formula(p: Mapping[str, np.ndarray], columns: Columns) -> np.ndarray:
    """Returns L0 + A S1^-alpha - C S2."""
    return p["L0"] + p["A"] * np.exp(-p["alpha"] * np.log(columns["S1"])) - p["C"] * columns["S2"]


def sums(
    schedule: np.ndarray,
    *,
    lambda_: float = LAMBDA,
    warmup: Warmup = "peak",
    warmup_steps: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns S1 and S2 after every update, [updates] each, in units of the learning rate.

    Args:
      schedule: [updates] rate of every update, warm-up included.
      lambda_: decay of the momentum of drops, in [0, 1).
      warmup: how the warm-up enters; see the module's text.
      warmup_steps: updates of the warm-up; None takes the updates before the first peak.
    """
    if not 0 <= lambda_ < 1:
        raise InputError(f"lambda = {lambda_}: must lie in [0, 1)")
    if warmup not in ("peak", "drops", "asis"):
        raise InputError(f"warmup = {warmup!r}: must be peak, drops or asis")
    schedule = curves_module.check_schedule(schedule, "schedule")
    end = curves_module.warmup_end(schedule, warmup_steps)
    flat = schedule.copy()
    flat[:end] = flat[end]
    for_s1 = flat if warmup == "peak" else schedule
    for_s2 = schedule if warmup == "asis" else flat
    drops = -np.diff(for_s2, prepend=for_s2[0])
    momentum = itertools.accumulate(drops.tolist(), lambda m, drop: lambda_ * m + drop)
    return np.cumsum(for_s1), np.cumsum(np.fromiter(momentum, dtype=np.float64, count=drops.size))


def columns(
    curves: Sequence[Curve | Sequence],
    *,
    lambda_: float = LAMBDA,
    warmup: Warmup = "peak",
    from_step: int = 0,
) -> dict[str, np.ndarray]:
    """Returns the law's columns for all points of `curves`: S1, S2, loss, step and curve (its name).

    Points within the warm-up and before update `from_step` are left out: the law does not describe
    them. `curves` holds `Curve`s or triples (schedule, steps, losses). Raises `InputError` where a
    curve has no point left.
    """
    parts: dict[str, list[np.ndarray]] = {name: [] for name in ("S1", "S2", "loss", "step", "curve")}
    names = set()
    for index, item in enumerate(curves):
        curve = curves_module.as_curve(item, index)
        if curve.name in names:
            raise InputError(f"curves: two are called {curve.name!r}; names must differ")
        names.add(curve.name)
        first = max(curves_module.warmup_end(curve.schedule, curve.warmup_steps), from_step)
        keep = curve.steps >= first
        if not keep.any():
            raise InputError(f"{curve.name}: no point at or after update {first}, where its warm-up ends")
        s1, s2 = sums(curve.schedule, lambda_=lambda_, warmup=warmup, warmup_steps=curve.warmup_steps)
        steps = curve.steps[keep]
        parts["S1"].append(s1[steps])
        parts["S2"].append(s2[steps])
        parts["loss"].append(curve.losses[keep])
        parts["step"].append(steps)
        parts["curve"].append(np.full(steps.size, curve.name))
    if not names:
        raise InputError("curves = []: needs at least one curve")
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _published(key: str, source: str, *values: float) -> Published:
    return Published(
        key=key,
        source=f"Tissue et al. 2024, arXiv 2408.11029 v2, {source}",
        values=dict(zip(("L0", "A", "alpha", "C"), values)),
        unit="nats/token",
        counting=None,
        verified=True,
        fixed={"lambda": LAMBDA, "warmup": "peak"},
        note="belongs to that model, data and batch",
    )


LAW = Law(
    name="annealing",
    equation="L(s) = L0 + A S1^-alpha - C S2",
    source="Tissue et al. 2024, arXiv 2408.11029 v2",
    parameters=(
        Parameter(name="L0", meaning="irreducible loss", low=1e-4, high=1e2),
        Parameter(name="A", meaning="scale of the term in S1", low=1e-9, high=1e9),
        Parameter(
            name="alpha", meaning="exponent of S1", low=0.01, high=3.0, starts=(0.1, 0.3, 0.5, 0.7, 1.0, 1.5)
        ),
        Parameter(name="C", meaning="gain from annealing", low=1e-9, high=1e9),
    ),
    linear=("L0", "A", "C"),
    formula=formula,
    inputs=("S1", "S2"),
    positive=("S1",),
    distinct={"S1": (3, 4), "S2": (2, 3)},
    counted=False,
    published=(
        _published("tissue2024", "main set-up", 2.628, 0.429, 0.550, 0.411),
        _published("tissue2024-moe", "mixture of experts", 2.801, 0.424, 0.619, 0.347),
        _published("tissue2024-1.7b", "1.7B parameters, 1.4T tokens", 2.788, 0.906, 0.416, 0.254),
    ),
)
