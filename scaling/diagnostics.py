"""What the recorded numbers of a run say: gradient noise scale, update ratios, loss spikes."""

import dataclasses

import numpy as np

from scaling.errors import InputError
from scaling.record.reader import Run

# OLMo 2 (2501.00656), section 3.2.
SPIKE_WINDOW, SPIKE_THRESHOLD = 1000, 7.0
# Ours: fewer values say too little about their spread.
SPIKE_LEAST = 100
# Of the moving averages behind the noise scale, a row: the default of EleutherAI's gpt-neox.
NOISE_DECAY = 0.99


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoiseScale:
    """Estimates up to each row, arrays [rows].

    Attributes:
      steps: the update of each row.
      grad_sq: |G|^2, the squared norm of the true gradient; may come out negative where noise rules.
      noise: tr(Sigma), the variance of the gradient of one sequence, summed over parameters.
      sequences: the noise scale tr(Sigma) / |G|^2 in sequences; NaN where |G|^2 is not positive.
      tokens: the same in tokens; NaN where the tokens of a sequence are not known.
    """

    steps: np.ndarray
    grad_sq: np.ndarray
    noise: np.ndarray
    sequences: np.ndarray
    tokens: np.ndarray


def noise_scale(run: Run, *, decay: float = NOISE_DECAY) -> NoiseScale:
    """Returns the gradient noise scale along `run`, from its recorded diagnostics; see `estimate_noise_scale`.

    Raises `InputError` where the run has no rows with gradients of two batch sizes.
    """
    rows = run.diagnostics
    if not np.any(np.isfinite(rows["small_grad_sq"]) & np.isfinite(rows["big_grad_sq"])):
        raise InputError(f"run {run.name}: diagnostics hold no gradient norms of two batch sizes; record them with "
                         "diagnostics.every > 0 and accumulation > 1 or diagnostics.sequences > 0")
    return estimate_noise_scale(
        rows["small_grad_sq"], rows["big_grad_sq"], small_batch=rows["small_batch"], big_batch=rows["big_batch"],
        decay=decay, steps=rows["step"], tokens_per_sequence=run.batch_tokens / rows["big_batch"])


def estimate_noise_scale(
    small_grad_sq: np.ndarray,
    big_grad_sq: np.ndarray,
    *,
    small_batch: np.ndarray | float,
    big_batch: np.ndarray | float,
    decay: float = NOISE_DECAY,
    steps: np.ndarray | None = None,
    tokens_per_sequence: np.ndarray | float = np.nan,
) -> NoiseScale:
    """Returns the simple noise scale B = tr(Sigma) / |G|^2 from gradient norms at two batch sizes.

    With E|g_B|^2 = |G|^2 + tr(Sigma) / B, unbiased for each row:

        |G|^2     = (B_big |g_big|^2 - B_small |g_small|^2) / (B_big - B_small)
        tr(Sigma) = (|g_small|^2 - |g_big|^2) / (1 / B_small - 1 / B_big)

    then an exponential moving average of each over rows, corrected for its start, and their ratio.

    Args:
      small_grad_sq: [rows] squared norm of gradients of `small_batch` sequences, or its mean over several.
      big_grad_sq: [rows] squared norm of the gradient of `big_batch` sequences.
      small_batch: sequences, one number or [rows].
      big_batch: sequences, larger than `small_batch`.
      decay: of the averages, a row, in [0, 1); .99 remembers about the last hundred rows, so rows that
        are 100 updates apart cover 10,000 updates.
      steps: [rows] what `NoiseScale.steps` holds; 0, 1, ... where not given.
      tokens_per_sequence: for the scale in tokens.

    Rows with a value that is not finite leave the averages as they are and have NaN themselves. Raises
    `InputError` for arrays of other shapes, batches in the wrong order, or a decay out of range.

    Source: McCandlish et al. 2018, 1812.06162, appendix A.1; the ratio of averages, not the average of
    ratios, which is biased, as there.
    """
    small_grad_sq, big_grad_sq = np.asarray(small_grad_sq, np.float64), np.asarray(big_grad_sq, np.float64)
    if small_grad_sq.ndim != 1 or small_grad_sq.shape != big_grad_sq.shape:
        raise InputError(f"small_grad_sq {small_grad_sq.shape} and big_grad_sq {big_grad_sq.shape}: must be [rows] both")
    if not 0 <= decay < 1:
        raise InputError(f"decay = {decay}: must lie in [0, 1)")
    small, big = (np.broadcast_to(np.asarray(b, np.float64), small_grad_sq.shape) for b in (small_batch, big_batch))
    known = np.isfinite(small_grad_sq) & np.isfinite(big_grad_sq)
    if np.any(~(small[known] > 0) | ~(big[known] > small[known])):
        raise InputError("small_batch, big_batch: must be above 0, and big_batch the larger, in every row")
    small, big = np.where(known, small, np.nan), np.where(known, big, np.nan)
    grad_sq = _moving_average((big * big_grad_sq - small * small_grad_sq) / (big - small), decay)
    noise = _moving_average((small_grad_sq - big_grad_sq) / (1 / small - 1 / big), decay)
    sequences = np.divide(noise, grad_sq, out=np.full_like(noise, np.nan), where=grad_sq > 0)
    return NoiseScale(
        steps=np.arange(known.size) if steps is None else np.asarray(steps), grad_sq=grad_sq, noise=noise,
        sequences=sequences, tokens=sequences * tokens_per_sequence)


