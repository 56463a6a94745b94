"""The configuration of one run."""

import dataclasses
import functools
from typing import Any, Literal

from jaxlm import config
from jaxlm.data.config import DataConfig, Source
from jaxlm.model.config import ComputeConfig, ModelConfig
from jaxlm.optim import AdamW, OptimizerConfig
from jaxlm.parallel import MeshConfig
from jaxlm.schedules import Constant, FromArray, ScheduleConfig, load_array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parent:
    """The checkpoint of another run from which a run starts.

    Attributes:
      run: the folder name of the parent, beside the run's own folder.
      step: the number of updates that the parent had made.
    """

    run: str
    step: int

    def __post_init__(self) -> None:
        config.require(self.step >= 1, "parent.step", self.step, "must be at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Initial:
    """The checkpoint of another run with whose parameters a run starts, to train on other data.

    A branch (`Parent`) goes on as its parent would have. This is a new run: it counts its updates from 0 and
    has data, a data order and a schedule of its own; only the model and the tokenizer must be the other run's.
    The parameters are those at which the other run was evaluated, such as the average of a schedule-free one.

    Attributes:
      run: the folder name of the other run, beside the run's own folder.
      step: the number of updates that it had made.
      optimizer: "reset" begins with a fresh optimizer state, as Ibrahim et al. 2024 (2403.08763) do between
        sets of data. "keep" takes the parameters and the state as they were trained; the optimizer and
        `clip_norm` must then be the other run's too.
    """

    run: str
    step: int
    optimizer: Literal["reset", "keep"] = "reset"

    def __post_init__(self) -> None:
        config.require(self.step >= 1, "initial.step", self.step, "must be at least 1")
        config.require(self.optimizer in ("reset", "keep"), "initial.optimizer", self.optimizer,
                       "must be 'reset' or 'keep'")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Evaluation on a fixed set of held-out sequences, the same for every run.

    Attributes:
      every: updates between evaluations; 0 for none between. The last update and the steps in
        `checkpoint.keep` are always evaluated.
      sequences: held-out sequences per evaluation, so that `sequences * model.sequence` tokens are
        the budget.
      sources: whose held-out losses are recorded apart, as many sequences of each, beside that of the
        run's own data: the column `source_losses` of the diagnostics, in this order. They need not be among
        the run's data.
    """

    every: int = 0
    sequences: int = 256
    sources: tuple[Source, ...] = ()

    def __post_init__(self) -> None:
        config.require(self.every >= 0, "evaluation.every", self.every, "must not be negative")
        config.require(self.sequences >= 1, "evaluation.sequences", self.sequences, "must be at least 1")
        config.require(len(set(self.sources)) == len(self.sources), "evaluation.sources", self.sources,
                       "must not repeat a source")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When to save parameters, optimizer state and step, and which checkpoints are kept.

    Attributes:
      every: updates between checkpoints; 0 saves after the last update only.
      latest: how many of the newest checkpoints are kept.
      keep_every: checkpoints at its multiples (updates made) are kept for good; 0 for none.
      best: how many of those with the lowest held-out loss are kept; a checkpoint that was not
        evaluated is none of them.
      keep: further steps (updates made) that are evaluated, saved and kept for good: results of their own,
        such as the ends of cycles, or where branches start.
    """

    every: int = 0
    latest: int = 2
    keep_every: int = 0
    best: int = 0
    keep: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        config.require(self.every >= 0, "checkpoint.every", self.every, "must not be negative")
        config.require(self.latest >= 1, "checkpoint.latest", self.latest, "must be at least 1")
        config.require(self.keep_every >= 0, "checkpoint.keep_every", self.keep_every, "must not be negative")
        config.require(self.best >= 0, "checkpoint.best", self.best, "must not be negative")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiagnosticsConfig:
    """When to measure what `jaxlm.train.diagnostics` lists, and on how much.

    Attributes:
      every: updates between rows; 0 for none, and a step that computes none of it. Each row ends a chunk.
        100 costs 0.7% of a step, with 4 micro-batches 1.2%, measured there.
      sequences: with accumulation 1, the sequences of the next batch whose gradients are taken one by
        one for the noise scale; 0 for none. More of them give a steadier estimate at the cost of
        1 / batch of a step each. With accumulation the micro-batches serve, at every update.
    """

    every: int = 0
    sequences: int = 4

    def __post_init__(self) -> None:
        config.require(self.every >= 0, "diagnostics.every", self.every, "must not be negative")
        config.require(self.sequences >= 0, "diagnostics.sequences", self.sequences, "must not be negative")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that determines a run; two runs of equal configuration have equal results.

    The mesh says where a run lies, not what it is: it is no part of the run's identity, so a run may go
    on over other devices (its results then agree to rounding, and a warning says so).

    Attributes:
      name: the readable part of the run's folder name.
      seed: of initialisation and dropout; the order of the data has its own, `data.seed`.
      updates: the length of the run, T.
      batch: sequences per update, over all devices and accumulation steps.
      accumulation: how many micro-batches make one update.
      z_loss: weight of the mean squared log-partition; 1e-4 is PaLM's (Wortsman et al. 2023,
        2309.14322), 0 turns it off.
      clip_norm: the largest global gradient norm that passes unscaled; None for no clipping. 1 as
        in Wortsman et al. 2023.
      chunk: the most updates per call of the compiled step; no result depends on it.
      parent: the checkpoint that the run branches off, None for no branch.
      initial: the checkpoint whose parameters a new run starts with, None for random ones.
    """

    name: str
    seed: int = 0
    updates: int
    batch: int
    accumulation: int = 1
    z_loss: float = 0.0
    clip_norm: float | None = 1.0
    chunk: int = 16
    model: ModelConfig
    data: DataConfig
    optimizer: OptimizerConfig = AdamW()
    schedule: ScheduleConfig = Constant(peak_lr=1e-3, warmup=0)
    evaluation: EvalConfig = EvalConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    diagnostics: DiagnosticsConfig = DiagnosticsConfig()
    mesh: MeshConfig = MeshConfig()
    parent: Parent | None = None
    initial: Initial | None = None

    def __post_init__(self) -> None:
        require = config.require
        safe = self.name and all(c.isalnum() or c in "-_.+" for c in self.name) and self.name[0] != "."
        require(bool(safe), "name", self.name, "must be letters, digits, '-', '_', '+' or '.', and not start with '.'")
        require(0 <= self.seed < 2**32, "seed", self.seed, "must lie in [0, 2^32)")
        require(self.updates >= 1, "updates", self.updates, "must be at least 1")
        require(self.batch >= 1, "batch", self.batch, "must be at least 1")
        require(self.accumulation >= 1, "accumulation", self.accumulation, "must be at least 1")
        require(self.chunk >= 1, "chunk", self.chunk, "must be at least 1")
        require(self.z_loss >= 0, "z_loss", self.z_loss, "must not be negative")
        require(self.clip_norm is None or self.clip_norm > 0, "clip_norm", self.clip_norm,
                "must be positive, or null for no clipping")
        require(self.batch % self.accumulation == 0, "batch", self.batch,
                f"must be divisible by accumulation = {self.accumulation}")
        shards = self.mesh.batch_shards
        divisible = f"must be divisible by mesh.replica * mesh.data * mesh.fsdp = {shards}"
        require(self.microbatch % shards == 0, "batch", self.batch,
                f"each of the {self.accumulation} micro-batches {divisible}")
        require(self.evaluation.sequences % shards == 0, "evaluation.sequences", self.evaluation.sequences,
                divisible)
        if self.diagnostics.every and self.accumulation == 1:
            require(self.diagnostics.sequences <= self.batch, "diagnostics.sequences", self.diagnostics.sequences,
                    f"must not exceed batch = {self.batch}")
            require(self.diagnostics.sequences % shards == 0, "diagnostics.sequences", self.diagnostics.sequences,
                    divisible)
        require(self.data.sequence <= self.model.sequence, "data.sequence", self.data.sequence,
                f"must not exceed model.sequence = {self.model.sequence}")
        require(self.data.sequence % self.mesh.sequence == 0, "data.sequence", self.data.sequence,
                f"must be divisible by mesh.sequence = {self.mesh.sequence}")
        require(all(0 < step <= self.updates for step in self.checkpoint.keep), "checkpoint.keep",
                self.checkpoint.keep, f"each step must lie in 1..updates = {self.updates}")
        saves, evaluates = self.checkpoint.every, self.evaluation.every
        require(not self.checkpoint.keep_every or (saves > 0 and self.checkpoint.keep_every % saves == 0),
                "checkpoint.keep_every", self.checkpoint.keep_every, f"must be a multiple of checkpoint.every = {saves}")
        require(not self.checkpoint.best or (saves > 0 and evaluates > 0 and saves % evaluates == 0),
                "checkpoint.best", self.checkpoint.best, f"each checkpoint must be evaluated: evaluation.every = "
                f"{evaluates} must divide checkpoint.every = {saves}, neither 0")
        require(self.parent is None or self.parent.step < self.updates, "parent.step",
                self.parent and self.parent.step, f"must be below updates = {self.updates}")
        require(self.parent is None or self.initial is None, "initial", self.initial,
                "must be null for a run with a parent: a run is a branch or a new one")
        # Raises where sources that are only evaluated do not go with the run's own.
        together = dict.fromkeys((*self.data.sources, *self.evaluation.sources))
        dataclasses.replace(self.data, sources=tuple(together), weights=None)
        self.schedule.build(self.updates)  # raises where warm-up or decay do not fit the run

    def replace(self, **fields: Any) -> "RunConfig":
        """Returns the configuration with `fields` replaced."""
        return dataclasses.replace(self, **fields)

    @property
    def microbatch(self) -> int:
        """Sequences per micro-batch."""
        return self.batch // self.accumulation

    @property
    def origin(self) -> Parent | Initial | None:
        """The checkpoint of another run that must be there before this one can start."""
        return self.parent or self.initial

    @property
    def tokens_per_update(self) -> int:
        """Predicted tokens per update."""
        return self.batch * self.data.sequence

    @property
    def identity(self) -> dict[str, Any]:
        """The configuration as a dict without the mesh: what the run is known and recorded by.

        Of a schedule from an array it holds the digest of the rates in place of the path, for a file that
        moves is the same schedule, and another one under the same name is not.
        """
        data = config.canonical(self)
        del data["mesh"]
        # These came later; left out where they say nothing, so that the runs of before keep their names.
        if self.initial is None:
            del data["initial"]
        if not self.evaluation.sources:
            del data["evaluation"]["sources"]
        for name in ("attention", "loss_chunks", "remat_policy"):
            if getattr(self.model.compute, name) == getattr(ComputeConfig, name):
                del data["model"]["compute"][name]
        if isinstance(self.schedule, FromArray):
            data["schedule"] = {"kind": FromArray.kind, "sha256": load_array(self.schedule.path).sha256}
        return data

    @functools.cached_property  # a study of a thousand runs asks for it thousands of times
    def folder(self) -> str:
        """The run's folder name: readable, with a hash of its identity."""
        return f"{self.name}-{config.config_hash(self.identity)}"
