"""Fits a law of whole curves in one call: curves to columns, then the engine."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scaling import checks, engine
from scaling import curves as curves_module
from scaling.bootstrap import Bootstrap
from scaling.curves import Curve
from scaling.errors import InputError
from scaling.fitted import Fit
from scaling.law import Law
from scaling.laws import registry
from scaling.prior import Prior
from scaling.threads import one_thread

# Residuals along one curve hang together, so stretches of it are resampled and not single points.
BLOCKS = 10


@one_thread
def fit_curves(
    law: str | Law,
    curves: Sequence[Curve | Sequence],
    *,
    unit: str,
    counting: str | None = None,
    settings: Mapping[str, Any] | None = None,
    from_step: int = 0,
    draws: int = 0,
    seed: int = 0,
    bootstrap: Bootstrap | None = None,
    delta: float | None = None,
    prior: Sequence[Prior] = (),
    pinned: Mapping[str, float] | None = None,
) -> Fit:
    """Returns a law of whole curves fitted to `curves`, each a `Curve` or (schedule, steps, losses).

    Args:
      law: a registered law of whole curves or its name.
      curves: at least one; the law may need a schedule that anneals among them.
      unit: unit of the losses.
      counting: which parameters N counts, where the law has an N.
      settings: constants of the law, e.g. {"lambda": 0.999, "warmup": "peak"}.
      from_step: points before this update are left out, as are those within the warm-up.
      draws: bootstrap refits, 0 for none: each curve is cut into ten stretches of equally many
        points and stretches are resampled within each curve; a law with a recipe draws by curvature.
      seed: seed of the draws.
      bootstrap: another way of drawing, e.g. whole curves by Bootstrap(groups="curve").
      delta, prior, pinned: as in `engine.fit`.
    """
    law = registry.get(law) if isinstance(law, str) else law
    settings = checks.settings(law, settings or {})
    data = columns(law, curves, settings=settings, from_step=from_step)
    if bootstrap is None and draws:
        stretches = Bootstrap(draws=draws, strata="curve", groups="block", seed=seed)
        bootstrap = Bootstrap(draws=draws, scheme="posterior", seed=seed) if law.recipe else stretches
    found = engine.fit(
        law,
        data,
        unit=unit,
        counting=counting,
        bootstrap=bootstrap,
        prior=prior,
        delta=delta,
        pinned=pinned,
        settings=settings,
    )
    found = dataclasses.replace(found, conditions=conditions(curves))
    return dataclasses.replace(found, scatter=_rough(found, data["curve"])) if law.recipe else found


def conditions(curves: Sequence[Curve | Sequence]) -> dict[str, list[Any]]:
    """Returns `Fit.conditions` of the curves: a fact that one of them does not state is left out."""
    checked = [curves_module.as_curve(curve, index) for index, curve in enumerate(curves)]
    facts = [
        {"peak_lr": float(curve.schedule.max()), "updates": curve.schedule.size, **curve.facts} for curve in checked
    ]
    found: dict[str, list[Any]] = {}
    for name in facts[0]:
        if all(name in one for one in facts):
            values = [one[name] for one in facts]
            found[name] = [value for index, value in enumerate(values) if value not in values[:index]]
    return found


def _rough(fit: Fit, curve: np.ndarray) -> np.ndarray:
    """Returns the rough part of the residuals, differences of neighbours in a curve over sqrt 2.

    The smooth part is an error of the whole curve, which the recipe's noise has put into the draws.
    """
    return (np.diff(fit.residuals) / np.sqrt(2))[curve[1:] == curve[:-1]]


def columns(
    law: Law, curves: Sequence[Curve | Sequence], *, settings: Mapping[str, Any], from_step: int = 0
) -> dict[str, np.ndarray]:
    """Returns the law's columns for the points of `curves` that it describes.

    Beside the law's own: loss, step, curve (its name) and block (a stretch of a curve, to be
    resampled whole). Points within the warm-up and before update `from_step` are left out. Raises
    `InputError` where a curve has no point left, two share a name, or N is missing.
    """
    kept: list[Curve] = []
    for index, item in enumerate(curves):
        curve = curves_module.as_curve(item, index)
        if any(curve.name == other.name for other in kept):
            raise InputError(f"curves: two are called {curve.name!r}; names must differ")
        if law.counted and curve.N is None:
            raise InputError(f"{curve.name}: no parameter count N; the {law.name} law needs one")
        first = max(curves_module.warmup_end(curve.schedule, curve.warmup_steps), from_step)
        keep = curve.steps >= first
        if not keep.any():
            raise InputError(f"{curve.name}: no point at or after update {first}, where its warm-up ends")
        kept.append(dataclasses.replace(curve, steps=curve.steps[keep], losses=curve.losses[keep]))
    if not kept:
        raise InputError("curves = []: needs at least one curve")
    if law.columns_of is None:
        raise InputError(f"law = {law.name!r}: is not a law of whole curves")
    sizes = [curve.steps.size for curve in kept]
    return law.columns_of(kept, settings) | {
        "loss": np.concatenate([curve.losses for curve in kept]),
        "step": np.concatenate([curve.steps for curve in kept]),
        "curve": np.repeat([curve.name for curve in kept], sizes),
        "block": np.concatenate([np.arange(size) * BLOCKS // size for size in sizes]),
    }
