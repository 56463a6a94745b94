"""Quick start: predict runs that the fit has not seen, then train them and compare.

(i)  How low will a larger model go? Three sizes train along a warmup-stable-decay trunk with decay
     branches at three budgets, two seeds each; L(N, D) fitted to them predicts a fourth size.
(ii) What will another schedule give? The annealing law fitted to a constant and a cosine run of one
     size predicts the whole curve of a third schedule.

    jaxlm study quickstart        about ten minutes on two cores

The peak rates come from the grid in quickstart_rates.csv (`jaxlm study quickstart_rates`).
"""

import csv
import functools
import sys
from pathlib import Path

import numpy as np
import quickstart_report as report

from jaxlm.config import require
from jaxlm.data import DataConfig, Source, corpus_or_stdlib
from jaxlm.model import ModelConfig, parameter_counts
from jaxlm.schedules import WSD, Constant, Cosine, ScheduleConfig
from jaxlm.sweep import Stage, Study, Trunk
from jaxlm.train import CheckpointConfig, EvalConfig, RunConfig

QUESTION = "How low will a larger model go, and what will another schedule give?"

SEQUENCE, BATCH, WARMUP = 128, 16, 32  # 2048 tokens an update
BUDGETS = (256, 512, 1024)  # updates: 0.5, 1.0 and 2.1 million tokens
DECAY = 5  # a fifth of the run decays: where Haegele et al. 2024 (2405.18392) see the gain level off
FIT_WIDTHS, TARGET_WIDTH, CURVE_WIDTH = (32, 48, 80), 128, 48
# One head size for all, for a law in N alone cannot follow a family whose shape changes on the way. With the
# 1, 2 and 2 heads of a first version widths 32, 48 and 80 lost 1.5%, 0.1% and 0.8% (one seed, middle budget).
HEAD_SIZE = 16
SEEDS_PER_SIZE = 2
RATES = Path(__file__).with_name("quickstart_rates.csv")


def study(replicate: int = 0, name: str = "quickstart") -> Study:
    """Returns the study; each `replicate` has seeds of its own."""
    seeds = tuple(SEEDS_PER_SIZE * replicate + i for i in range(SEEDS_PER_SIZE))
    rates = peak_rates(RATES)
    fit = [run for width in FIT_WIDTHS for seed in seeds for run in family(width, seed, rates[width])]
    target = family(TARGET_WIDTH, seeds[0], rates[TARGET_WIDTH])
    known = [curve("constant", seeds[0], Constant(peak_lr=rates[CURVE_WIDTH], warmup=WARMUP)),
             curve("cosine", seeds[0], Cosine(peak_lr=rates[CURVE_WIDTH], warmup=WARMUP))]
    unseen = [curve("wsd", seeds[0], wsd(rates[CURVE_WIDTH], BUDGETS[-1]))]
    folders = report.Folders(
        everything=tuple(run.folder for run in (*fit, *known, *target, *unseen)),
        fit=tuple(run.folder for run in fit if run.parent), target=tuple(run.folder for run in target if run.parent),
        known=tuple(run.folder for run in known), unseen=tuple(run.folder for run in unseen))
    targets = tuple((count(TARGET_WIDTH), updates * BATCH * SEQUENCE) for updates in BUDGETS)
    predict = functools.partial(report.predict, folders=folders, targets=targets)
    return Study(name=name, question=QUESTION, stages=(
        Stage(title="runs to fit", runs=(*fit, *known), then=predict),
        Stage(title="runs to predict", runs=(*target, *unseen), then=functools.partial(report.draw, folders=folders)),
    ))


def base(name: str, width: int, *, seed: int, updates: int, schedule: ScheduleConfig) -> RunConfig:
    """Returns the configuration that all runs share."""
    model = ModelConfig(vocabulary=256, sequence=SEQUENCE, layers=2, width=width, heads=width // HEAD_SIZE,
                        ff=2 * width, tied=True)
    return RunConfig(
        name=name, seed=seed, updates=updates, batch=BATCH, model=model, schedule=schedule,
        data=DataConfig(sources=(text(),), sequence=SEQUENCE, seed=seed), evaluation=EvalConfig(sequences=512))


