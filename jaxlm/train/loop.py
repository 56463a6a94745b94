"""Trains one run: restores or starts it, drives the compiled step, keeps its record.

Everything that touches the host while a run trains stands here: files, clock, signals, progress.
"""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxlm import config as configs
from jaxlm import schedules
from jaxlm.train import agreement, hosts, start
from jaxlm.train import checkpoint as checkpoints
from jaxlm.train.batches import diagnosed_batches, heldout_batches, training_batches
from jaxlm.train.conditions import conditions, differing
from jaxlm.train.config import RunConfig
from jaxlm.train.mirrors import check_mirrors, open_mirrors
from jaxlm.train.rows import Chunk, Diverged, Progress, RowWriter
from jaxlm.train.start import Job, Outcome
from jaxlm.train.state import TrainState
from scaling import record
from scaling.errors import InputError
from scaling.record.files import folder as open_folder

_WRITING = threading.Lock()  # a process says its last words (`hosts.last_words`) in another thread


def train(
    config: RunConfig,
    root: str | Path,
    data_root: Path,
    *,
    checkpoint_root: str | Path | None = None,
    stop: Callable[[], str | None] = lambda: None,
    stop_at: int | None = None,
    wait: float = 0.0,
    mirrors: Sequence[str] = (),
    report: Callable[[Progress], None] = lambda progress: None,
    study: str = "",
) -> Outcome:
    """Trains `config` in `root/config.folder` until it ends, or goes on where it was.

    Args:
      config: the run.
      root: the folder that holds the runs of a study, the parent's among them.
      data_root: where prepared token arrays lie.
      checkpoint_root: the folder that holds the checkpoints of a study, a folder a run; `root` by default.
      stop: asked between chunks; a text (the signal's name) saves the state and ends the call.
      stop_at: the number of updates, exactly, after which the state is saved and the call ends.
      wait: seconds to wait for another process that holds the run.
      mirrors: of `jaxlm.train.mirrors.MIRRORS`, where rows are copied once they are on record.
      report: called after each chunk.
      study: the study's name, for the record.

    Returns:
      The outcome; its status is finished, diverged or preempted.

    Raises:
      ConfigError: a mistake in the configuration, a corpus or checkpoint that does not fit.
      OSError: records or checkpoints that cannot be written or read; the record says why, if it can.
    """
    configs.require(stop_at is None or 0 < stop_at <= config.updates, "stop_at", stop_at,
                    f"must lie in 1..updates = {config.updates}")
    check_mirrors(mirrors)
    root = open_folder(root)
    job = start.prepare(config, root, data_root, root if checkpoint_root is None else checkpoint_root, stop_at=stop_at)
    # Host 0 alone holds and writes the record; the others hear from it what they would have read there.
    with record.run_lock(job.folder, wait=wait) if hosts.is_first() else contextlib.nullcontext() as hold:
        done = _shared_outcome("ended", lambda: start.ended(job))
        if done is not None:
            return done
        if hold is not None:
            record.create(job.folder, start.identity(config, job.dataset, study, evaluated=job.evaluated), job.rates,
                          schedules.provenance(config.schedule, config.updates))
        status, mirrored = "failed", None
        try:
            with agreement.losing(), hosts.last_words(lambda line, code: _record_end(job, hold, line, code)):
                state, writer = _start_attempt(job, hold=hold, mirrors=mirrors, report=report)
                mirrored = writer.mirrors
                outcome = _finish_attempt(job, state, writer, stop=stop, stop_at=stop_at or config.updates)
            status = outcome.status
            return outcome
        except record.LeaseLost:
            raise  # the record is another process's now
        except BaseException as error:
            code = hosts.PREEMPTED if isinstance(error, KeyboardInterrupt) else getattr(error, "exit_code", 1)
            status = _record_end(job, hold, f"{type(error).__name__}: {error}", code)
            raise
        finally:
            if mirrored:
                mirrored.close(status)


def _shared_outcome(topic: str, make: Callable[[], Outcome | None]) -> Outcome | None:
    """Returns what `make` returns on host 0, on all hosts."""
    def fields() -> dict[str, Any] | None:
        outcome = make()
        return outcome and dataclasses.asdict(outcome)

    found = agreement.from_first(topic, fields)
    return found and Outcome(**found)


def _record_end(job: Job, hold: record.Hold | None, reason: str, code: int) -> str:
    """Returns the status of a run that did not end well, and on the host that writes records it.

    A run that has ended already stays as it is, and one that another process holds now.
    """
    status = "preempted" if code == hosts.PREEMPTED else "failed"
    if hold is not None:
        with contextlib.suppress(OSError, InputError), _WRITING:  # a full disk, say, which may be the reason
            hold.check()
            if record.summarise(job.folder).status["state"] not in ("finished", "diverged"):
                record.set_status(job.folder, status, reason=reason.splitlines()[0])
    return status


def _start_attempt(
    job: Job, *, hold: record.Hold | None, mirrors: Sequence[str], report: Callable[[Progress], None]
) -> tuple[TrainState, RowWriter]:
    """Restores or makes the state, records the start and tells what a person should know of it."""
    config, folder = job.config, job.folder
    start.check_shared(job.checkpoints)
    state, damaged = start.starting_state(job)
    measured = conditions(config.mesh.shape) | {
        "compiler_options": job.compiled.options, "first_step": int(state.step)}
    if damaged:
        measured["damaged_checkpoints"] = [{"step": step, "reason": why} for step, why in damaged.items()]

    def tell(note: str) -> None:
        report(Progress(step=measured["first_step"], updates=config.updates, loss=None, note=note))

    def begin() -> int:
        for note in _notes(job, measured):
            tell(note)
        with _WRITING:
            attempt = record.start_attempt(folder, measured)
        for step in damaged:  # once their loss is on record; a save of the same step needs the place
            checkpoints.set_aside(job.checkpoints, step)
        return attempt

    attempt = agreement.from_first("attempt", begin)
    mirrors = mirrors if hold is not None else ()
    return state, RowWriter(config=config, folder=folder, attempt=attempt, rates=job.rates, report=report, hold=hold,
                            mirrors=open_mirrors(mirrors, folder, config.identity, attempt, warn=tell))


