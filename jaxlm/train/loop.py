"""Trains one run: restores or starts it, drives the compiled step, keeps its record.

Everything that touches the host stands here: files, clock, signals, progress.
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxlm import config as configs
from jaxlm import data, model, schedules
from jaxlm.train import checkpoint as checkpoints
from jaxlm.train.conditions import conditions, differing
from jaxlm.train.config import RunConfig
from jaxlm.train.lock import run_lock
from jaxlm.train.rows import Chunk, Diverged, Progress, RowWriter
from jaxlm.train.state import TrainState, abstract_state, init_state
from jaxlm.train.step import CompiledStep, StepConfig, make_step
from scaling import record


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a call of `train` ended: status as in the record, the last step, the held-out loss."""

    status: str
    step: int
    heldout_loss: float | None = None
    reason: str | None = None


def train(
    config: RunConfig,
    root: Path,
    data_root: Path,
    *,
    stop: Callable[[], str | None] = lambda: None,
    report: Callable[[Progress], None] = lambda progress: None,
    study: str = "",
) -> Outcome:
    """Trains `config` in `root/config.folder` until it ends, or goes on where it was.

    Args:
      config: the run.
      root: the folder that holds the runs of a study, the parent's among them.
      data_root: where prepared token arrays lie.
      stop: asked between chunks; a text (the signal's name) saves the state and ends the call.
      report: called after each chunk.
      study: the study's name, for the record.

    Returns:
      The outcome; its status is finished, diverged or preempted.

    Raises:
      ConfigError: a mistake in the configuration, a corpus or checkpoint that does not fit.
    """
    root, folder = Path(root), Path(root) / config.folder
    # Corpus, parent and mesh are checked before anything of the run is written.
    dataset = data.open_dataset(config.data, data_root)
    _check_data(config, dataset)
    parent = _check_parent(config, root, dataset.digest)
    compiled = make_step(step_config(config))
    with run_lock(folder):
        if (folder / "run.json").exists():
            done = _existing(config, folder, dataset.digest)
            if done is not None:
                return done
        rates = schedules.as_array(config.schedule.build(config.updates), config.updates)
        record.create(folder, identity(config, dataset, study), rates,
                      schedules.provenance(config.schedule, config.updates))
        try:
            return _train_locked(config, compiled, folder, parent=parent, dataset=dataset, rates=rates,
                                 stop=stop, report=report)
        except BaseException as error:
            state = "preempted" if isinstance(error, KeyboardInterrupt) else "failed"
            record.set_status(folder, state, reason=f"{type(error).__name__}: {error}".splitlines()[0])
            raise


def identity(config: RunConfig, dataset: Any, study: str) -> dict[str, Any]:
    """Returns the part of run.json that never changes."""
    counts = model.parameter_counts(config.model)
    return {
        "name": config.folder,
        "study": study,
        "seed": config.seed,
        "parent": None if config.parent is None else configs.to_dict(config.parent),
        "config": configs.to_dict(config),
        "config_hash": configs.config_hash(config),
        "params": {"total": counts.total, "non_embedding": counts.non_embedding, "with_head": counts.with_head},
        "tokens_per_update": config.tokens_per_update,
        "flops_per_token": model.flops_per_token(config.model, config.data.sequence),
        "corpus": {"name": dataset.name, "digest": dataset.digest},
        "loss_unit": "nats/token",
        "bytes_per_token": dataset.bytes_per_token,
    }


def _check_data(config: RunConfig, dataset: Any) -> None:
    configs.require(dataset.vocabulary <= config.model.vocabulary, "model.vocabulary", config.model.vocabulary,
                    f"must be at least the tokenizer's {dataset.vocabulary}")
    # Asked for at the first evaluation, which may be after the last update.
    configs.require(config.evaluation.sequences <= dataset.heldout_windows, "evaluation.sequences",
                    config.evaluation.sequences, f"the held-out split has {dataset.heldout_windows} windows of "
                    f"data.sequence = {config.data.sequence}")


def _existing(config: RunConfig, folder: Path, digest: str) -> Outcome | None:
    """Returns the outcome of a run that has already ended; checks the corpus of one that has not."""
    run = record.read(folder)
    recorded = run.identity["corpus"]["digest"]
    configs.require(recorded == digest, "corpus digest", digest,
                    f"run {folder.name} was recorded on {recorded}; its text has changed since")
    if run.status["state"] == "finished":
        return Outcome(status="finished", step=config.updates, heldout_loss=run.status["result"]["heldout_loss"])
    if run.status["state"] == "diverged":
        return Outcome(status="diverged", step=int(run.metrics["step"][-1]) + 1, reason=run.status["reason"])
    return None


def _check_parent(config: RunConfig, root: Path, digest: str) -> Path | None:
    """Returns the parent's folder after checking that this run may go on from it."""
    if config.parent is None:
        return None
    folder = root / config.parent.run
    configs.require((folder / "run.json").exists(), "parent.run", config.parent.run,
                    f"no such run in {root}; train it first")
    parent = record.read(folder).identity
    own = configs.to_dict(config)
    for key in ("model", "data", "optimizer", "batch", "accumulation", "seed", "z_loss", "clip_norm"):
        configs.require(parent["config"][key] == own[key], key, own[key],
                        f"must be the parent's, {parent['config'][key]!r}: {config.parent.run}")
    configs.require(parent["corpus"]["digest"] == digest, "corpus digest", digest,
                    f"the parent {config.parent.run} was trained on {parent['corpus']['digest']}")
    return folder


