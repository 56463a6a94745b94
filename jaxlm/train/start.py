"""What comes before the first update: checks, the identity of the record, and the state to start from."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from jaxlm import config as configs
from jaxlm import data, model, schedules
from jaxlm.train import checkpoint as checkpoints
from jaxlm.train.config import RunConfig
from jaxlm.train.state import TrainState, abstract_state, init_state
from jaxlm.train.step import CompiledStep, StepConfig, make_step
from scaling import record

# A branch goes on as its parent would have: these fields of the configuration must agree.
INHERITED = ("model", "data", "optimizer", "batch", "accumulation", "seed", "z_loss", "clip_norm")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a call of `train` ended: status as in the record, the last step, the held-out loss."""

    status: str
    step: int
    heldout_loss: float | None = None
    reason: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """A run that has passed its checks; nothing of it is written yet.

    Attributes:
      config: the run.
      dataset: its opened data.
      compiled: its step.
      folder: where its record lies.
      checkpoints: where its checkpoints lie, an `epath.Path`.
      parent: where the record of its parent lies, None without one.
      parent_checkpoints: where the parent's checkpoints lie.
      rates: [updates] float64, the learning rate of every update.
    """

    config: RunConfig
    dataset: Any
    compiled: CompiledStep
    folder: Path
    checkpoints: Any
    parent: Path | None
    parent_checkpoints: Any
    rates: np.ndarray


def prepare(config: RunConfig, root: Path, data_root: Path, checkpoint_root: Any) -> Job:
    """Checks corpus, parent, mesh and the place of checkpoints; raises `ConfigError` before anything is written."""
    own = checkpoints.checkpoint_folder(checkpoint_root, config.folder)
    dataset = data.open_dataset(config.data, data_root)
    _check_data(config, dataset)
    parent = _check_parent(config, root, dataset.digest)
    return Job(
        config=config, dataset=dataset, compiled=make_step(step_config(config)), folder=root / config.folder,
        checkpoints=own, parent=parent,
        parent_checkpoints=parent and checkpoints.checkpoint_folder(checkpoint_root, parent.name),
        rates=schedules.as_array(config.schedule.build(config.updates), config.updates))


def step_config(config: RunConfig) -> StepConfig:
    """Returns what the compiled step of a run depends on: rates, weight decay and seeds are not in it."""
    return StepConfig(
        model=config.model, optimizer=dataclasses.replace(config.optimizer, weight_decay=0.0),
        clip_norm=config.clip_norm, z_loss=config.z_loss, accumulation=config.accumulation, mesh=config.mesh,
        diagnostics=config.diagnostics.every > 0)


def identity(config: RunConfig, dataset: Any, study: str) -> dict[str, Any]:
    """Returns the part of run.json that never changes."""
    counts = model.parameter_counts(config.model)
    return {
        "name": config.folder,
        "study": study,
        "seed": config.seed,
        "parent": None if config.parent is None else configs.to_dict(config.parent),
        "config": config.identity,
        "config_hash": configs.config_hash(config.identity),
        "params": {"total": counts.total, "non_embedding": counts.non_embedding, "with_head": counts.with_head},
        "tokens_per_update": config.tokens_per_update,
        "flops_per_token": model.flops_per_token(config.model, config.data.sequence),
        "corpus": {"name": dataset.name, "digest": dataset.digest},
        "loss_unit": "nats/token",
        "bytes_per_token": dataset.bytes_per_token,
    }


def ended(job: Job) -> Outcome | None:
    """Returns the outcome of a run that has already ended; checks the corpus of one that has not."""
    if not (job.folder / "run.json").exists():
        return None
    run = record.read(job.folder)
    recorded, digest = run.identity["corpus"]["digest"], job.dataset.digest
    configs.require(recorded == digest, "corpus digest", digest,
                    f"run {job.folder.name} was recorded on {recorded}; its text has changed since")
    if run.state == "finished":
        return Outcome(status="finished", step=job.config.updates, heldout_loss=run.result["heldout_loss"])
    if run.state == "diverged":
        return Outcome(status="diverged", step=int(run.metrics["step"][-1]) + 1, reason=run.status["reason"])
    return None


def starting_state(job: Job) -> tuple[TrainState, dict[int, str]]:
    """The run's own newest checkpoint that can be read, else its parent's at the branch, else a fresh state.

    Returns also {step: why} of the run's newer checkpoints that are damaged. Raises `CheckpointError`
    where the parent's is damaged.
    """
    config, compiled = job.config, job.compiled
    target = abstract_state(config.model, compiled.tx, compiled.mesh)
    state, damaged = checkpoints.restore_newest(job.checkpoints, target)
    if state is None and config.parent is not None:
        steps = checkpoints.steps(job.parent_checkpoints)
        found = f"checkpoints at {steps}" if steps else "no checkpoints"
        configs.require(config.parent.step in steps, "parent.step", config.parent.step,
                        f"run {config.parent.run} has {found}; train it first")
        state = checkpoints.restore(job.parent_checkpoints, config.parent.step, target)
    if state is None:
        state = init_state(config.model, compiled.tx, mesh=compiled.mesh, seed=config.seed)
    return state, damaged


def _check_data(config: RunConfig, dataset: Any) -> None:
    configs.require(dataset.vocabulary <= config.model.vocabulary, "model.vocabulary", config.model.vocabulary,
                    f"must be at least the tokenizer's {dataset.vocabulary}")
    # Asked for at the first evaluation, which may be after the last update.
    configs.require(config.evaluation.sequences <= dataset.heldout_windows, "evaluation.sequences",
                    config.evaluation.sequences, f"the held-out split has {dataset.heldout_windows} windows of "
                    f"data.sequence = {config.data.sequence}")


def _check_parent(config: RunConfig, root: Path, digest: str) -> Path | None:
    """Returns the parent's folder after checking that this run may go on from it."""
    if config.parent is None:
        return None
    folder = root / config.parent.run
    configs.require((folder / "run.json").exists(), "parent.run", config.parent.run,
                    f"no such run in {root}; train it first")
    parent, own = record.read(folder).identity, config.identity
    for key in INHERITED:
        configs.require(parent["config"][key] == own[key], key, own[key],
                        f"must be the parent's, {parent['config'][key]!r}: {config.parent.run}")
    configs.require(parent["corpus"]["digest"] == digest, "corpus digest", digest,
                    f"the parent {config.parent.run} was trained on {parent['corpus']['digest']}")
    return folder
