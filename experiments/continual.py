"""How does a model take in a second text without losing the first, for less than retraining on both?

A first phase trains on Shakespeare's plays, a second, as long, on another text: Python's standard library (a strong
shift, prose to code) and, in the full form, also the King James Bible (a weak one). The second phase

  joint     is no second phase: one run from scratch on both texts, half and half, with the tokens of both phases;
  re-warm   starts with the first phase's parameters, warms up again and decays again, with 0, 1, 5 or 25% of its
            tokens replayed from the first text, inside the same budget;
  hold      goes on at the rate at which the first phase ended, with 0% and with the share that the authors chose;
  infinite  goes on at the constant rate at which an infinite schedule ended its first phase, and anneals last.

After Ibrahim et al. 2024 (2403.08763): cosine to a tenth of the peak, the optimizer state reset between texts, replay
of 5% for a weak and 25% for a strong shift; infinite schedules with a cooldown to 0.55 of the peak over 60% of the
first phase. Deviations: a warm-up is a sixteenth of its run and not a hundredth, for these runs have a few hundred
updates, and begins near zero and not at the old last rate; the infinite schedule keeps the optimizer state, because a
reset without a warm-up would be a jolt of its own; and every arm has a peak rate of its own on one grid, re-warming
too, by the mean of both texts' losses. The first phase's is tuned on its own text.

    jaxlm study continual             five and a half minutes on two cores
    jaxlm study continual_full        both shifts, a larger model, twice the updates: half an hour
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import continual_report as report
import continual_rows as rows
import quickstart

from jaxlm.data import Corpus, DataConfig, Source, StandardLibrary
from jaxlm.model import ModelConfig
from jaxlm.schedules import WSD, Constant, Cosine, Infinite, ScheduleConfig
from jaxlm.sweep import RateGrid, Stage, Study
from jaxlm.train import EvalConfig, Initial, RunConfig

QUESTION = "How does a model take in a second text without losing the first, for less than retraining on both?"
OLD = Corpus(parts=("plays",))
NEW: dict[str, Source] = {"bible": Corpus(parts=("bible_kjv",)), "code": StandardLibrary()}
REPLAYS = (0.0, 0.01, 0.05, 0.25)
CHOSEN = {"bible": 0.05, "code": 0.25}  # by the authors, for a weak and a strong shift
FINAL = 0.1  # rate at the end of a cosine, as a fraction of its peak
PLATEAU, COOLDOWN, ANNEAL = 0.55, 0.6, 0.2  # constant rate; shares of the first and of the second phase
MIDDLE = 8e-3  # of the first three rates of every grid: the quick start's optimum for a model of this size
EXTENSIONS = 6  # without replay the best rate may lie far below the others'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Form:
    """The size of the study.

    Attributes:
      width: of the model.
      updates: of each phase.
      new: the second texts, of `NEW`.
    """

    width: int = 32
    updates: int = 256
    new: tuple[str, ...] = ("code",)


TEN_MINUTES = Form()
FULL = Form(width=48, updates=512, new=("bible", "code"))


def study(form: Form = TEN_MINUTES, name: str = "continual") -> Study:
    """Returns the study: the first phase's rate first, for what follows starts from there."""
    grid = first_phase(form)
    shifts = functools.partial(recorded_shifts, form)
    return Study(name=name, question=QUESTION, stages=(
        *(dataclasses.replace(stage, title=f"first phase: {stage.title}") for stage in grid.stages()[:-1]),
        Stage(title="second phase: three rates each",
              plan=_of_all(shifts, lambda shift: shift.tuned.stages()[0].runs)),
        *(Stage(title=f"second phase: grids, pushed {i + 1}", plan=_pushed(shifts)) for i in range(EXTENSIONS)),
        Stage(title="three seeds at the best rates", plan=_replicates(shifts), then=functools.partial(
            report.draw, shifts=shifts))))


def first_phase(form: Form) -> RateGrid:
    """Returns the grid of the first phase, scored by its own text's loss."""
    return RateGrid(arms={"first": lambda rate, seed: (first(form, rate, seed),)}, middle=MIDDLE)


def recorded_shifts(form: Form, root: Path) -> list[rows.Shift]:
    """Returns the arms of every second text, which start from the first phase at the best rate on record."""
    rate = first_phase(form).best(root, "first")
    return [shift(form, new, rate) for new in form.new]


def shift(form: Form, new: str, rate: float) -> rows.Shift:
    """Returns the arms of one second text; `rate` is the first phase's peak."""
    share = CHOSEN[new]
    tuned = {rows.JOINT: functools.partial(joint, form, new)}
    for replay in REPLAYS:
        tuned[rows.label(rows.REWARM, replay)] = functools.partial(rewarm, form, new, replay, rate)
    tuned[rows.label(rows.INFINITE, share)] = functools.partial(infinite, form, new, share)
    held = {rows.label(rows.HOLD, replay): functools.partial(hold, form, new, replay) for replay in (0.0, share)}
    at = 1 + form.new.index(new)
    return rows.Shift(
        old="plays", new=new, column=at, replays=REPLAYS, chosen=share, rate=rate,
        tuned=RateGrid(arms=tuned, middle=MIDDLE, extensions=EXTENSIONS,
                       score=functools.partial(rows.mean_loss, at=at)),
        held=RateGrid(arms=held, middle=rate))


