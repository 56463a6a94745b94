"""Which optimizer goes furthest on the same tokens, at what cost in time and memory?

Nine optimizers train the byte model of one size. Each gets a learning-rate grid of its own in factors of two, which grows
until its best rate lies strictly inside it; then two more seeds at that rate. Everything else is equal: text, batch,
schedule (warm-up, hold, a fifth of 1-sqrt cooldown), clipping at norm 1, no weight decay (which would be one more thing to
tune for each). Refresh and reset periods, made for runs a hundred times longer, are scaled to the run.

    jaxlm study optimizers            about ten minutes on two cores
    jaxlm study optimizers_full       a larger model, four times the updates: 24 minutes
"""

import functools

import optimizers_report as report
import quickstart

from jaxlm import config
from jaxlm.data import DataConfig
from jaxlm.model import ModelConfig
from jaxlm.optim.registry import OPTIMIZERS, OptimizerConfig
from jaxlm.sweep import RateGrid, Study
from jaxlm.train import CheckpointConfig, EvalConfig, RunConfig

QUESTION = "Which optimizer goes furthest on the same tokens, at what cost in time and memory?"
FORMS = {False: (32, 256), True: (48, 1024)}  # width and updates
# The middle of each grid's three first rates; where it is wrong, the grid grows. AdamW's is the quick start's optimum
# for a model of this size; Lion's is smaller by the 3 to 10 times that its authors give (Chen et al. 2023, 2302.06675).
MIDDLE = {"adamw": 8e-3, "lion": 1e-3, "muon": 8e-3, "soap": 8e-3, "cosmos": 6.4e-2, "galore": 1.6e-2, "fira": 8e-3,
          "frugal": 4e-3, "spam": 8e-3}


def study(full: bool = False) -> Study:
    """Returns the study in its ten-minute or its full form."""
    grid = rates(full)
    return Study(name="optimizers_full" if full else "optimizers", question=QUESTION,
                 stages=grid.stages(then=functools.partial(report.draw, grid=grid)))


def rates(full: bool) -> RateGrid:
    """Returns the optimizers and their grids of rates."""
    arms = {kind: functools.partial(arm, kind, full) for kind in MIDDLE}
    return RateGrid(arms=arms, middle=MIDDLE)


def arm(kind: str, full: bool, rate: float, seed: int) -> tuple[RunConfig, ...]:
    """Returns the one run of an optimizer at a rate and a seed."""
    return (run(kind, rate=rate, seed=seed, full=full),)


def run(kind: str, *, rate: float, seed: int, full: bool) -> RunConfig:
    """Returns one run."""
    width, updates = FORMS[full]
    model = ModelConfig(vocabulary=256, sequence=quickstart.SEQUENCE, layers=2, width=width,
                        heads=width // quickstart.HEAD_SIZE, ff=2 * width, tied=True)
    return RunConfig(
        name=f"{kind}-lr{rate:g}-s{seed}", seed=seed, updates=updates, batch=quickstart.BATCH, model=model,
        data=DataConfig(sources=(quickstart.text(),), sequence=quickstart.SEQUENCE, seed=seed),
        optimizer=optimizer(kind, width, updates), schedule=quickstart.wsd(rate, updates),
        evaluation=EvalConfig(every=updates // 16, sequences=256), checkpoint=CheckpointConfig())


def optimizer(kind: str, width: int, updates: int) -> OptimizerConfig:
    """Returns the optimizer at its defaults, but for what depends on the model's width and the run's length."""
    rank, refresh = width // 4, updates // 16
    fields = {"galore": {"rank": rank, "refresh": refresh}, "fira": {"rank": rank, "refresh": refresh},
              "frugal": {"refresh": refresh}, "cosmos": {"rank": rank // 2},
              "spam": {"every": updates // 4, "warmup": updates // 16}}
    return config.from_dict(OPTIMIZERS[kind], {"weight_decay": 0.0} | fields.get(kind, {}), "optimizer")
