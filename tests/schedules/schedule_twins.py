"""Independent float64 schedules in plain Python, one update at a time, from the published formulas."""

import math

import numpy as np


def fall(shape: str, u: float, final: float) -> float:
    """The fraction of the peak when the share u of the decay is done."""
    linear = final + (1 - final) * (1 - u)
    cosine = final + (1 - final) * (1 + math.cos(math.pi * u)) / 2
    if shape == "linear":
        return linear
    if shape == "sqrt":
        return final + (1 - final) * (1 - math.sqrt(u))
    if shape == "cosine":
        return cosine
    if shape == "square":
        return final + (1 - final) * (1 - u * u)
    if shape == "mirror_cosine":
        return 2 * linear - cosine
    if shape == "exponential":
        return math.exp(u * math.log(final))
    if shape == "inverse":
        return final / (u + final * (1 - u))
    raise KeyError(shape)


def rate(t: int, *, updates: int, warmup: int, decay: int, shape: str = "linear", final: float = 0.0,
         peak_lr: float = 1.0, initial: float | None = None, inclusive: bool = False) -> float:
    """The rate of update t of a warm-up over `warmup`, then the peak, then `decay` updates of `shape`."""
    start = updates - decay
    last = updates - 1 if inclusive else updates
    if t < warmup and initial is None:
        return peak_lr * (t + 1) / warmup
    if t < warmup:
        return peak_lr * (initial * (warmup - t) + t) / warmup
    if decay == 0 or t < start:
        return peak_lr
    if t >= last:
        return peak_lr * final
    return peak_lr * fall(shape, (t - start) / (last - start), final)


def rates(count: int, **options) -> np.ndarray:
    """The rates of updates 0..count-1; the options are those of `rate`."""
    return np.array([rate(t, **options) for t in range(count)])
