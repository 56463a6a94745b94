"""The answer to `schedule`: rates, the loss they promise, rivals, and the pair of files for a trainer."""

import dataclasses
import os
from typing import Any

import numpy as np

from scaling.record.schedule_pair import save_schedule


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rival:
    """Another schedule of the same length: its final loss and what the best one gains over it.

    `low` and `high` are the ends of the gain's interval over paired draws, None without draws.
    """

    name: str
    final_loss: float
    gain: float
    low: float | None
    high: float | None

    @property
    def distinguishable(self) -> bool | None:
        """Whether the gain's interval leaves out zero; None without draws."""
        return None if self.low is None or self.high is None else self.low > 0 or self.high < 0


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class BestSchedule:
    """The best schedule of a family.

    Attributes:
      schedule: [updates] float64 rate of every update, warm-up included.
      final_loss: predicted loss after the last update, by the exact law, in `unit`.
      low, high: ends of the interval of one run's final loss, or None with the reason in `interval`.
      level: probability of the intervals.
      compared: rivals of the same length, peak and floor.
      converged: whether `gap`, the largest decrease of the linearised loss in the family, is within
        the tolerance.
      iterations, evaluations: of the search; an evaluation is one pass over all updates.
      cpu_seconds: processor time of the search.
      peak_lr: the peak.
      decay_start: first update after the warm-up 1% below the peak; the number of updates if none.
      decay_starts: [redraws] the same, optimised under draws of the fit; None without draws.
      warnings: why one might distrust it.
      provenance: what made it, JSON-ready.
    """

    schedule: np.ndarray
    final_loss: float
    low: float | None
    high: float | None
    level: float
    interval: str
    unit: str | None
    compared: tuple[Rival, ...]
    converged: bool
    gap: float
    iterations: int
    evaluations: int
    cpu_seconds: float
    peak_lr: float
    decay_start: int
    decay_starts: np.ndarray | None
    warnings: tuple[str, ...]
    provenance: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Returns everything but the rates as JSON-ready data, the contents of `schedule.json`."""
        data = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del data["schedule"]
        # Time is no property of a schedule: the same question must write the same file again.
        del data["cpu_seconds"]
        data["compared"] = [dataclasses.asdict(rival) for rival in self.compared]
        data["decay_starts"] = None if self.decay_starts is None else self.decay_starts.tolist()
        return data.pop("provenance") | data

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes `schedule.npy` and `schedule.json` into `folder`, which is made where absent.

        `jaxlm.schedules.FromArray(path=folder)` trains with it. Raises `InputError` where another
        schedule or provenance stands there already; equal files are left as they are.
        """
        save_schedule(folder, self.schedule, self.to_dict())

    def table(self) -> str:
        """Returns the answer as plain text."""
        asked, unit = self.provenance, f" {self.unit}" if self.unit else ""
        updates = self.schedule.size
        lines = [f"best schedule under the {asked['law']} law, family {asked['family']}"]
        lines.append(f"  {updates} updates, {asked['warmup_steps']} of them warm-up, peak {self.peak_lr:.6g}")
        if self.decay_start < updates:
            lines.append(
                f"  decays from update {self.decay_start} ({self.decay_start / updates:.1%}) to"
                f" {self.schedule[-1]:.4g} ({self.schedule[-1] / self.peak_lr:.2%} of the peak)"
            )
        if self.decay_starts is not None:
            low, high = self.decay_starts.min(), self.decay_starts.max()
            lines.append(f"  decay start over {self.decay_starts.size} draws of the fit: {low} to {high}")
        text = f"{self.final_loss:.6g}{unit}"
        if self.low is not None and self.high is not None:
            text += f"   [{self.low:.6g}, {self.high:.6g}]"
        lines.append(f"  predicted final loss {text}")
        lines.append(f"  interval: {self.interval}")
        state = "converged" if self.converged else "NOT converged"
        lines.append(
            f"  {state}: gap {self.gap:.2g}, {self.iterations} iterations, {self.evaluations} evaluations,"
            f" {self.cpu_seconds:.2f} CPU-s"
        )
        heading = f"  {'rival':<34}{'final loss':>11}{'gain':>11}   "
        lines += ["", f"{heading}{self.level:.0%} interval of the gain"]
        for rival in self.compared:
            bounds = "none"
            if rival.low is not None and rival.high is not None:
                bounds = f"{rival.low:+.2e} to {rival.high:+.2e}"
                bounds += "" if rival.distinguishable else "  (may be zero)"
            lines.append(f"  {rival.name:<34}{rival.final_loss:>11.6f}{rival.gain:>+11.2e}   {bounds}")
        lines.extend(f"  warning: {warning}" for warning in self.warnings)
        return "\n".join(line.rstrip() for line in lines)
