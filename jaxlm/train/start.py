"""What comes before the first update: checks, the identity of the record, and the state to start from."""

import dataclasses
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxlm import config as configs
from jaxlm import data, model, schedules
from jaxlm.optim import OptimizerConfig
from jaxlm.train import agreement, hosts, preflight
from jaxlm.train import checkpoint as checkpoints
from jaxlm.train.config import RunConfig
from jaxlm.train.hosts import HostsError
from jaxlm.train.state import TrainState, abstract_state, init_state, run_optimizer, start_from
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
      evaluated: the opened data of each of `evaluation.sources`.
      compiled: its step.
      folder: where its record lies.
      checkpoints: where its checkpoints lie, an `epath.Path`.
      parent: where the record lies of the run that it starts from, be it a branch or not; None without one.
      parent_checkpoints: where the checkpoints of that run lie.
      rates: [updates] float64, the learning rate of every update.
    """

    config: RunConfig
    dataset: Any
    evaluated: tuple[Any, ...]
    compiled: CompiledStep
    folder: Path
    checkpoints: Any
    parent: Path | None
    parent_checkpoints: Any
    rates: np.ndarray


def prepare(
    config: RunConfig, root: Path, data_root: Path, checkpoint_root: Any, *, stop_at: int | None = None
) -> Job:
    """Checks corpus, parent, mesh, the place of checkpoints, and that all hosts agree in what they will do.

    Raises `ConfigError` before anything is written, `HostsError` where hosts differ.
    """
    own = checkpoints.checkpoint_folder(checkpoint_root, config.folder)
    dataset = data.open_dataset(config.data, data_root)
    evaluated = tuple(data.open_dataset(dataclasses.replace(config.data, sources=(source,), weights=None), data_root)
                      for source in config.evaluation.sources)
    for each in (dataset, *evaluated):
        _check_data(config, each)
    rates = schedules.as_array(config.schedule.build(config.updates), config.updates)
    parent = (_check_initial(config, root) if config.initial
              else _check_parent(config, root, dataset.digest, rates=rates))
    preflight.preflight(config, (dataset, *evaluated), stop_at=stop_at)
    compiled = make_step(step_config(config))
    preflight.check_devices(compiled.mesh)
    return Job(
        config=config, dataset=dataset, evaluated=evaluated, compiled=compiled,
        folder=root / config.folder, checkpoints=own, parent=parent,
        parent_checkpoints=parent and checkpoints.checkpoint_folder(checkpoint_root, parent.name),
        rates=rates)


def step_config(config: RunConfig) -> StepConfig:
    """Returns what the compiled step of a run depends on: rates, weight decay and seeds are not in it."""
    return StepConfig(
        model=config.model, optimizer=dataclasses.replace(config.optimizer, weight_decay=0.0),
        clip_norm=config.clip_norm, z_loss=config.z_loss, accumulation=config.accumulation, mesh=config.mesh,
        diagnostics=config.diagnostics.every > 0)


def identity(config: RunConfig, dataset: Any, study: str, *, evaluated: Sequence[Any] = ()) -> dict[str, Any]:
    """Returns the part of run.json that never changes; `evaluated` are the datasets of `evaluation.sources`."""
    corpus = {"name": dataset.name, "digest": dataset.digest}
    if evaluated:
        corpus["evaluated"] = [{"name": each.name, "digest": each.digest} for each in evaluated]
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
        "corpus": corpus,
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


def check_shared(folder: Any) -> None:
    """Raises `HostsError` on all hosts unless they see the same checkpoints in the run's folder of them."""
    token, mark = uuid.uuid4().hex, folder.parent / "hosts"

    def write() -> str:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text(token)
        return token

    if hosts.team() is None:
        return
    token = agreement.from_first("token", write)
    shared = agreement.exchange("shared", mark.exists() and mark.read_text() == token)
    if hosts.is_first():
        mark.unlink()
    if not all(shared):
        hosts.end_together()
        raise HostsError(f"host {shared.index(False)} does not see the checkpoints of host 0 in {folder}; "
                         "--out or --checkpoints must be a folder that all hosts share")


def starting_state(job: Job) -> tuple[TrainState, dict[int, str]]:
    """The run's own newest checkpoint that can be read, else what `parent` or `initial` names, else a fresh state.

    Returns also {step: why} of the run's newer checkpoints that are damaged. Raises `CheckpointError`
    where the one named is damaged.
    """
    config, compiled = job.config, job.compiled
    target = abstract_state(config.model, compiled.tx, compiled.mesh)
    state, damaged = checkpoints.restore_newest(job.checkpoints, target)
    if state is None and config.parent is not None:
        state = _restore_origin(job, target)
    if state is None and config.initial is not None:
        state = _initial_state(job)
    if state is None:
        state = init_state(config.model, compiled.tx, mesh=compiled.mesh, seed=config.seed)
    return state, damaged