def update_ratio(run: Run) -> np.ndarray:
    """Returns the root mean square of the update over that of the parameters, [rows, blocks].

    Blocks: embedding, each layer, the rest; parameters as after the update. NaN where they are all 0.
    """
    update, param = run.diagnostics["block_update_rms"], run.diagnostics["block_param_rms"]
    return np.divide(update, param, out=np.full_like(update, np.nan), where=param > 0)


def spikes(
    loss: np.ndarray,
    *,
    window: int = SPIKE_WINDOW,
    threshold: float = SPIKE_THRESHOLD,
    least: int = SPIKE_LEAST,
    first: int = 0,
) -> np.ndarray:
    """Returns the indices of the values that lie `threshold` standard deviations or more off those before.

    A value is judged by the mean and standard deviation of the last `window` finite values before it,
    itself and later ones left out; in the first window by as many as there are, and not at all by fewer
    than `least`. NaN and infinity are no spikes and count for nothing: divergence is told elsewhere.
    Either direction counts, as in the source. After constant values every other value is a spike.

    Args:
      loss: [values] losses, gradient norms or any series.
      window: values, at least 2.
      threshold: standard deviations, above 0.
      least: values, at least 2.
      first: the first index to judge, for a series that grows.

    Source: OLMo 2, 2501.00656, section 3.2, whose spike score is the share of such values. It does not
    say whether a value is in its own window or what the first window does; OLMo-core's monitor leaves it
    out, as here, and waits for a full window.
    """
    loss = np.asarray(loss, np.float64)
    if loss.ndim != 1:
        raise InputError(f"loss: shape {loss.shape}: must be [values]")
    for name, value, low in (("window", window, 2), ("least", least, 2), ("first", first, 0)):
        if value < low:
            raise InputError(f"{name} = {value}: must be at least {low}")
    if not threshold > 0:
        raise InputError(f"threshold = {threshold}: must be above 0")
    finite = np.flatnonzero(np.isfinite(loss))
    # NaN before the start fills the first window.
    padded = np.concatenate([np.full(window, np.nan), loss[finite]])
    start = max(int(np.searchsorted(finite, first)), min(least, window))
    found = [_spikes_between(padded, low, min(low + 2048, finite.size), window=window, threshold=threshold)
             for low in range(start, finite.size, 2048)]  # 16 MB a block and window of 1000
    return finite[np.concatenate([np.zeros(0, np.int64), *found])]


def spike_score(loss: np.ndarray, *, window: int = SPIKE_WINDOW, threshold: float = SPIKE_THRESHOLD,
                least: int = SPIKE_LEAST) -> float:
    """Returns the share of the finite values of `loss` that are `spikes`, 0 to 1; NaN where there are none."""
    count = int(np.isfinite(np.asarray(loss, np.float64)).sum())
    return spikes(loss, window=window, threshold=threshold, least=least).size / count if count else float("nan")


def _spikes_between(padded: np.ndarray, low: int, high: int, *, window: int, threshold: float) -> np.ndarray:
    """The spikes among values low..high-1; value i stands at `window + i` of `padded`, its window at i."""
    before = np.lib.stride_tricks.sliding_window_view(padded, window)[low:high]
    value = padded[window + low:window + high]
    mean = np.nanmean(before, axis=1)
    off = np.abs(value - mean)
    # Constant values have a mean that rounding sets beside them.
    constant = np.nanmax(before, axis=1) == np.nanmin(before, axis=1)
    far = np.where(constant, value != before[:, -1], off >= threshold * np.nanstd(before, axis=1))
    return low + np.flatnonzero(far)


def _moving_average(values: np.ndarray, decay: float) -> np.ndarray:
    """The exponential moving average up to each value, corrected for its start; NaN at NaN, which it skips."""
    average, weight, averages = 0.0, 0.0, np.full_like(values, np.nan)
    for index in np.flatnonzero(np.isfinite(values)):
        average = decay * average + (1 - decay) * values[index]
        weight = decay * weight + (1 - decay)
        averages[index] = average / weight
    return averages
