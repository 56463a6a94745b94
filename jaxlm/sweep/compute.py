"""What runs cost: updates, tokens and FLOPs really spent, beside what a separate run per result would cost."""

import dataclasses
from collections.abc import Mapping, Sequence

from jaxlm import model
from jaxlm.train.config import RunConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spent:
    """Training compute: updates, predicted tokens, and FLOPs, forward and backward, of the model's matrices."""

    updates: int = 0
    tokens: int = 0
    flops: float = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(updates=self.updates + other.updates, tokens=self.tokens + other.tokens,
                     flops=self.flops + other.flops)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compute:
    """The account of some runs.

    Attributes:
      runs: what each run itself spends, by its folder; a branch begins at its parent's step.
      separate: what it would cost to train every result from scratch by a run of its own.
    """

    runs: Mapping[str, Spent]
    separate: Spent

    @property
    def total(self) -> Spent:
        """What all runs together spend."""
        return sum(self.runs.values(), Spent())

    @property
    def share(self) -> float:
        """The total as a share of separate runs, in FLOPs."""
        return self.total.flops / self.separate.flops


def spend(run: RunConfig, updates: int | None = None) -> Spent:
    """Returns the cost of `updates` updates of the run, by default of those that it makes itself."""
    if updates is None:
        updates = run.updates - (run.parent.step if run.parent else 0)
    tokens = updates * run.tokens_per_update
    per_token = sum(model.flops_per_token(run.model, run.data.sequence).values())
    return Spent(updates=updates, tokens=tokens, flops=float(per_token) * tokens)


def compute(runs: Sequence[RunConfig]) -> Compute:
    """Returns what the runs spend and what their results would cost separately.

    The results are the last update of every run that is no other's parent, and the steps in its
    `checkpoint.keep`, such as the ends of cycles. K budgets T_1 < ... < T_K with decays over a share d of each
    therefore cost, in updates: T_K + d (T_1 + ... + T_(K-1)) by branches of one trunk (warmup-stable-decay, Haegele et
    al. 2024, 2405.18392), T_K by one run of cycles (WSD-S, Wen et al. 2024, 2410.05192), T_1 + ... + T_K separately.
    """
    parents = {run.parent.run for run in runs if run.parent}
    results = [spend(run, end) for run in runs if run.folder not in parents
               for end in {*run.checkpoint.keep, run.updates}]
    return Compute(runs={run.folder: spend(run) for run in runs}, separate=sum(results, Spent()))
