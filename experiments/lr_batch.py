"""Where do published rules for learning rate and batch land on the byte model, and does an own law predict further?

A cell is one size on one budget of tokens. Each cell trains on a grid of rates and batches in factors of two that
grows until its best point lies strictly inside in both (batch 1 is a floor), and at every published rule's own rate
and batch; three seeds at and around the best and at the rules' points. Laws fitted to these cells then predict the
rate and batch of a larger cell, whose own grid starts at the prediction.

Tokens are equal within a cell, to half an update: a batch of B sequences makes D / (128 B) updates. Batches of rules
are rounded to 1, 2, 3, 4, 6, 8, 12, ... sequences. Warm-up over a sixteenth of the tokens, hold, a fifth of 1-sqrt
cooldown to zero: Step Law's own runs decay to a fixed 1e-5 instead. AdamW at the defaults, weight decay 0.1 among
them, at every batch.

    jaxlm study lr_batch              nine and a half minutes on two cores
    jaxlm study lr_batch_full         four times the tokens in the larger budget, the larger cell on 2.1
                                      million: 22 minutes
"""

import dataclasses
import functools
from pathlib import Path

import lr_batch_laws as laws
import lr_batch_report as report
import quickstart
from lr_batch_grid import Cell, Point

from jaxlm.model import flops_per_token, parameter_counts
from jaxlm.schedules import WSD
from jaxlm.sweep import Stage, Study
from jaxlm.train import RunConfig

QUESTION = "Where do rules for learning rate and batch land on small models, and does our own law predict a larger one?"
WARMUP, DECAY = 16, 5  # shares of the run, one over
FEWEST = 16  # updates that a run must have: bounds the batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Form:
    """How large a form of the study is.

    Attributes:
      name: of the study.
      widths, budgets: all pairs are cells that the laws are fitted to; budgets in tokens.
      target: width and tokens of the larger cell.
      first: middle of the first block of every cell.
      steps: stages in which grids may grow and gain seeds.
    """

    name: str
    widths: tuple[int, ...]
    budgets: tuple[int, ...]
    target: tuple[int, int]
    first: Point = Point(1.6e-2, 8)
    steps: int = 8


SHORT = Form(name="lr_batch", widths=(16, 32), budgets=(2**17, 2**18), target=(48, 2**19))
FULL = Form(name="lr_batch_full", widths=(16, 32), budgets=(2**18, 2**20), target=(48, 2**21))


def study(form: Form = SHORT) -> Study:
    """Returns the study."""
    cells = fitted(form)
    start = {run.folder: run for one in cells for run in one.wanted({})}  # two rules may name one point
    grow = [Stage(title=f"grids of the cells to fit, step {i + 1}", plan=functools.partial(grown, cells=cells))
            for i in range(form.steps)]
    predict = functools.partial(laws.predict, cells=cells, target=cell(*form.target))
    around = [Stage(title=f"the larger cell, step {i + 1}", plan=functools.partial(larger, form=form))
              for i in range(form.steps)]
    draw = functools.partial(report.draw, cells=cells, larger=functools.partial(predicted, form=form))
    return Study(name=form.name, question=QUESTION, stages=(
        Stage(title="3 x 3 points in every cell, and the rules' own", runs=tuple(start.values())), *grow[:-1],
        dataclasses.replace(grow[-1], then=predict), *around[:-1], dataclasses.replace(around[-1], then=draw)))


def fitted(form: Form) -> tuple[Cell, ...]:
    """Returns the cells that the laws are fitted to."""
    return tuple(cell(width, tokens, first=form.first) for width in form.widths for tokens in form.budgets)


def cell(width: int, tokens: int, *, first: Point | None = None, named: dict[str, Point] | None = None) -> Cell:
    """Returns a cell with the rules' points among its named ones; its grid starts at `first`, else at a rule's."""
    name = f"w{width}-d{tokens}"
    model = quickstart.base(name, width, seed=0, updates=FEWEST, schedule=WSD(peak_lr=1.0)).model
    flops = flops_per_token(model)
    top = tokens // (FEWEST * quickstart.SEQUENCE)
    size = {"N": parameter_counts(model).non_embedding, "D": tokens,
            "flops": flops["attention"] + flops["feed_forward"]}
    points = laws.points(laws.rules(**size), top=top) | (named or {})
    return Cell(name=name, width=width, **size, top=top, named=points, first=first or next(iter(points.values())),
                make=functools.partial(run, width, tokens))


def run(width: int, tokens: int, point: Point, seed: int) -> RunConfig:
    """Returns the run of one size on one budget at a rate, a batch and a seed."""
    updates = round(tokens / (point.batch * quickstart.SEQUENCE))
    schedule = WSD(peak_lr=point.rate, warmup=max(1, updates // WARMUP), decay=updates // DECAY)
    name = f"w{width}-d{tokens}-lr{point.rate:g}-b{point.batch}-s{seed}"
    return quickstart.base(name, width, seed=seed, updates=updates, schedule=schedule).replace(batch=point.batch)


def grown(root: Path, *, cells: tuple[Cell, ...]) -> tuple[RunConfig, ...]:
    """Returns the runs that the cells ask for next, none once the prediction rests on their records."""
    if laws.written(root):
        return ()
    return tuple(run for one in cells for run in one.wanted(one.read(root)))


def larger(root: Path, *, form: Form) -> tuple[RunConfig, ...]:
    """Returns the runs that the larger cell asks for next, at first those around its prediction."""
    one = predicted(root, form=form)
    return one.wanted(one.read(root))


def predicted(root: Path, *, form: Form) -> Cell:
    """Returns the larger cell, its grid about the prediction that is written in `root`."""
    own = laws.points(laws.read(root), top=form.target[1] // (FEWEST * quickstart.SEQUENCE))
    return cell(*form.target, first=next(iter(own.values())), named=own)
