"""Does the schedule that is best under a fitted law do as the law says, and better than the usual ones?

Constant, cosine and two-step runs of the byte model are fitted by the multi-power law (Luo et al. 2025, 2503.12811) and
by the annealing law (Tissue et al. 2024, 2408.11029). Under each the schedule of least final loss is found and its loss
predicted, then it is trained with five further seeds, beside WSD (1-sqrt over a fifth), cosine and linear decay at the
same peak. Fits and predictions are written before those runs start and are never written again.

    jaxlm study optimal_schedule            five and a half minutes on two cores
    jaxlm study optimal_schedule_full       half an hour: a larger model, longer runs, rivals also at rates of their own

The laws hold at one peak. The short form takes the optimum of quickstart_rates.csv, which was tuned for WSD at this
model and length; the full form tunes WSD, cosine and linear on grids and takes WSD's best.
"""

import dataclasses
import functools
import warnings
from collections.abc import Callable
from pathlib import Path

import optimal_schedule_forecast as forecast
import optimal_schedule_report as report
import quickstart

from jaxlm import schedules
from jaxlm.data import DataConfig
from jaxlm.model import ModelConfig
from jaxlm.recipes import LawScheduleWarning, law_schedule
from jaxlm.schedules import Constant, Cosine, Linear, ScheduleConfig, StepDecay
from jaxlm.sweep import RateGrid, Stage, Study
from jaxlm.train import EvalConfig, RunConfig

QUESTION = "Does the schedule that is best under a fitted law do as the law says, and better than the usual ones?"
KNOWN, RIVALS = ("constant", "cosine", "two-step"), ("wsd", "cosine", "linear")
FIT_SEEDS, SEEDS = (5, 6, 7, 8), (0, 1, 2, 3, 4)  # no seed is both fitted and predicted
STEP_AT, STEP_TO = 0.5, 0.3  # the two-step run falls to this share of the peak halfway, as in Luo et al. 2025
Peak = Callable[[Path], float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Form:
    """How large a form of the study is: width of the model, updates of a run, updates between evaluations."""

    width: int
    updates: int
    every: int
    tuned: bool = False


SHORT = Form(width=32, updates=512, every=16)
FULL = Form(width=48, updates=1024, every=32, tuned=True)


def study(full: bool = False) -> Study:
    """Returns the study in its ten-minute or its full form."""
    return stages_of(FULL if full else SHORT, "optimal_schedule_full" if full else "optimal_schedule")


def stages_of(form: Form, name: str) -> Study:
    """Returns the study of a form: rates where they are tuned, curves to fit, then optima and rivals."""
    known_rate = quickstart.peak_rates(quickstart.RATES)[form.width]
    rivals = {rival: functools.partial(arm, rival, form) for rival in RIVALS}
    grid = RateGrid(arms=rivals, middle=known_rate, seeds=SEEDS)
    peak: Peak = (lambda root: grid.best(root, "wsd")) if form.tuned else (lambda root: known_rate)
    trained = functools.partial(arms, form, peak)
    return Study(name=name, question=QUESTION, stages=(
        *(grid.stages() if form.tuned else ()),
        Stage(title="curves to fit", runs=() if form.tuned else known(form, known_rate),
              plan=(lambda root: known(form, peak(root))) if form.tuned else None),
        Stage(title="optima and rivals", plan=functools.partial(predicted, form, peak),
              then=functools.partial(report.draw, arms=trained, grid=grid if form.tuned else None)),
    ))


def schedule(name: str, peak_lr: float, updates: int) -> ScheduleConfig:
    """Returns the schedule of that name."""
    if name == "wsd":
        return quickstart.wsd(peak_lr, updates)
    if name == "two-step":
        return StepDecay(peak_lr=peak_lr, warmup=quickstart.WARMUP, at=(STEP_AT,), factor=STEP_TO)
    return {"constant": Constant, "cosine": Cosine, "linear": Linear}[name](peak_lr=peak_lr, warmup=quickstart.WARMUP)


def run(name: str, form: Form, *, rate: float, seed: int) -> RunConfig:
    """Returns one run under the schedule of that name."""
    model = ModelConfig(vocabulary=256, sequence=quickstart.SEQUENCE, layers=2, width=form.width,
                        heads=max(1, form.width // quickstart.HEAD_SIZE), ff=2 * form.width, tied=True)
    return RunConfig(
        name=f"{name}-lr{rate:g}-s{seed}", seed=seed, updates=form.updates, batch=quickstart.BATCH, model=model,
        data=DataConfig(sources=(quickstart.text(),), sequence=quickstart.SEQUENCE, seed=seed),
        schedule=schedule(name, rate, form.updates), evaluation=EvalConfig(every=form.every, sequences=256))


def arm(name: str, form: Form, rate: float, seed: int) -> tuple[RunConfig, ...]:
    """Returns the one run of a schedule at a rate and a seed."""
    return (run(name, form, rate=rate, seed=seed),)


def known(form: Form, rate: float) -> tuple[RunConfig, ...]:
    """Returns the runs whose curves are fitted."""
    return tuple(run(name, form, rate=rate, seed=seed) for name in KNOWN for seed in FIT_SEEDS)


def predicted(form: Form, peak: Peak, root: Path) -> tuple[RunConfig, ...]:
    """Fits, optimises and predicts unless that has been done, and returns the predicted runs."""
    rate = peak(root)
    fitted = {name: tuple(run(name, form, rate=rate, seed=seed).folder for seed in FIT_SEEDS) for name in KNOWN}
    rivals = {name: schedules.as_array(schedule(name, rate, form.updates).build(form.updates), form.updates)
              for name in RIVALS}
    forecast.write(root, fitted=fitted, rivals=rivals, warmup=quickstart.WARMUP)
    return tuple(run for runs in arms(form, peak, root).values() for run in runs)


def arms(form: Form, peak: Peak, root: Path) -> dict[str, tuple[RunConfig, ...]]:
    """Returns the predicted runs by schedule, in the order of `SEEDS`; the laws' schedules must have been found."""
    rate = peak(root)
    runs = {name: tuple(run(name, form, rate=rate, seed=seed) for seed in SEEDS) for name in RIVALS}
    for law in forecast.LAWS:
        like = (run("constant", form, rate=rate, seed=seed).replace(name=f"{law}-lr{rate:g}-s{seed}") for seed in SEEDS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LawScheduleWarning)  # the report says them
            runs[law] = tuple(law_schedule(root / "schedules" / law, one) for one in like)
    return runs
