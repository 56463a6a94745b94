"""What a study will cost, before anything trains: FLOPs, tokens, bytes of state, and time at a given speed."""

import dataclasses
import functools
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm import model
from jaxlm.model.config import ModelConfig
from jaxlm.optim import OptimizerConfig, make_optimizer
from jaxlm.optim.memory import state_bytes
from jaxlm.sweep.compute import spend
from jaxlm.sweep.pending import recorded_states
from jaxlm.train.config import RunConfig
from scaling import record
from scaling.record import files


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """What one run takes, by formula.

    Attributes:
      parameters: N, the embedding included.
      updates: those that the run makes itself; a branch begins at its parent's step.
      tokens: of these updates.
      flops: forward and backward of the model's matrices over these tokens, evaluation and optimizer apart.
      state_bytes: parameters and optimizer state in float32, as a checkpoint holds them. Gradients, activations and
        buffers come on top: `jaxlm plan` asks the compiler for them.
    """

    parameters: int
    updates: int
    tokens: int
    flops: float
    state_bytes: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Speed:
    """Model FLOPs per second that runs were measured at.

    Attributes:
      given: at which every run is taken to train; None for by `measured`.
      measured: by FLOPs per token of the runs that it was measured on, the median.
      threads: CPU threads of one run, for core-hours.
      source: in words.
    """

    given: float | None = None
    measured: Mapping[int, float] = dataclasses.field(default_factory=dict)
    threads: int = 1
    source: str = ""

    def seconds(self, run: RunConfig) -> float | None:
        """Returns the time of a run: at the speed of its own shape, else of that nearest in FLOPs per token."""
        if self.given is None and not self.measured:
            return None
        per_token = _flops_per_token(run)
        nearest = min(self.measured, key=lambda other: abs(other - per_token), default=None)
        return spend(run).flops / (self.given or self.measured[nearest])


def estimate(run: RunConfig) -> Estimate:
    """Returns what `run` takes; nothing is allocated or compiled."""
    spent = spend(run)
    parameters = model.parameter_counts(run.model).total
    optimizer = dataclasses.replace(run.optimizer, weight_decay=0.0)  # so that runs of one shape are counted once
    return Estimate(
        parameters=parameters, updates=spent.updates, tokens=spent.tokens, flops=spent.flops,
        state_bytes=4 * parameters + _optimizer_bytes(run.model, optimizer, run.clip_norm))


def measured_speed(root: Path, runs: Iterable[RunConfig]) -> Speed:
    """Returns the speeds at which the recorded ones of `runs` trained on this machine, without compilation.

    A row's seconds are the wall time of its call divided by its updates. The first call of a start compiled, and is
    left out where others are on record.
    """
    by_folder = {run.folder: run for run in runs}
    states = recorded_states(root, by_folder)
    found: dict[int, list[float]] = {}
    threads, here = 1, platform.node()
    for name in [name for name, state in states.items() if state == "finished"]:
        recorded = record.read(root / name)
        seconds = _compiled_seconds(recorded, by_folder[name].chunk)
        if recorded.attempts[-1].get("host") != here or not (seconds > 0).any():
            continue
        per_token = _flops_per_token(by_folder[name])
        middle = statistics.median(seconds[seconds > 0].tolist())
        found.setdefault(per_token, []).append(per_token * recorded.batch_tokens / middle)
        threads = recorded.attempts[-1].get("cpu_threads", 1)
    count = sum(map(len, found.values()))
    measured = {key: statistics.median(values) for key, values in found.items()}
    return Speed(measured=measured, threads=threads,
                 source=f"as {count} finished run{'s' * (count > 1)} of this study trained on this machine")


def total(estimates: Sequence[Estimate]) -> Estimate:
    """Returns the sums of updates, tokens and FLOPs, and the largest parameters and bytes of state."""
    return Estimate(
        parameters=max((each.parameters for each in estimates), default=0),
        updates=sum(each.updates for each in estimates), tokens=sum(each.tokens for each in estimates),
        flops=sum(each.flops for each in estimates),
        state_bytes=max((each.state_bytes for each in estimates), default=0))


def _compiled_seconds(run: record.Run, chunk: int) -> np.ndarray:
    """The seconds of the updates behind the first `chunk` of every start; of all updates where there are none."""
    named = [name.removesuffix(".jsonl").split("-") for name in files.names(run.folder / "metrics")]
    firsts: dict[str, int] = {}
    for attempt, first in (each for each in named if len(each) == 2 and each[1].isdecimal()):
        firsts[attempt] = min(int(first), firsts.get(attempt, int(first)))
    step, seconds = run.metrics["step"], run.metrics["seconds"]
    later = np.all([(step < first) | (step >= first + chunk) for first in firsts.values()], axis=0)
    return seconds[later] if later.any() else seconds


def _flops_per_token(run: RunConfig) -> int:
    return sum(model.flops_per_token(run.model, run.data.sequence).values())


@functools.lru_cache(maxsize=1024)
def _optimizer_bytes(config: ModelConfig, optimizer: OptimizerConfig, clip_norm: float | None) -> int:
    infos = model.param_infos(config)
    shapes: Any = jax.tree.map(lambda info: jax.ShapeDtypeStruct(info.shape, jnp.float32), infos)
    return state_bytes(make_optimizer(optimizer, infos, clip_norm=clip_norm), shapes).total
