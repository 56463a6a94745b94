"""Cosine decay over the whole run after the warm-up."""

from jaxlm.schedules.steps import End, Schedule
from jaxlm.schedules.warmup import Warmup, as_warmup
from jaxlm.schedules.wsd import check_run, wsd


def cosine(updates: int, *, peak_lr: float = 1.0, warmup: int | Warmup = 0, final: float = 0.0,
           end: End = "exclusive") -> Schedule:
    """Returns linear warm-up followed by a half cosine from `peak_lr` to `final * peak_lr`.

    rate(t) = peak_lr * (final + (1-final) (1 + cos(pi (t-W)/(T-W))) / 2) for t >= W, after the warm-up
    ((t+1)/W by default); the final value holds from t = T on.

    Args:
      updates: T, number of updates of the run, 1 to 2**31-1.
      peak_lr: rate at the end of the warm-up, >= 0.
      warmup: number of updates W, 0 to T-1, or a `Warmup` for the other conventions.
      final: final rate as a fraction of the peak, in [0, 1]; 0.1 in much of the literature.
      end: whether the final value is reached one past the last update ("exclusive") or at it ("inclusive").

    Raises:
      ConfigError: naming field, value and rule.

    Source: Loshchilov and Hutter 2016, "SGDR", arXiv 1608.03983, equation 5, one cycle.

    >>> schedule = cosine(6, warmup=2, final=0.5)
    >>> [round(float(schedule(t)), 4) for t in range(7)]
    [0.5, 1.0, 1.0, 0.9268, 0.75, 0.5732, 0.5]
    """
    rise = as_warmup(warmup)
    check_run(updates, warmup=rise.steps, decay=1)
    return wsd(updates, decay=updates - rise.steps, peak_lr=peak_lr, warmup=rise,
               shape="cosine", final=final, end=end)
