"""Fits the annealing law to loss curves in one call."""

from collections.abc import Sequence

import numpy as np

from scaling import engine
from scaling.bootstrap import Bootstrap
from scaling.curves import Curve
from scaling.fitted import Fit
from scaling.laws import annealing
from scaling.prior import Prior

# Residuals along one curve hang together, so stretches of it are resampled and not single points.
BLOCKS = 10


def fit_curves(
    curves: Sequence[Curve | Sequence],
    *,
    unit: str,
    lambda_: float = annealing.LAMBDA,
    warmup: annealing.Warmup = "peak",
    from_step: int = 0,
    draws: int = 0,
    seed: int = 0,
    delta: float = 1e-3,
    prior: Sequence[Prior] = (),
) -> Fit:
    """Returns the annealing law fitted to `curves`, each a `Curve` or (schedule, steps, losses).

    Args:
      curves: at least one; a schedule that anneals is needed somewhere, or C is unknown.
      unit: unit of the losses.
      lambda_, warmup, from_step: as in `annealing.columns`.
      draws: bootstrap refits, 0 for none: each curve is cut into ten stretches of equally many
        points and stretches are resampled within each curve.
      seed: seed of the draws.
      delta, prior: as in `engine.fit`.
    """
    data = annealing.columns(curves, lambda_=lambda_, warmup=warmup, from_step=from_step)
    data["block"] = np.empty(data["loss"].size, dtype=np.int64)
    for name in np.unique(data["curve"]):
        rows = np.flatnonzero(data["curve"] == name)
        data["block"][rows] = np.arange(rows.size) * BLOCKS // rows.size
    bootstrap = Bootstrap(draws=draws, strata="curve", groups="block", seed=seed) if draws else None
    return engine.fit(
        annealing.LAW,
        data,
        unit=unit,
        bootstrap=bootstrap,
        prior=prior,
        delta=delta,
        fixed={"lambda": lambda_, "warmup": warmup},
    )
