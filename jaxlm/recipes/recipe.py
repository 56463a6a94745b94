"""The answer of `recommend`: numbers with their rules, and the way into a run's configuration."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxlm import config
from jaxlm.config import require
from jaxlm.model import ModelConfig
from jaxlm.optim import OptimizerConfig
from jaxlm.schedules import ScheduleConfig
from jaxlm.train import RunConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Value:
    """One number and what it rests on.

    Attributes:
      name, value, unit: what it is; batch in tokens, warm-up and decay in updates.
      rule, source: the rule's name; author, year and number.
      low, high: ends of its interval, None with the reason in `interval`.
      interval: what the interval covers, or why there is none.
      valid: what the rule was fitted on, by input; empty where that is not stated.
      in_range: "inside", how far outside, or in words where the rule holds.
      note: what a reader must know before using it.
    """

    name: str
    value: float
    unit: str
    rule: str
    source: str
    low: float | None = None
    high: float | None = None
    interval: str = "none: published constants without draws"
    valid: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    in_range: str = "not stated"
    note: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to set for a run.

    Attributes:
      model, tokens, sequence, optimizer: as asked.
      N, counting: the model's parameters as the rule of the rate counts them.
      batch: sequences of an update.
      updates: the most that `tokens` give.
      schedule: ready for a run of `updates`.
      values: peak rate, batch, warm-up, decay and, where the rule gives it, beta2.
      warnings: why one might distrust them.
    """

    model: ModelConfig
    tokens: float
    sequence: int
    optimizer: OptimizerConfig
    N: int
    counting: str
    batch: int
    updates: int
    schedule: ScheduleConfig
    values: tuple[Value, ...]
    warnings: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Value:
        """Returns the value called `name`; raises `KeyError` where there is none."""
        return {value.name: value for value in self.values}[name]

    @property
    def peak_lr(self) -> float:
        """The peak rate."""
        return float(self["peak rate"].value)

    def apply(self, run: RunConfig) -> RunConfig:
        """Returns `run` with the batch, updates, schedule and beta2 of the recipe.

        Raises `ConfigError` for a run of another model, sequence or optimizer than the recipe is for.
        """
        require(run.model == self.model, "run.model", run.name, "must be the model that the recipe is for")
        require(run.data.sequence == self.sequence, "run.data.sequence", run.data.sequence,
                f"must be the recipe's {self.sequence}")
        require(run.optimizer.kind == self.optimizer.kind, "run.optimizer", run.optimizer.kind,
                f"must be the recipe's {self.optimizer.kind}")
        optimizer = run.optimizer
        if any(value.name == "beta2" for value in self.values):
            optimizer = dataclasses.replace(optimizer, b2=self["beta2"].value)
        return run.replace(batch=self.batch, updates=self.updates, schedule=self.schedule, optimizer=optimizer)

    def table(self) -> str:
        """Returns the recipe as text: a line for each number, below it what it rests on; warnings first."""
        lines = [f"{self.N:,} {self.counting} parameters, {self.tokens:,.0f} tokens: {self.updates:,} updates of "
                 f"{self.batch:,} sequences of {self.sequence:,} tokens, schedule {self.schedule.kind}"]
        lines += [f"WARNING: {line}" for line in self.warnings]
        for value in self.values:
            number = f"{value.value:,.0f}" if value.unit else f"{value.value:.4g}"
            ends = "" if value.low is None or value.high is None else f"   [{value.low:.4g}, {value.high:.4g}]"
            lines += ["", f"{value.name:<10} {number}{' ' + value.unit if value.unit else ''}{ends}"]
            valid = "; ".join(f"{name} {low:.3g} to {high:.3g}" for name, (low, high) in value.valid.items())
            range_ = "; ".join(part for part in (f"fitted on {valid}" if valid else "", value.in_range) if part)
            lines += [f"  {title:<9} {text}" for title, text in (
                ("rule", value.rule), ("source", value.source), ("interval", value.interval), ("range", range_),
                ("note", value.note)) if text]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as JSON-ready data."""
        data = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        data |= {name: config.to_dict(data[name]) for name in ("model", "optimizer", "schedule")}
        data["values"] = [dataclasses.asdict(value) for value in self.values]
        return data | {"peak_lr": self.peak_lr, "warnings": list(self.warnings)}
