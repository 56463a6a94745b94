"""What a bed measured beside what its theory predicts: slopes with intervals, verdicts, tables, pictures."""

import argparse
import dataclasses
import pathlib
import time
from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from jaxlm.config import require

LEVEL = 0.9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """One measured quantity and the range in which its theory puts it.

    Attributes:
      quantity: what was measured.
      measured: its value.
      half: half-width of its interval at `LEVEL`; 0 where nothing was sampled or fitted.
      theory: the predicted value, or the bound; NaN where theory says nothing.
      low, high: the range that counts as the prediction come true, stated before the run.
    """

    quantity: str
    measured: float
    half: float = 0.0
    theory: float = np.nan
    low: float = -np.inf
    high: float = np.inf

    @property
    def holds(self) -> bool:
        """Whether the measured value lies in the range."""
        return bool(self.low <= self.measured <= self.high)


def near(quantity: str, measured: float, theory: float, *, within: float, half: float = 0.0) -> Check:
    """Returns the check that `measured` is `theory` give or take `within`."""
    return Check(quantity=quantity, measured=measured, half=half, theory=theory,
                 low=theory - within, high=theory + within)


def at_most(quantity: str, measured: float, theory: float, *, half: float = 0.0) -> Check:
    """Returns the check that `measured` is not above `theory`."""
    return Check(quantity=quantity, measured=measured, half=half, theory=theory, high=theory)


def slope(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Returns the slope of log y on log x and the half-width of its t interval at `LEVEL`.

    Args:
      x, y: positive, of one length of at least three.

    Raises:
      ConfigError: if a value is not positive and finite, or there are too few.

    >>> slope(np.array([1, 2, 4]), np.array([3, 12, 48]))
    (2.0, 0.0)
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    require(x.shape == y.shape and x.size >= 3, "points", x.size, "must be at least three, of x and y alike")
    good = np.isfinite(x) & np.isfinite(y) & (x > 0) & (y > 0)
    require(bool(good.all()), "y", y[~good][:1].tolist(), "must be positive and finite for a slope in logs")
    line = stats.linregress(np.log(x), np.log(y))
    return round(float(line.slope), 12), round(float(stats.t.ppf(0.5 + LEVEL / 2, x.size - 2) * line.stderr), 12)


def table(checks: Sequence[Check]) -> str:
    """Returns the checks as a markdown table."""
    head = "| quantity | measured | theory | counts as met | verdict |\n|---|---|---|---|---|\n"
    return head + "".join(_row(check) for check in checks)


def run_bed(text: str, bed: Callable[[pathlib.Path], list[Check]]) -> int:
    """Runs a bed from the command line: its table to the terminal and to `--out`, seconds beside.

    Returns 1 if a prediction did not come true, else 0.
    """
    name, *rest = (line.strip() for line in text.strip().splitlines())
    parser = argparse.ArgumentParser(description=name, epilog=" ".join(rest))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/testbeds"),
                        help="folder of the picture and the table (runs/testbeds)")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    began = time.process_time()
    checks = bed(out)
    seconds = time.process_time() - began
    predicted = [check for check in checks if not np.isnan(check.theory)]
    failed = sum(not check.holds for check in predicted)
    report = f"{name}\n\n{table(checks)}\n{len(predicted) - failed} of {len(predicted)} as predicted; {seconds:.0f} CPU-s\n"
    (out / f"{bed.__name__}.md").write_text(report)
    print(report, flush=True)
    return min(failed, 1)


def _row(check: Check) -> str:
    half = f" ± {check.half:.2g}" if check.half else ""
    if np.isnan(check.theory):
        return f"| {check.quantity} | {check.measured:.4g}{half} | | | measured only |\n"
    if np.isinf(check.low):
        accepted = f"at most {check.high:.4g}"
    elif np.isinf(check.high):
        accepted = f"at least {check.low:.4g}"
    else:
        accepted = f"{check.low:.4g} to {check.high:.4g}"
    verdict = "as predicted" if check.holds else "**not as predicted**"
    return f"| {check.quantity} | {check.measured:.4g}{half} | {check.theory:.4g} | {accepted} | {verdict} |\n"
