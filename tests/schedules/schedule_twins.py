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


def power_fall(u: float, inner: float, outer: float) -> float:
    """(1 - u^inner)^outer."""
    return (1 - u**inner) ** outer


def inverse_sqrt_fall(u: float, timescale: float) -> float:
    """From 1 at u = 0 to 0 at u = 1 along an inverse square root, as gpt-neox writes it."""
    def g(x: float) -> float:
        return 1 / math.sqrt(1 + timescale * x) - 1
    return 1 - g(u) / g(1)


def wsd_s(t: int, *, ends: list[int], decays: list[int], warmup: int, rewarmup: int, shape: str, final: float,
          peaks: list[float] | None = None) -> float:
    """The rate of update t of WSD-S; past the last end, its final rate."""
    peaks = peaks or [1.0] * len(ends)
    i = min(sum(t >= end for end in ends), len(ends) - 1)
    first = ends[i - 1] if i else 0
    if i and t - first < rewarmup:
        low = final * peaks[i - 1]
        return low + (peaks[i] - low) * (t - first) / rewarmup
    return rate(t - first, updates=ends[i] - first, warmup=0 if i else warmup, decay=decays[i], shape=shape,
                final=final, peak_lr=peaks[i])


def cyclic_cosine(t: int, *, ends: list[int], warmup: int, rewarmup: int, final: float) -> float:
    """The rate of update t of cosines with warm restarts."""
    lengths = [end - first for first, end in zip([0, *ends], ends)]
    decays = [length - (rewarmup if i else warmup) for i, length in enumerate(lengths)]
    return wsd_s(t, ends=ends, decays=decays, warmup=warmup, rewarmup=rewarmup, shape="cosine", final=final)


def infinite(t: int, *, updates: int, warmup: int, cooldown: int, constant: float, anneal: int, final: float) -> float:
    """The rate of update t of an infinite schedule with a cosine cooldown."""
    if t >= updates - anneal:
        done = min(t - (updates - anneal), anneal) / anneal
        return constant * math.exp(-math.log(constant / final) * done)
    return rate(t, updates=warmup + cooldown, warmup=warmup, decay=cooldown, shape="cosine", final=constant)


def rewarm(t: int, *, start: int, low: float, peak_lr: float, updates: int, warmup: int, decay: int,
           final: float) -> float:
    """The rate of update t >= start of a rise from `low`, the peak and a cosine down to `final` of it."""
    if t < start + warmup:
        return low * (start + warmup - t) / warmup + peak_lr * (t - start) / warmup
    return rate(t - start, updates=updates - start, warmup=0, decay=decay, shape="cosine", final=final,
                peak_lr=peak_lr)


def inverse_sqrt(t: int, *, warmup: int, start: int, timescale: float, floor: float = 0.0) -> float:
    """The rate of update t: warm-up (t+1)/W, then sqrt(timescale / (timescale + elapsed))."""
    fall = max(floor, math.sqrt(timescale / (timescale + max(0, t - start))))
    return fall * (min(1.0, (t + 1) / warmup) if warmup else 1.0)


def power(t: int, *, warmup: int, scale: float, exponent: float, tokens_per_update: int, peak_lr: float) -> float:
    """The rate of update t: the lesser of the peak and scale * tokens^exponent, warmed up to what that is at W."""
    tokens = max(t, warmup) * tokens_per_update
    law = min(peak_lr, scale * tokens**exponent) if tokens else peak_lr
    return law * (min(1.0, (t + 1) / warmup) if warmup else 1.0)


def walk(batch_at, *, sequence: int, updates: int) -> tuple[list[int], list[int]]:
    """Batch of each update, and tokens before it, of a run that asks `batch_at(tokens)` before every update."""
    batches, tokens = [], [0]
    for _ in range(updates):
        batches.append(batch_at(tokens[-1]))
        tokens.append(tokens[-1] + batches[-1] * sequence)
    return batches, tokens[:-1]
