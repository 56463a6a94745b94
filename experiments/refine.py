"""Does refining linear decay by the gradient norms of a first run help the second run?

Defazio et al. 2023 (arXiv 2310.07831): train with linear decay, refine the schedule by the norms that were met, train
again. Here on both regimes of logistic regression (testbeds/logistic.py, seconds, also with the floor and the cap that
`refine_norms` offers), and on the byte model with AdamW: linear decay from the first update and with a warm-up by
hand, then each seed's best run without warm-up is refined and the refined schedule trained at rates of its own. Every
schedule gets the rate that is best for it on one grid, strictly inside, before five seeds are compared in pairs.

    jaxlm study refine                four and a half minutes on two cores
    jaxlm study refine_full           a larger model, twice the updates, refined twice: twenty minutes
"""

import dataclasses
import functools
import warnings
from collections.abc import Callable
from pathlib import Path

import quickstart
import refine_report as report
from testbeds import logistic

from jaxlm.optim import AdamW
from jaxlm.recipes import RefinedRun
from jaxlm.recipes import refine as refine_run
from jaxlm.schedules import FromArray, Linear, ScheduleConfig
from jaxlm.sweep import RateGrid, Stage, Study
from jaxlm.train import CheckpointConfig, EvalConfig, RunConfig
from scaling import record
from scaling.errors import InputError

QUESTION = "Does refining linear decay by the gradient norms of a first run help the second?"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Form:
    """One form of the study.

    Attributes:
      name: of the study.
      width, updates: of the byte model's runs.
      refinements: how often the schedule is refined.
      seeds: of the byte model; the first one picks rates.
      middle: of the first three rates, by factors of sqrt 2; the quick start's optimum for width 32.
      bed_seeds, bed_updates: of the testbeds.
    """

    name: str = "refine"
    width: int = 32
    updates: int = 512
    refinements: int = 1
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    middle: float = 8e-3
    bed_seeds: int = logistic.SEEDS
    bed_updates: int = logistic.UPDATES


FULL = Form(name="refine_full", width=48, updates=1024, refinements=2)
FACTOR, EXTENSIONS = 2**0.5, 4
WARMUP = 16  # by hand over this part of the run


def study(form: Form = Form()) -> Study:
    """Returns the study in one of its forms."""
    stages = [Stage(title="testbeds", then=functools.partial(testbeds, form)), *linear(form).stages()]
    for times in range(1, form.refinements + 1):
        stages += refined_stages(form, times)
    stages[-1] = dataclasses.replace(stages[-1], then=functools.partial(draw, form))
    return Study(name=form.name, question=QUESTION, stages=tuple(stages))


def testbeds(form: Form, root: Path) -> None:
    """Measures both regimes of the testbed and leaves figures and picture in the study's folder."""
    beds = [logistic.measure(problem, seeds=form.bed_seeds, updates=form.bed_updates) for problem in logistic.PROBLEMS]
    report.write_beds(beds, root)


def draw(form: Form, root: Path) -> None:
    """Writes the report."""
    grids = [linear(form), *(refined(form, root, times) for times in range(1, form.refinements + 1))]
    report.draw(root, grids=grids)


def linear(form: Form) -> RateGrid:
    """Returns linear decay to zero, without and with a warm-up, over the rates."""
    def arm(name: str, warmup: int, rate: float, seed: int) -> tuple[RunConfig, ...]:
        return (run(form, f"{name}-lr{rate:.4g}-s{seed}", Linear(peak_lr=rate, warmup=warmup), seed=seed),)

    return RateGrid(
        arms={report.BASELINE: functools.partial(arm, "linear", 0),
              report.BY_HAND: functools.partial(arm, "warmup", form.updates // WARMUP)},
        middle=form.middle, factor=FACTOR, seeds=form.seeds, extensions=EXTENSIONS)


def refined(form: Form, root: Path, times: int) -> RateGrid:
    """Returns the schedules that were refined so often, each seed's of its own run, over rates of the same grid.

    The runs that are refined must be on record in `root`; raises `InputError` for a seed whose run did not finish.
    """
    before, name = (refined(form, root, times - 1), report.refined(times - 1)) if times > 1 else (
        linear(form), report.BASELINE)
    best = before.best(root, name)
    sources = {seed: runs[-1] for seed, runs in before.finished(root, name, best).items()}

    def arm(rate: float, seed: int) -> tuple[RunConfig, ...]:
        if seed not in sources:
            raise InputError(f"{name}: seed {seed} did not finish at its best rate {best:g}; nothing to refine")
        # The source's name holds a hash of its configuration, so that another source never meets these files.
        folder = root / "schedules" / f"refined-{sources[seed].name}-lr{rate:.4g}"
        if not (folder / "schedule.json").exists():  # the file that is written last
            quiet(sources[seed], rate).save(folder)
        schedule = FromArray(path=str(folder))
        return (run(form, f"refined{times}-lr{rate:.4g}-s{seed}", schedule, seed=seed),)

    return RateGrid(arms={report.refined(times): arm}, middle=best, factor=FACTOR, seeds=form.seeds,
                    extensions=EXTENSIONS)


def quiet(source: record.Run, rate: float) -> RefinedRun:
    """Returns the refined run without issuing its warnings, which the report has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return refine_run(source, peak_lr=rate)


def refined_stages(form: Form, times: int) -> list[Stage]:
    """Returns the stages of a rate grid whose schedules come from the records of the stages before."""
    def planned(which: Callable[[RateGrid, Path], tuple[RunConfig, ...]]) -> Callable[[Path], tuple[RunConfig, ...]]:
        return lambda root: which(refined(form, root, times), root)

    name = report.refined(times)
    return [Stage(title=f"{name}: three rates", plan=planned(lambda grid, root: grid.stages()[0].runs)),
            *(Stage(title=f"{name}: grid, pushed {i + 1}", plan=planned(RateGrid.pushed)) for i in range(EXTENSIONS)),
            Stage(title=f"{name}: {len(form.seeds)} seeds at the best rate", plan=planned(RateGrid.replicates))]


def run(form: Form, name: str, schedule: ScheduleConfig, *, seed: int) -> RunConfig:
    """Returns one run of the byte model."""
    base = quickstart.base(name, form.width, seed=seed, updates=form.updates, schedule=schedule)
    return base.replace(optimizer=AdamW(weight_decay=0.0), checkpoint=CheckpointConfig(),
                        evaluation=EvalConfig(every=max(form.updates // 16, 1), sequences=256))