def _restore_origin(job: Job, target: TrainState) -> TrainState:
    """Returns the state that the run's parent, or the run of its initial parameters, had at the named step."""
    config, field = job.config, "parent" if job.config.parent else "initial"
    steps = checkpoints.steps(job.parent_checkpoints)
    found = f"checkpoints at {steps}" if steps else "no checkpoints"
    configs.require(config.origin.step in steps, f"{field}.step", config.origin.step,
                    f"run {config.origin.run} has {found}; train it first")
    return checkpoints.restore(job.parent_checkpoints, config.origin.step, target)


def _initial_state(job: Job) -> TrainState:
    """Returns the state of a new run that starts with another's parameters."""
    config, compiled = job.config, job.compiled
    other = record.read(job.parent).identity["config"]
    optimizer = dataclasses.replace(configs.from_dict(OptimizerConfig, other["optimizer"]), weight_decay=0.0)
    # The checkpoint has the state of the other run's optimizer, which may be another one.
    tx = run_optimizer(config.model, optimizer, other["clip_norm"])
    saved = _restore_origin(job, abstract_state(config.model, tx, compiled.mesh))
    if config.initial.optimizer == "keep":
        return saved._replace(step=jax.device_put(np.int32(0), saved.step.sharding))
    parameters = optimizer.eval_params(saved.opt_state, saved.params)
    return start_from(parameters, config.model, compiled.tx, mesh=compiled.mesh)


def _check_data(config: RunConfig, dataset: Any) -> None:
    configs.require(dataset.vocabulary <= config.model.vocabulary, "model.vocabulary", config.model.vocabulary,
                    f"must be at least the tokenizer's {dataset.vocabulary}")
    # Asked for at the first evaluation, which may be after the last update.
    configs.require(config.evaluation.sequences <= dataset.heldout_windows, "evaluation.sequences",
                    config.evaluation.sequences, f"the held-out split has {dataset.heldout_windows} windows of "
                    f"data.sequence = {config.data.sequence}")


def check_prefix(config: RunConfig, rates: np.ndarray, parent_rates: np.ndarray) -> None:
    """Raises `ConfigError` unless a branch has its parent's rates before the update at which it leaves.

    Otherwise its record, which has the rates from update 0 on, would not say how its parameters came about.

    Args:
      config: the branch.
      rates: [updates] its rates.
      parent_rates: [updates of the parent] those of the parent; all are compared as float32, as the step takes them.
    """
    step = min(config.parent.step, len(parent_rates))
    differing = np.flatnonzero(np.float32(rates[:step]) != np.float32(parent_rates[:step]))
    at = int(differing[0]) if differing.size else 0
    configs.require(not differing.size, "schedule", config.schedule.kind,
                    f"run {config.name} branches off {config.parent.run} after {step} updates and must have its rates "
                    f"until then; at update {at} the rate is {rates[at]:g}, the parent's {parent_rates[at]:g}")


def _check_parent(config: RunConfig, root: Path, digest: str, *, rates: np.ndarray) -> Path | None:
    """Returns the parent's folder after checking that this run may go on from it."""
    if config.parent is None:
        return None
    folder = root / config.parent.run
    configs.require((folder / "run.json").exists(), "parent.run", config.parent.run,
                    f"no such run in {root}; train it first")
    recorded = record.read(folder)
    parent, own = recorded.identity, config.identity
    for key in INHERITED:
        configs.require(parent["config"][key] == own[key], key, own[key],
                        f"must be the parent's, {parent['config'][key]!r}: {config.parent.run}")
    configs.require(parent["corpus"]["digest"] == digest, "corpus digest", digest,
                    f"the parent {config.parent.run} was trained on {parent['corpus']['digest']}")
    check_prefix(config, rates, recorded.schedule)
    return folder


def _check_initial(config: RunConfig, root: Path) -> Path:
    """Returns the folder of the run whose parameters this one starts with, after checking that they fit."""
    folder = root / config.initial.run
    configs.require((folder / "run.json").exists(), "initial.run", config.initial.run,
                    f"no such run in {root}; train it first")
    other, own = record.read(folder).identity["config"], config.identity
    kept = ("optimizer", "clip_norm") if config.initial.optimizer == "keep" else ()
    same = {key: (own[key], other[key]) for key in ("model", *kept)}
    same["data.tokenizer"] = own["data"]["tokenizer"], other["data"]["tokenizer"]
    for key, (value, theirs) in same.items():
        configs.require(value == theirs, key, value, f"must be that of {config.initial.run}, {theirs!r}, "
                        "whose checkpoint the run starts from")
    return folder