def joint(form: Form, new: str, rate: float, seed: int) -> tuple[RunConfig, ...]:
    """Returns the run from scratch on both texts, half and half, with the tokens of both phases."""
    updates = 2 * form.updates
    return (run(form, f"{new}-joint-lr{rate:g}-s{seed}", seed=seed, updates=updates, schedule=cosine(rate, updates),
                sources=(OLD, NEW[new]), weights=(0.5, 0.5)),)


def first(form: Form, rate: float, seed: int) -> RunConfig:
    """Returns the first phase that decays."""
    return run(form, f"first-lr{rate:g}-s{seed}", seed=seed, schedule=cosine(rate, form.updates))


def rewarm(form: Form, new: str, replay: float, first_rate: float, rate: float, seed: int) -> tuple[RunConfig, ...]:
    """Returns the first phase at its own rate, and the second that warms up and decays again."""
    start = first(form, first_rate, seed)
    again = cosine(rate, form.updates)
    return start, second(form, new, replay, start, f"rewarm{replay:.0%}-lr{rate:g}", schedule=again)


def hold(form: Form, new: str, replay: float, rate: float, seed: int) -> tuple[RunConfig, ...]:
    """Returns the first phase, and a second that goes on at its last rate."""
    start = first(form, rate, seed)
    return start, second(form, new, replay, start, f"hold{replay:.0%}", schedule=Constant(peak_lr=FINAL * rate))


def infinite(form: Form, new: str, replay: float, rate: float, seed: int) -> tuple[RunConfig, ...]:
    """Returns a first phase that ends at a constant rate, and a second that goes on there and anneals at its end."""
    updates = form.updates
    start = run(form, f"infinite-lr{rate:g}-s{seed}", seed=seed, schedule=Infinite(
        peak_lr=rate, warmup=updates // 16, cooldown=round(COOLDOWN * updates), constant=PLATEAU))
    anneal = WSD(peak_lr=PLATEAU * rate, decay=round(ANNEAL * updates), shape="exponential", final=FINAL / PLATEAU)
    arm = f"infinite{replay:.0%}-lr{rate:g}"
    return start, second(form, new, replay, start, arm, schedule=anneal, optimizer="keep")


def second(form: Form, new: str, replay: float, start: RunConfig, arm: str, *, schedule: ScheduleConfig,
           optimizer: str = "reset") -> RunConfig:
    """Returns a run on the new text, with a share of replay, that starts with the parameters `start` ends with."""
    sources, weights = ((NEW[new], OLD), (1 - replay, replay)) if replay else ((NEW[new],), None)
    name = f"{new}-{arm.replace('%', '')}-s{start.seed}"
    return run(form, name, seed=start.seed, sources=sources, weights=weights, schedule=schedule,
               initial=Initial(run=start.folder, step=start.updates, optimizer=optimizer))


def cosine(rate: float, updates: int) -> Cosine:
    """Warm-up over a sixteenth of the run, then a cosine to a tenth."""
    return Cosine(peak_lr=rate, warmup=updates // 16, final=FINAL)


def run(form: Form, name: str, *, seed: int, schedule: ScheduleConfig, updates: int | None = None,
        sources: tuple[Source, ...] = (OLD,), weights: tuple[float, ...] | None = None,
        initial: Initial | None = None) -> RunConfig:
    """Returns a run, evaluated eight times a phase on every text of the study."""
    model = ModelConfig(vocabulary=256, sequence=quickstart.SEQUENCE, layers=2, width=form.width,
                        heads=form.width // quickstart.HEAD_SIZE, ff=2 * form.width, tied=True)
    texts = (OLD, *(NEW[new] for new in form.new))
    return RunConfig(
        name=name, seed=seed, updates=updates or form.updates, batch=quickstart.BATCH, model=model, schedule=schedule,
        data=DataConfig(sources=sources, weights=weights, sequence=quickstart.SEQUENCE, seed=seed), initial=initial,
        evaluation=EvalConfig(every=form.updates // 8, sequences=128, sources=texts))


Shifts = Callable[[Path], list[rows.Shift]]
Plan = Callable[[Path], tuple[RunConfig, ...]]


def _of_all(shifts: Shifts, runs: Callable[[rows.Shift], tuple[RunConfig, ...]]) -> Plan:
    return lambda root: tuple(run for shift in shifts(root) for run in runs(shift))


def _pushed(shifts: Shifts) -> Plan:
    return lambda root: tuple(run for shift in shifts(root) for run in shift.tuned.pushed(root))


def _replicates(shifts: Shifts) -> Plan:
    def plan(root: Path) -> tuple[RunConfig, ...]:
        found: list[RunConfig] = []
        for shift in shifts(root):
            found += shift.tuned.replicates(root)
            found += [run for arm in shift.held.arms.values() for seed in shift.held.seeds
                      for run in arm(shift.rate, seed)]
        return tuple(found)
    return plan
