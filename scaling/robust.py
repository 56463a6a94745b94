"""Robust least squares on log losses for many problems at once.

Every problem has the same law and the same rows and its own target, row weights and prior centre,
so that all starts of a fit, or all draws of a bootstrap, advance together as arrays.
"""

import dataclasses

import numpy as np

from scaling import law as laws

# The imaginary step of a complex-step derivative: no subtraction, so it can be this small.
_STEP = 1e-20
# Objective of parameters at which the formula gives no positive loss.
IMPOSSIBLE = 1e300


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """Minimise sum_i w_i Huber(residual_i) + prior, residual = log(predicted) - log(observed).

    Attributes:
      law: the law.
      columns: its inputs, each [rows].
      log_target: log losses, [1 or draws, rows].
      weights: weight of each row, [1 or draws, rows].
      delta: Huber threshold on the log residual.
      prior_centre: centre of the Gaussian prior on the moved parameters, [1 or draws, parameters].
      prior_precision: 1/sd^2 of it times the noise variance, 0 where there is none, [parameters].
    """

    law: laws.Law
    columns: laws.Columns
    log_target: np.ndarray
    weights: np.ndarray
    delta: float
    prior_centre: np.ndarray
    prior_precision: np.ndarray

    def only(self, draws: np.ndarray) -> "Problem":
        """Returns the problem of `draws`, an index array."""
        picked = {}
        for name in ("log_target", "weights", "prior_centre"):
            array = getattr(self, name)
            picked[name] = array if array.shape[0] == 1 else array[draws]
        return dataclasses.replace(self, **picked)


def to_moved(law: laws.Law, values: np.ndarray) -> np.ndarray:
    """Returns natural parameters [..., parameters] as the coordinates that the fit moves."""
    logs = np.array([parameter.log for parameter in law.parameters])
    return np.where(logs, np.log(np.where(logs, values, 1.0)), values)


def to_natural(law: laws.Law, moved: np.ndarray) -> np.ndarray:
    """Returns the inverse of `to_moved`."""
    logs = np.array([parameter.log for parameter in law.parameters])
    return np.where(logs, np.exp(np.where(logs, moved, 0.0)), moved)


def huber(residual: np.ndarray, delta: float) -> np.ndarray:
    """Returns r^2/2 up to `delta` and delta (|r| - delta/2) beyond."""
    size = np.abs(residual)
    return np.where(size <= delta, 0.5 * size**2, delta * (size - 0.5 * delta))


def objective(problem: Problem, moved: np.ndarray) -> np.ndarray:
    """Returns the objective of each draw, [draws], in units of delta^2 so that it is of order one."""
    predicted = problem.law.loss(to_natural(problem.law, moved), problem.columns)
    # A formula may leave the positive losses at a wild trial point; such a point is never taken.
    possible = np.all(np.isfinite(predicted) & (predicted > 0), axis=1)
    residual = np.log(np.where(possible[:, None], predicted, 1.0)) - problem.log_target
    total = np.sum(problem.weights * huber(residual / problem.delta, 1.0), axis=1) + _penalty(problem, moved)
    return np.where(possible, total, IMPOSSIBLE)