@functools.cache
def text() -> Source:
    """The corpus packages' text, else the standard library's; says which on standard error."""
    source, line = corpus_or_stdlib()
    print(line, file=sys.stderr)
    return source


def wsd(peak_lr: float, updates: int) -> WSD:
    """Warm-up, hold, and a 1-sqrt cooldown over the last fifth."""
    return WSD(peak_lr=peak_lr, warmup=WARMUP, decay=updates // DECAY)


def family(width: int, seed: int, peak_lr: float) -> tuple[RunConfig, ...]:
    """Returns the trunk of one size and seed, and its decay branches at the budgets."""
    run = base(f"w{width}-s{seed}-trunk", width, seed=seed, updates=BUDGETS[-1],
               schedule=WSD(peak_lr=peak_lr, warmup=WARMUP))
    trunk = Trunk(run.replace(checkpoint=CheckpointConfig(every=128)))
    for updates in BUDGETS:
        trunk = trunk.decay_at(updates * run.tokens_per_update, fraction=1 / DECAY, checkpoint=CheckpointConfig())
    return trunk.runs


def curve(name: str, seed: int, schedule: ScheduleConfig) -> RunConfig:
    """Returns a run of the curve size under `schedule`, evaluated every 16 updates."""
    run = base(f"curve-{name}-s{seed}", CURVE_WIDTH, seed=seed, updates=BUDGETS[-1], schedule=schedule)
    return run.replace(evaluation=EvalConfig(every=16, sequences=256), checkpoint=CheckpointConfig(every=128))


def peak_rates(table: Path) -> dict[int, float]:
    """Returns the peak rate of every size: the grid's optimum, and its power law in N beyond.

    The optimum of a size is the vertex of the parabola in log rate fitted to the best point of its grid,
    that point's neighbours, and whatever else lies within 2% of its loss: the basin is flat and one seed
    differs from the next by up to 1%, so three points alone would follow the noise. The largest size takes log rate = a + b log N fitted to the others,
    the form of Step Law (Li et al. 2025, 2503.04715) at one budget.
    """
    with open(table) as file:
        rows = [(int(row["width"]), float(row["peak_lr"]), float(row["loss"])) for row in csv.DictReader(file)]
    best = {width: best_rate(sorted((rate, loss) for w, rate, loss in rows if w == width)) for width in FIT_WIDTHS}
    slope, intercept = np.polyfit(np.log([count(width) for width in FIT_WIDTHS]),
                                  np.log([best[width] for width in FIT_WIDTHS]), 1)
    best[TARGET_WIDTH] = float(np.exp(intercept + slope * np.log(count(TARGET_WIDTH))))
    return {width: float(f"{rate:.3g}") for width, rate in best.items()}


def best_rate(points: list[tuple[float, float]]) -> float:
    """Returns the optimal rate of (rate, loss) points; raises `ConfigError` if it is not inside them."""
    rates, losses = np.log([rate for rate, _ in points]), np.array([loss for _, loss in points])
    at = int(np.argmin(losses))
    require(0 < at < len(points) - 1, "rate grid", [rate for rate, _ in points], "its best rate must lie inside it")
    near = (losses < 1.02 * losses[at]) | (np.abs(np.arange(len(points)) - at) <= 1)
    a, b, _ = np.polyfit(rates[near], losses[near], 2)
    return float(np.exp(-b / (2 * a)))


def count(width: int) -> int:
    """The parameters of a size, embedding included."""
    return parameter_counts(base("count", width, seed=0, updates=WARMUP + 1,
                                 schedule=Constant(peak_lr=1.0)).model).total