def _train_locked(
    config: RunConfig, compiled: CompiledStep, folder: Path, *, parent: Path | None, dataset: Any, rates: np.ndarray,
    stop: Callable[[], str | None], report: Callable[[Progress], None],
) -> Outcome:
    state = _starting_state(config, compiled, folder, parent)
    start = int(state.step)
    measured = conditions(config.mesh.shape)
    # A branch goes on from its parent's conditions as a resumed run does from its own.
    attempts = record.read(folder).attempts or (record.read(parent).attempts if parent else ())
    if start and attempts:
        for line in differing(attempts[-1], measured):
            report(Progress(step=start, updates=config.updates, loss=None,
                            note=f"resumed under other conditions, not bit for bit: {line}"))
    attempt = record.start_attempt(folder, measured | {"first_step": start})
    writer = RowWriter(config=config, folder=folder, attempt=attempt, rates=rates, report=report)
    with checkpoints.open_checkpoints(folder, config.checkpoint) as manager:
        try:
            state, step, stopped = _drive(config, compiled, state, dataset=dataset, writer=writer,
                                 manager=manager, stop=stop)
        except Diverged as reason:
            writer.flush()
            record.set_status(folder, "diverged", reason=str(reason))
            return Outcome(status="diverged", step=writer.next_step, reason=str(reason))
        writer.flush()  # metrics up to step k are durable before checkpoint k
        checkpoints.save(manager, step, state)
        manager.wait_until_finished()
    if step < config.updates:
        record.set_status(folder, "preempted", reason=stopped)
        return Outcome(status="preempted", step=step, reason=stopped)
    loss = float(record.read(folder).metrics["heldout_loss"][-1])
    record.set_status(folder, "finished", result={
        "updates": step, "tokens": step * config.tokens_per_update, "heldout_loss": loss,
        "params_digest": checkpoints.params_digest(state.params)})
    return Outcome(status="finished", step=step, heldout_loss=loss)


def step_config(config: RunConfig) -> StepConfig:
    """Returns what the compiled step of a run depends on: rates, weight decay and seeds are not in it."""
    return StepConfig(
        model=config.model, optimizer=dataclasses.replace(config.optimizer, weight_decay=0.0),
        clip_norm=config.clip_norm, z_loss=config.z_loss, accumulation=config.accumulation, mesh=config.mesh)


def _starting_state(config: RunConfig, compiled: CompiledStep, folder: Path, parent: Path | None) -> TrainState:
    """The run's own newest checkpoint, else its parent's at the branch, else a fresh state."""
    target = abstract_state(config.model, compiled.tx, compiled.mesh)
    state = checkpoints.restore(folder, None, target)
    if state is None and parent is not None:
        state = checkpoints.restore(parent, config.parent.step, target)
    if state is None:
        state = init_state(config.model, compiled.tx, mesh=compiled.mesh, seed=config.seed)
    return state


def _drive(
    config: RunConfig, compiled: CompiledStep, state: TrainState, *, dataset: Any, writer: RowWriter,
    manager: Any, stop: Callable[[], str | None],
) -> tuple[TrainState, int, str | None]:
    """Runs chunks up to the end or a stop; returns the state, the updates made and what stopped it."""
    step, pending, heldout, stopped = int(state.step), None, None, None
    # On the mesh like the flag that each call returns: a host value would compile the step a second time.
    healthy = jax.device_put(True, NamedSharding(compiled.mesh, PartitionSpec()))
    seed, weight_decay = np.uint32(config.seed), np.float32(config.optimizer.weight_decay)
    while step < config.updates and not (stopped := stop()):
        count = min(config.chunk, _next_event(config, step) - step)
        batches = _batches(config, dataset, step, count)
        lrs = np.zeros(config.chunk, np.float32)
        lrs[:count] = writer.rates[step:step + count]
        started = time.perf_counter()
        state, healthy, made, metrics = compiled.run_chunk(
            state, healthy, batches, lrs, np.int32(count), weight_decay, seed)
        if pending is not None:
            writer.settle(pending)
        pending = Chunk(first=step, count=count, made=made, healthy=healthy, metrics=metrics, started=started)
        step += count
        if step == _next_event(config, step - 1):
            writer.settle(pending)
            pending = None
            if _is_due(step, config.evaluation.every) or step == config.updates:
                heldout = _heldout_batches(config, dataset) if heldout is None else heldout
                writer.heldout(float(compiled.heldout_loss(state.params, heldout)))
            if (_is_due(step, config.checkpoint.every) or step in config.checkpoint.keep) and step < config.updates:
                writer.flush()
                checkpoints.save(manager, step, state)
    if pending is not None:
        writer.settle(pending)
    return state, step, stopped


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _next_event(config: RunConfig, step: int) -> int:
    """The first step after `step` at which the host evaluates, saves or ends."""
    events = [config.updates, *(keep for keep in config.checkpoint.keep if keep > step)]
    events += [(step // every + 1) * every for every in (config.evaluation.every, config.checkpoint.every) if every]
    return min(events)


def _batches(config: RunConfig, dataset: Any, step: int, count: int) -> np.ndarray:
    """Batches step..step+count-1 as [K, A, B, T + 1], K = config.chunk, the rest zeros."""
    shape = (config.chunk, config.accumulation, config.microbatch, config.data.sequence + 1)
    batches = np.zeros(shape, np.int32)
    for i in range(count):
        batches[i] = dataset.batch(step + i, config.batch).reshape(shape[1:])
    return batches


def _heldout_batches(config: RunConfig, dataset: Any) -> np.ndarray:
    """The fixed held-out sequences as [M, B, T + 1] with B the largest divisor up to the micro-batch."""
    sequences = dataset.heldout(config.evaluation.sequences)
    shards = config.mesh.batch_shards
    size = max(b for b in range(shards, max(config.microbatch, shards) + 1, shards) if len(sequences) % b == 0)
    return sequences.reshape(-1, size, sequences.shape[1])