def log_jacobian(problem: Problem, moved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns log predictions [draws, rows] and their derivatives [draws, rows, parameters]."""
    law = problem.law
    values = to_natural(law, moved)
    predicted = law.loss(values, problem.columns)
    slopes = np.empty((*predicted.shape, values.shape[1]))
    for index, parameter in enumerate(law.parameters):
        if parameter.name in law.linear:
            # Linear in this one and proportional to its value, so its term is f - f(without it).
            without = values.copy()
            without[:, index] = 0.0
            slopes[..., index] = predicted - law.loss(without, problem.columns)
            continue
        stepped = values.astype(complex)
        stepped[:, index] += 1j * _STEP
        slope = np.imag(law.loss(stepped, problem.columns)) / _STEP
        slopes[..., index] = slope * values[:, index, None] if parameter.log else slope
    return np.log(predicted), slopes / predicted[..., None]


def minimise(problem: Problem, start: np.ndarray, *, iterations: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Returns the minima [draws, parameters] in moved coordinates and their objectives [draws].

    A damped Newton method with the Gauss-Newton Hessian. Beyond `delta` a Huber row has no
    curvature, so the damping matrix is the Hessian of the quadratic that touches Huber from above
    (iteratively reweighted least squares): large damping gives small safe steps, none gives
    Newton's. Deterministic; a draw whose start is impossible keeps it with a huge objective.
    """
    low, high = box(problem.law)
    moved = np.clip(start, low, high)
    best = objective(problem, moved)
    damping = np.ones(len(moved))
    quiet = np.zeros(len(moved), dtype=int)
    live = np.flatnonzero(best < IMPOSSIBLE)
    for _ in range(iterations):
        if live.size == 0:
            break
        part = problem.only(live)
        trial = np.clip(moved[live] + _newton_step(part, moved[live], damping[live]), low, high)
        reached = objective(part, trial)
        gain = best[live] - reached
        better = gain > 0
        moved[live[better]] = trial[better]
        best[live[better]] = reached[better]
        damping[live] = np.where(better, np.maximum(damping[live] / 5, 1e-8), damping[live] * 4)
        # One tiny gain may be a short step; several in a row, or no step at any damping, is the end.
        small = better & (gain < 1e-10 * (1.0 + best[live]))
        quiet[live] = np.where(small, quiet[live] + 1, np.where(better, 0, quiet[live]))
        live = live[(quiet[live] < 3) & (damping[live] < 1e12)]
    return moved, best


def box(law: laws.Law) -> tuple[np.ndarray, np.ndarray]:
    """Returns the lower and upper bounds of the moved coordinates, [parameters] each."""
    low = to_moved(law, np.array([parameter.low for parameter in law.parameters]))
    high = to_moved(law, np.array([parameter.high for parameter in law.parameters]))
    return low, high


def _penalty(problem: Problem, moved: np.ndarray) -> np.ndarray:
    offset = moved - problem.prior_centre
    return 0.5 * np.sum(problem.prior_precision * offset**2, axis=1) / problem.delta**2


def _newton_step(problem: Problem, moved: np.ndarray, damping: np.ndarray) -> np.ndarray:
    low, high = box(problem.law)
    log_predicted, slopes = log_jacobian(problem, moved)
    slopes = slopes / problem.delta
    residual = (log_predicted - problem.log_target) / problem.delta
    size = np.maximum(np.abs(residual), 1.0)
    prior = problem.prior_precision / problem.delta**2
    gradient = np.einsum("srp,sr->sp", slopes, problem.weights * residual / size)
    gradient += prior * (moved - problem.prior_centre)
    newton = problem.weights * (np.abs(residual) <= 1.0)
    matrix = _weighted_square(slopes, newton + damping[:, None] * problem.weights / size)
    diagonal = np.einsum("spp->sp", matrix)  # a view: adding to it adds to the matrix
    diagonal += (1.0 + damping[:, None]) * prior
    # A parameter held by its bound is taken out: its row becomes the identity and its pull zero.
    held = ((moved <= low) & (gradient > 0)) | ((moved >= high) & (gradient < 0))
    matrix[held[:, :, None] | held[:, None, :]] = 0.0
    gradient[held] = 0.0
    diagonal += np.where(held, 1.0, 1e-12 * diagonal + 1e-12)
    # Scaled to a unit diagonal, because exponents and scale factors differ by orders of magnitude.
    scale = 1.0 / np.sqrt(diagonal)
    scaled = matrix * scale[:, :, None] * scale[:, None, :]
    return -scale * np.linalg.solve(scaled, (scale * gradient)[..., None])[..., 0]


def _weighted_square(slopes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns slopes^T diag(weights) slopes for each draw, [draws, parameters, parameters]."""
    return np.swapaxes(slopes * weights[..., None], 1, 2) @ slopes
