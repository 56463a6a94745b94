"""Which schedule gives the lowest loss at three budgets, and what do all three cost together?

Nine schedules train the byte model of one size to three budgets, each twice the one before. Some need a run for each
budget (cosine, linear); of others one run serves all three: the constant rate, branches of its trunk that decay
(warmup-stable-decay, WSD), cycles (WSD-S, cyclic cosine), schedule-free AdamW. Each gets the peak rate, on one grid in
factors of two with the best strictly inside, that is lowest in the mean of its three losses: one rate for all budgets,
for a trunk can have no other; then two more seeds at that rate. Everything else is equal: model, text, batch, order of
data, warm-up, AdamW without weight decay, clipping at norm 1.

    jaxlm study schedules            nine minutes on two cores
    jaxlm study schedules_full       a larger model, budgets twice as long: half an hour
"""

import dataclasses
import functools
from collections.abc import Mapping

import quickstart
import schedules_report as report
import schedules_rows

from jaxlm.data import DataConfig
from jaxlm.model import ModelConfig
from jaxlm.optim import AdamW, ScheduleFree
from jaxlm.schedules import Constant, Cosine, CyclicCosine, Linear, ScheduleConfig
from jaxlm.sweep import Compute, RateGrid, Study, Trunk, compute
from jaxlm.train import CheckpointConfig, EvalConfig, RunConfig

QUESTION = "Which schedule gives the lowest loss at three budgets, and what do all three cost together?"
TOKENS = quickstart.BATCH * quickstart.SEQUENCE  # an update
# WSD decays over a fifth of every budget, where Haegele et al. 2024 (2405.18392) see the gain level off; WSD-S over a
# fifth of every period, which is a tenth of the second and third budget.
DECAY = 0.2
MIDDLE = 8e-3  # of the first three rates: the quick start's optimum for a model of this size
SHARED = ("constant", "wsd", "wsd_linear", "wsd_s")  # of one trunk a rate and seed
SEPARATE = ("cosine", "linear", "linear_10")  # a run a budget
ALONE = ("cyclic_cosine", "schedule_free")  # one run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Form:
    """The size of the study: the model's width, the budgets in updates, the warm-up."""

    width: int
    budgets: tuple[int, ...]
    warmup: int


SHORT, FULL = (Form(width=32, budgets=(96, 192, 384), warmup=16), Form(width=48, budgets=(192, 384, 768), warmup=32))


def study(form: Form = SHORT, name: str = "schedules") -> Study:
    """Returns the study, by default in its ten-minute form."""
    grid = rate_grid(form)
    draw = functools.partial(report.draw, grid=grid, budgets=form.budgets, accounts=accounts(form))
    return Study(name=name, question=QUESTION, stages=grid.stages(then=draw))


def rate_grid(form: Form) -> RateGrid:
    """Returns the schedules and their one grid of rates."""
    arms = {name: functools.partial(arm, name, form) for name in (*SHARED, *SEPARATE, *ALONE)}
    return RateGrid(arms=arms, middle=MIDDLE, score=functools.partial(schedules_rows.mean_loss, budgets=form.budgets))


@functools.cache
def arm(name: str, form: Form, rate: float, seed: int) -> tuple[RunConfig, ...]:
    """Returns the runs of a schedule at a peak rate and a seed, the trunk first where it has one."""
    if name in SHARED:
        trunk, *branches = family(form, rate, seed).runs
        return (trunk, *(branch for branch in branches if f"-{name}-" in branch.name))
    if name in SEPARATE:
        rates = schedule(name, form, rate)
        return tuple(run(f"{name}-t{budget}", form, rate, seed=seed, updates=budget, schedule=rates)
                     for budget in form.budgets)
    one = run(name, form, rate, seed=seed, updates=form.budgets[-1], schedule=schedule(name, form, rate))
    one = one.replace(checkpoint=CheckpointConfig(keep=form.budgets))
    return (one.replace(optimizer=ScheduleFree()) if name == "schedule_free" else one,)  # no decay of weights either


def schedule(name: str, form: Form, rate: float) -> ScheduleConfig:
    """Returns a schedule by its name."""
    peak = {"peak_lr": rate, "warmup": form.warmup}
    return {"constant": Constant(**peak), "schedule_free": Constant(**peak), "cosine": Cosine(**peak, final=0.0),
            "linear": Linear(**peak, final=0.0), "linear_10": Linear(**peak, final=0.1),
            "cyclic_cosine": CyclicCosine(**peak, cycles=form.budgets, final=0.0)}[name]


def run(name: str, form: Form, rate: float, *, seed: int, updates: int, schedule: ScheduleConfig) -> RunConfig:
    """Returns one run, by default of AdamW."""
    model = ModelConfig(vocabulary=256, sequence=quickstart.SEQUENCE, layers=2, width=form.width,
                        heads=form.width // quickstart.HEAD_SIZE, ff=2 * form.width, tied=True)
    return RunConfig(
        name=f"lr{rate:g}-s{seed}-{name}", seed=seed, updates=updates, batch=quickstart.BATCH, model=model,
        data=DataConfig(sources=(quickstart.text(),), sequence=quickstart.SEQUENCE, seed=seed),
        optimizer=AdamW(weight_decay=0.0), schedule=schedule,
        evaluation=EvalConfig(every=form.budgets[0] // 4, sequences=256))


def bare(form: Form, rate: float, seed: int) -> Trunk:
    """Returns the trunk of a rate and a seed, without branches."""
    rates = schedule("constant", form, rate)
    return Trunk(run("trunk", form, rate, seed=seed, updates=form.budgets[-1], schedule=rates))


@functools.cache
def family(form: Form, rate: float, seed: int) -> Trunk:
    """Returns the trunk with all that shares it; WSD-S also with later ends, for equal compute with WSD."""
    trunk = bare(form, rate, seed)
    for name in ("constant", "wsd", "wsd_linear"):
        trunk = grown(name, trunk, form.budgets)
    spent = tuple(grown("wsd", bare(form, rate, seed), form.budgets[:k + 1]).compute.total.updates
                  for k in range(len(form.budgets)))
    return grown("wsd_s", grown("wsd_s", trunk, spent, name="wsd_s-late"), form.budgets)


def grown(kind: str, trunk: Trunk, budgets: tuple[int, ...], name: str = "") -> Trunk:
    """Returns the trunk with one kind of result at all budgets, in updates."""
    label = trunk.run.name.removesuffix("trunk") + (name or kind)
    if kind == "wsd_s":
        ends = tuple(budget * TOKENS for budget in budgets)
        return trunk.cycle(ends, fraction=DECAY, name=f"{label}-t{budgets[-1]}")
    for budget in budgets:
        if kind == "constant":
            trunk = trunk.hold_at(budget * TOKENS)
        else:
            trunk = trunk.decay_at(budget * TOKENS, shape="linear" if kind == "wsd_linear" else "sqrt", fraction=DECAY,
                                   name=f"{label}-t{budget}")
    return trunk


def accounts(form: Form) -> Mapping[str, Compute]:
    """Returns what each schedule, without the others, spends on one rate and seed."""
    alone = {name: compute(arm(name, form, MIDDLE, 0)) for name in (*SEPARATE, *ALONE)}
    return {name: grown(name, bare(form, MIDDLE, 0), form.budgets).compute for name in SHARED} | alone
