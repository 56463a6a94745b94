"""How far predictions lie from observations, per curve or per table.

Source of the choice: Luo et al. 2025, arXiv 2503.12811. Over several curves compute each score per
curve and average, as they do.
"""

import numpy as np

from scaling.errors import InputError


def pred_e(predicted: np.ndarray, observed: np.ndarray) -> float:
    """Returns the mean of |predicted - observed| / observed."""
    return float(np.mean(_relative(predicted, observed)))


def worst_e(predicted: np.ndarray, observed: np.ndarray) -> float:
    """Returns the largest |predicted - observed| / observed."""
    return float(np.max(_relative(predicted, observed)))


def r2(predicted: np.ndarray, observed: np.ndarray) -> float:
    """Returns 1 - (residual sum of squares) / (sum of squares about the mean); NaN for equal values."""
    predicted, observed = _pair(predicted, observed)
    total = np.sum((observed - observed.mean()) ** 2)
    return float(1 - np.sum((predicted - observed) ** 2) / total) if total > 0 else float("nan")


def _relative(predicted: np.ndarray, observed: np.ndarray) -> np.ndarray:
    predicted, observed = _pair(predicted, observed)
    return np.abs(predicted - observed) / observed


def _pair(predicted: np.ndarray, observed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    predicted, observed = np.asarray(predicted, dtype=np.float64), np.asarray(observed, dtype=np.float64)
    if predicted.shape != observed.shape or observed.size == 0:
        raise InputError(
            f"predicted {predicted.shape} and observed {observed.shape}: must be alike, not empty"
        )
    return predicted, observed
