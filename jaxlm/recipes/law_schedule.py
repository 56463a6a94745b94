"""A schedule that is best under a fitted law, checked against the run that it shall drive."""

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxlm import model
from jaxlm.config import ConfigError, require
from jaxlm.schedules import FromArray, as_array, load_array
from jaxlm.train import RunConfig
from scaling.best_schedule.result import BestSchedule

# Rates that differ by less are one rate.
_SAME_RATE = 1e-6


class LawScheduleWarning(UserWarning):
    """A schedule that rests on less than it seems to."""


def law_schedule(source: str | os.PathLike[str] | BestSchedule, run: RunConfig, *,
                 folder: str | os.PathLike[str] | None = None) -> RunConfig:
    """Returns `run` with a schedule that `scaling.schedule` found in the place of its own.

    A law of loss curves holds for what its curves had in common. `run` says what will train, its own schedule at
    which peak rate. Where the law does not say what its curves were trained with, as one fitted to curves
    without records, a `LawScheduleWarning` says what could not be checked; further ones repeat the doubts that
    the optimisation had, and name curves of another length.

    Args:
      source: the folder into which a `BestSchedule` was saved, or the `BestSchedule` itself.
      run: the run that it shall drive.
      folder: where a `BestSchedule` is saved first; goes with one, and only with one.

    Raises:
      ConfigError: where the schedule is not one of `scaling.schedule`, or was made for another number of
        updates, peak rate, batch (tokens of an update), optimizer or, under a law without N, model size.
      InputError: where `folder` holds another schedule already.
    """
    if isinstance(source, BestSchedule):
        require(folder is not None, "folder", folder, "must say where the schedule is to be saved")
        source.save(folder)
        source = folder
    else:
        require(folder is None, "folder", folder and str(folder),
                "goes with a BestSchedule; the source is a folder already")
    path = Path(source)
    schedule = load_array(path)
    facts = schedule.provenance
    require(facts.get("source") == "scaling.schedule", "schedule", str(path),
            "must be one that scaling.schedule found and saved")
    require(schedule.rates.size == run.updates, "updates", run.updates,
            f"must be the {schedule.rates.size} for which the schedule was optimised")
    require(_same(_peak(run), schedule.rates.max()), "schedule.peak_lr", _peak(run),
            f"must be the {schedule.rates.max():g} for which the schedule was optimised")
    unknown = _check_conditions(facts, run)
    lines = [f"the law does not say {', '.join(unknown)} of its curves: not checked against the run"] if unknown else []
    lengths = facts.get("conditions", {}).get("updates", [])
    if lengths and not min(lengths) <= run.updates <= max(lengths):
        shorter = run.updates < min(lengths)
        factor = min(lengths) / run.updates if shorter else run.updates / max(lengths)
        side = "below" if shorter else "above"
        lines.append(f"updates = {run.updates}: {factor:.3g} times {side} the lengths of the fitted curves, "
                     f"{min(lengths)} to {max(lengths)}")
    for line in (*lines, *facts.get("warnings", [])):
        warnings.warn(f"{path}: {line}", LawScheduleWarning, stacklevel=2)
    return run.replace(schedule=FromArray(path=str(path)))


def _check_conditions(facts: Mapping[str, Any], run: RunConfig) -> list[str]:
    """Raises `ConfigError` where the run differs from the law's curves; returns what is not known of these."""
    known, counts = facts.get("conditions", {}), model.parameter_counts(run.model)
    params = {name: getattr(counts, name) for name in ("total", "non_embedding", "with_head")}
    own = {"peak_lr": _peak(run), "tokens_per_update": run.tokens_per_update, "optimizer": run.identity["optimizer"]}
    if facts.get("N") is None:
        own["params"] = params
    else:
        n = params[facts["counting"]]
        require(n == facts["N"], "model", run.name,
                f"has N = {n:,} ({facts['counting']}): must be the {facts['N']:,.0f} that the law was asked with")
    for name, value in own.items():
        there = known.get(name)
        if there and not any(_same(value, one) if name == "peak_lr" else value == one for one in there):
            raise ConfigError(f"{name} = {_said(value)}: must be that of the curves to which the law was fitted, "
                              f"{' or '.join(map(_said, there))}")
    return [name for name in own if name not in known]


def _peak(run: RunConfig) -> float:
    return float(as_array(run.schedule.build(run.updates), run.updates).max())


def _same(a: float, b: float) -> bool:
    return bool(np.isclose(a, b, rtol=_SAME_RATE, atol=0.0))


def _said(value: Any) -> str:
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else f"{value:.10g}"