def _finish_attempt(
    job: Job, state: TrainState, writer: RowWriter, *, stop: Callable[[], str | None], stop_at: int
) -> Outcome:
    """Trains to the end or a stop, saves the state and records how the run stands."""
    config, folder = job.config, job.folder
    with checkpoints.open_checkpoints(job.checkpoints, config.checkpoint) as manager:
        try:
            state, step, stopped = _drive(job, state, writer=writer, manager=manager, stop=stop, stop_at=stop_at)
        except Diverged as reason:
            writer.flush()
            outcome = Outcome(status="diverged", step=writer.next_step, reason=str(reason))
            return _shared_outcome("outcome", lambda: _recorded(folder, outcome))
        writer.flush()  # metrics up to step k are durable before checkpoint k
        checkpoints.save(manager, step, state, heldout_loss=writer.evaluated.get(step))
        checkpoints.finish(manager)
    if writer.hold is not None:
        writer.hold.check()
    if step < config.updates:
        outcome = Outcome(status="preempted", step=step, reason=stopped or f"stopped at update {step} as asked")
        return _shared_outcome("outcome", lambda: _recorded(folder, outcome))
    digest = checkpoints.params_digest(state.params)  # all hosts have parts of them
    return _shared_outcome("outcome", lambda: _finished(job, digest))


def _recorded(folder: Any, outcome: Outcome) -> Outcome:
    with _WRITING:
        record.set_status(folder, outcome.status, reason=outcome.reason)
    return outcome


def _finished(job: Job, params_digest: str) -> Outcome:
    """Records the result of a run that has made all its updates."""
    updates = job.config.updates
    loss = float(record.read(job.folder).metrics["heldout_loss"][-1])
    with _WRITING:
        record.set_status(job.folder, "finished", result={
            "updates": updates, "tokens": updates * job.config.tokens_per_update, "heldout_loss": loss,
            "params_digest": params_digest})
    return Outcome(status="finished", step=updates, heldout_loss=loss)


def _notes(job: Job, measured: dict[str, Any]) -> list[str]:
    """What a person should know of this start: damaged checkpoints, other conditions than before."""
    notes = [f"{entry['reason']}; going on from update {measured['first_step']}"
             for entry in measured.get("damaged_checkpoints", ())]
    # A branch goes on from its parent's conditions as a resumed run does from its own; so does a run from those of
    # its initial parameters.
    attempts = record.read(job.folder).attempts or (record.read(job.parent).attempts if job.parent else ())
    if (measured["first_step"] or job.config.initial) and attempts:
        notes += [f"resumed under other conditions, not bit for bit: {line}"
                  for line in differing(attempts[-1], measured)]
    return notes


def _drive(
    job: Job, state: TrainState, *, writer: RowWriter, manager: Any, stop: Callable[[], str | None], stop_at: int
) -> tuple[TrainState, int, str | None]:
    """Runs chunks up to the end or a stop; returns the state, the updates made and what stopped it."""
    config, dataset, compiled = job.config, job.dataset, job.compiled
    step, pending, heldout, stopped = int(state.step), None, None, None
    # On the mesh like the flag that each call returns: a host value would compile the step a second time.
    healthy = jax.device_put(True, NamedSharding(compiled.mesh, PartitionSpec()))
    seed, weight_decay = np.uint32(config.seed), np.float32(config.optimizer.weight_decay)
    while step < stop_at and not (stopped := agreement.agreed_stop(stop())):
        count = min(config.chunk, _next_event(config, step) - step, stop_at - step)
        batches = training_batches(config, dataset, compiled.mesh, step=step, count=count)
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
            kept = step in config.checkpoint.keep
            if _is_due(step, config.evaluation.every) or kept or step == config.updates:
                heldout = heldout or [heldout_batches(config, each, compiled.mesh)
                                      for each in (dataset, *job.evaluated)]
                evaluated = config.optimizer.eval_params(state.opt_state, state.params)
                writer.heldout(*(float(compiled.heldout_loss(evaluated, batches)) for batches in heldout))
            if _is_due(step, config.diagnostics.every):
                batches = diagnosed_batches(config, dataset, compiled.mesh, step=step)
                writer.diagnose(compiled.diagnose(state.params, *batches, np.int32(step), seed))
            if (_is_due(step, config.checkpoint.every) or kept) and step < config.updates:
                writer.flush()
                checkpoints.save(manager, step, state, heldout_loss=writer.evaluated.get(step))
    if pending is not None:
        writer.settle(pending)
    return state, step, stopped


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _next_event(config: RunConfig, step: int) -> int:
    """The first step after `step` at which the host evaluates, diagnoses, saves or ends."""
    events = [config.updates, *(keep for keep in config.checkpoint.keep if keep > step)]
    intervals = (config.evaluation.every, config.diagnostics.every, config.checkpoint.every)
    events += [(step // every + 1) * every for every in intervals if every]
    return min(events)
