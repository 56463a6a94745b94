"""From a recorded run to the schedule of the next: linear decay refined by the gradient norms it met."""

import dataclasses
import hashlib
import os
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxlm.config import require
from jaxlm.schedules.arrays import ArraySchedule
from jaxlm.schedules.refinement import Refinement, linear_rates, refine_norms
from scaling import record
from scaling.errors import InputError
from scaling.record.schedule_pair import save_schedule

Norm = Literal["l1", "l2"]

# Kinds of optimizer, as recorded, for which Defazio et al. 2023 say which norm. The rules of the others are no
# coordinate-wise Adam and no gradient step, so that their user has to choose.
NORMS: dict[str, Norm] = {"sgd": "l2", "adam": "l1", "adamw": "l1", "spam": "l1", "mars": "l1"}
# Clipping leaves norms that are equal up to rounding: so close to the largest, and so often, counts as clipped.
CLIPPED_NEAR, CLIPPED_SHARE = 1e-5, 0.05
MISSING_SHARE = 0.1
# A run counts as linear decay where its rates, from their largest on, are so near to it, in shares of the peak.
LINEAR_NEAR = 0.05


class RefinementWarning(UserWarning):
    """A refined schedule that may do worse than linear decay, or that rests on less than it seems to."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RefinedRun:
    """The refined schedule of a recorded run.

    Attributes:
      schedule: the schedule for the next run, with its provenance.
      refinement: what it was made of, rates as fractions of the peak.
      run: the run whose norms were taken.
      norm: "l1" or "l2".
      norms: [T] float64, the recorded norms; NaN where none was finite.
      peak_lr: the largest rate of `schedule`.
      warnings: why one might distrust it, those of `refinement` among them.
    """

    schedule: ArraySchedule
    refinement: Refinement
    run: record.Run
    norm: Norm
    norms: np.ndarray
    peak_lr: float
    warnings: tuple[str, ...]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes `schedule.npy` and `schedule.json` into `folder`, which is made where absent.

        `jaxlm.schedules.FromArray(path=folder)` trains with it. Raises `InputError` where another schedule or
        provenance stands there already; equal files are left as they are.
        """
        save_schedule(folder, self.schedule.rates, self.schedule.provenance)

    def table(self) -> str:
        """Returns as plain text where warm-up and annealing emerged, and the warnings."""
        found, rates = self.refinement, self.refinement.rates
        updates, weights = rates.size, "1/l1" if self.norm == "l1" else "1/l2^2"
        rise = f"{_share(found.warmup, updates)}, from {rates[0]:.3f} of the peak" if found.warmup else "none"
        lines = [
            f"refined schedule of {self.run.name}",
            f"  {updates} updates, peak {self.peak_lr:.6g}, weights {weights} of the gradient norms before clipping",
            f"  smoothed by a running median over {found.width} of {self.norms.size} norms"
            + (f", {found.dropped} of them not finite and left out" if found.dropped else ""),
            f"  smoothed norms {found.norms.min():.4g} to {found.norms.max():.4g}, a factor of {found.span:.3g}",
            f"  warm-up that emerged: {rise}",
            f"  annealing: below 90% of the peak for good from {_share(found.annealing, updates)}; linear decay from"
            " 10%",
            f"  mean rate {rates.mean():.3f} of the peak; linear decay 0.5",
            *(f"  warning: {text}" for text in self.warnings)]
        return "\n".join(lines)

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draws the norms, and the refined schedule against the run's own and linear decay; needs extra `plots`.

        Raises `ConfigError` unless `path` ends in .png, .pdf or .svg and its folder is there.
        """
        from jaxlm.data.extras import load_extra

        path = Path(path)
        require(path.suffix in (".png", ".pdf", ".svg"), "plot", str(path), "must end in .png, .pdf or .svg")
        require(path.parent.is_dir(), "plot", str(path), "must name a file in a folder that is there")
        load_extra("matplotlib", "plots")
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10, 3.8), layout="constrained")
        norms, rates = figure.subplots(1, 2)
        self._draw_norms(norms)
        self._draw_rates(rates)
        figure.suptitle(self.run.name, fontsize=10)
        figure.savefig(path, dpi=130)

    def _draw_norms(self, axes: Any) -> None:
        own = np.linspace(0, self.norms.size - 1, self.refinement.norms.size)
        axes.plot(self.norms, color="0.75", linewidth=0.8, label="recorded")
        axes.plot(own, self.refinement.norms, color="tab:blue", label=f"median over {self.refinement.width}")
        axes.set(yscale="log", xlabel="update of the recorded run", ylabel=f"gradient {self.norm} norm before clipping")
        axes.legend(frameon=False, fontsize=8)

    def _draw_rates(self, axes: Any) -> None:
        updates, own = self.schedule.rates.size, self.run.schedule
        axes.plot(np.linspace(0, updates - 1, own.size), own, color="0.6", linestyle="--", label="the run's own")
        axes.plot(self.peak_lr * linear_rates(updates), color="tab:orange", linewidth=1, label="linear decay")
        axes.plot(self.schedule.rates, color="tab:blue", label="refined")
        for name, at in (("peak", self.refinement.warmup), ("< 90% from here", self.refinement.annealing)):
            axes.axvline(at, color="tab:blue", linewidth=0.7, linestyle=":")
            axes.annotate(name, (at, 0.02), xycoords=("data", "axes fraction"), rotation=90, fontsize=7,
                          ha="right", va="bottom")
        axes.set(xlabel="update of the next run", ylabel="learning rate", ylim=(0, None))
        axes.legend(frameon=False, fontsize=8)


def refine(run: record.Run | str | os.PathLike[str], *, norm: Norm | None = None, peak_lr: float | None = None,
           smoothing: float = 0.1, updates: int | None = None, floor: float = 0.0,
           cap: float | None = None) -> RefinedRun:
    """Returns the refined schedule for the run that follows `run`, by the gradient norms that `run` met.

    The procedure of Defazio et al. 2023 (arXiv 2310.07831): train with linear decay, refine, train again. The
    peak is the run's own unless given; it should be tuned anew, for the mean rate changes. Each warning is also
    issued as a `RefinementWarning`.

    Args:
      run: a finished run with the norms of all its updates, read or its folder.
      norm: "l1", for rules that scale each coordinate, as Adam's, or "l2", for gradient steps. By default by the
        recorded kind of optimizer: l2 for sgd, l1 for adam, adamw, spam and mars; for others it must be given.
      peak_lr: largest rate of the schedule, finite and > 0.
      smoothing, updates, floor, cap: as `jaxlm.schedules.refine_norms` takes them.

    Raises:
      InputError: a run that is not finished, that branches off another one, whose updates are not all on record,
        whose batch changes, that holds no such norms, or that holds norms after clipping.
      ConfigError: a wrong argument, or an optimizer for which the norm must be given.
    """
    run = run if isinstance(run, record.Run) else record.read(run)
    norm = _norm_of(run) if norm is None else norm
    require(norm in ("l1", "l2"), "norm", norm, "must be 'l1' or 'l2'")
    peak_lr = run.peak_lr if peak_lr is None else peak_lr
    require(0 < peak_lr < float("inf"), "peak_lr", peak_lr, "must be finite and positive")
    _check_complete(run)
    norms = _norms(run, norm)
    found = refine_norms(np.where(np.isnan(norms), np.inf, norms), kind="adam" if norm == "l1" else "sgd",
                         smoothing=smoothing, updates=updates, floor=floor, cap=cap)
    texts = (*found.warnings, *_schedule_warning(run))
    for text in texts:
        warnings.warn(f"{run.name}: {text}", RefinementWarning, stacklevel=2)
    origin = {"source": "jaxlm.recipes.refine", "run": run.name, "config_hash": run.identity["config_hash"],
              "params_digest": run.result["params_digest"], "norm": norm, "run_updates": norms.size,
              "norms_sha256": hashlib.sha256(norms.astype("<f8").tobytes()).hexdigest(), "warnings": list(texts)}
    return RefinedRun(schedule=found.schedule(peak_lr, origin), refinement=found, run=run, norm=norm, norms=norms,
                      peak_lr=float(peak_lr), warnings=texts)


def _norm_of(run: record.Run) -> Norm:
    optimizer = run.identity["config"].get("optimizer")
    kind = optimizer.get("kind") if isinstance(optimizer, dict) else optimizer
    norm = NORMS.get(str(kind).lower())
    require(norm is not None, "norm", None, f"must be given for the optimizer {kind!r} of {run.name}: 'l1' for rules "
            f"that scale each coordinate, as Adam's, 'l2' for gradient steps; known: {', '.join(NORMS)}")
    return norm


def _check_complete(run: record.Run) -> None:
    """Raises `InputError` unless the run finished with every update on record, all of one batch."""
    where, metrics, updates = f"run {run.name}", run.metrics, run.schedule.size
    if run.state != "finished":
        raise InputError(f"{where}: is {run.state}, must be finished: its last updates have no norms")
    parent = run.identity["parent"]
    if parent is not None:
        raise InputError(f"{where}: branches off {parent['run']} at update {parent['step']}; refinement needs the "
                         "norms of one whole run")
    if not np.array_equal(metrics["step"], np.arange(updates)):
        absent = np.setdiff1d(np.arange(updates), metrics["step"])
        first = f", the first {absent[0]}" if absent.size else ""
        raise InputError(f"{where}: {metrics['step'].size} of {updates} updates are on record{first}; all are needed")
    expected = (metrics["step"] + 1) * run.batch_tokens
    if not np.array_equal(metrics["tokens"], expected):
        step = int(np.argmax(metrics["tokens"] != expected))
        raise InputError(f"{where}: the batch changes: {metrics['tokens'][step]} tokens after update {step}, with "
                         f"{run.batch_tokens} an update {expected[step]}; norms of different batches do not compare")


def _norms(run: record.Run, norm: Norm) -> np.ndarray:
    """Returns the recorded norms [T]; raises `InputError` where there are none, or they were clipped."""
    where, values = f"run {run.name}", run.metrics[f"grad_{norm}"]
    missing = int(np.isnan(values).sum())
    if missing > MISSING_SHARE * values.size:
        raise InputError(f"{where}: {missing} of {values.size} updates have no grad_{norm}, the gradient's {norm} norm "
                         "before clipping; norms after clipping do not serve")
    # Clipping by the global norm shows in l2, whichever norm is asked for.
    for name in ("grad_l2", f"grad_{norm}"):
        seen = run.metrics[name][~np.isnan(run.metrics[name])]
        if seen.size == 0:
            continue
        share = float(np.mean(seen > seen.max() * (1 - CLIPPED_NEAR)))
        if share * seen.size >= 3 and share >= CLIPPED_SHARE:
            raise InputError(f"{where}: {name} is at its largest, {seen.max():.6g}, in {share:.0%} of the updates, as "
                             "norms after clipping are; refinement needs those before")
    return values


def _schedule_warning(run: record.Run) -> list[str]:
    """Says where the run was no linear decay to zero, nor itself refined."""
    origin = run.provenance.get("from")
    if isinstance(origin, dict) and origin.get("source") == "jaxlm.recipes.refine":
        return []
    rates = run.schedule / run.peak_lr
    # From the peak on, whatever the warm-up.
    decay = rates[np.flatnonzero(rates == 1.0)[0]:]
    linear = 1 - np.arange(decay.size) / decay.size
    if np.abs(decay - linear).max() <= LINEAR_NEAR:
        return []
    return ["its own schedule is not linear decay to zero; norms depend on the rates under which they were met, and "
            "the procedure that was published begins with linear decay"]


def _share(at: int, updates: int) -> str:
    return f"update {at} ({at / updates:.1%})"
