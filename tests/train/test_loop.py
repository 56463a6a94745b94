"""The loop: a complete record, and a result that does not depend on how often a run was interrupted."""

import dataclasses
import json
import math

import jax
import numpy as np
import pytest
from tiny_run import MODEL, RUN, UPDATES

from jaxlm import config as configs
from jaxlm import data, model, schedules
from jaxlm.schedules import WSD, FromArray
from jaxlm.train import CheckpointConfig, EvalConfig, Parent, rows, train
from jaxlm.train import checkpoint as checkpoints
from jaxlm.train.start import step_config
from jaxlm.train.state import abstract_state
from jaxlm.train.step import make_step
from scaling import record

EVALUATED = [4, 6, 13, 20, 23]  # every 7 updates, the one kept for good, and the last
KEPT = [5, 18, 24]  # one for good, the newest of every 9, and the last


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def done(tmp_path_factory, data_root):
    """(root, outcome, progress) of RUN, trained without interruption; nobody writes there later."""
    root, seen = tmp_path_factory.mktemp("runs"), []
    outcome = train(RUN, root, data_root, report=seen.append, study="tests")
    return root, outcome, seen


def read(root, config=RUN):
    return record.read(root / config.folder)


def checkpoint_steps(root, config=RUN):
    return sorted(int(path.name) for path in (root / config.folder / "checkpoints").glob("[0-9]*"))


class StopAfter:
    """Asks for a stop once, after so many chunks."""

    def __init__(self, chunks):
        self.left = chunks

    def __call__(self):
        self.left -= 1
        return "SIGTERM" if self.left < 0 else None


# A finished run.

def test_outcome_of_a_finished_run(done):
    root, outcome, _ = done
    loss = read(root).result["heldout_loss"]
    assert (outcome.status, outcome.step, outcome.heldout_loss, outcome.reason) == ("finished", UPDATES, loss, None)


def test_every_update_has_a_row(done):
    metrics = read(done[0]).metrics
    np.testing.assert_array_equal(metrics["step"], np.arange(UPDATES))
    np.testing.assert_array_equal(metrics["tokens"], (np.arange(UPDATES) + 1) * RUN.tokens_per_update)
    measured = [metrics[name] for name in ("train_loss", "grad_l2", "grad_l1", "update_rms", "param_rms", "seconds")]
    assert np.isfinite(measured).all() and (np.array(measured) > 0).all()


def test_heldout_loss_stands_where_it_was_evaluated(done):
    run = read(done[0])
    np.testing.assert_array_equal(np.flatnonzero(~np.isnan(run.metrics["heldout_loss"])), EVALUATED)
    assert run.metrics["heldout_loss"][-1] == run.result["heldout_loss"]


def test_schedule_is_recorded_with_its_provenance(done):
    run = read(done[0])
    np.testing.assert_array_equal(run.schedule, schedules.as_array(RUN.schedule.build(UPDATES), UPDATES))
    np.testing.assert_array_equal(run.schedule, run.metrics["lr"])
    assert run.provenance == schedules.provenance(RUN.schedule, UPDATES)


def test_identity_tells_what_was_run(done, data_root):
    identity, dataset = read(done[0]).identity, data.open_dataset(RUN.data, data_root)
    assert configs.from_dict(type(RUN), identity["config"]) == RUN
    assert identity["params"]["total"] == model.parameter_counts(MODEL).total
    assert identity["corpus"] == {"name": dataset.name, "digest": dataset.digest}
    assert (identity["study"], identity["seed"], identity["parent"]) == ("tests", RUN.seed, None)


def test_result_digest_is_of_the_last_checkpoint(done):
    root, compiled = done[0], make_step(step_config(RUN))
    place = checkpoints.checkpoint_folder(root, RUN.folder)
    state = checkpoints.restore(place, UPDATES, abstract_state(MODEL, compiled.tx, compiled.mesh))
    assert read(root).result == {
        "updates": UPDATES, "tokens": UPDATES * RUN.tokens_per_update, "heldout_loss": done[1].heldout_loss,
        "params_digest": checkpoints.params_digest(state.params)}
    assert int(state.step) == UPDATES


def test_checkpoints_that_are_kept(done):
    assert checkpoint_steps(done[0]) == KEPT


def test_attempt_names_the_conditions_of_exactness(done):
    (attempt,) = read(done[0]).attempts
    wanted = {"versions", "revision", "host", "jaxlib", "processor", "devices", "cpu_threads", "mesh", "first_step"}
    assert wanted <= set(attempt) and attempt["first_step"] == 0


def test_progress_is_reported_chunk_by_chunk(done):
    steps = [progress.step for progress in done[2]]
    assert steps == sorted(steps) and steps[-1] == UPDATES and len(set(steps)) >= UPDATES / RUN.chunk
    assert all(progress.note is None and math.isfinite(progress.loss) for progress in done[2])


def test_the_run_crosses_an_epoch(data_root):
    # Two thirds of the examples come from the first source.
    windows = data.open_dataset(RUN.data, data_root).train_windows / 2
    assert UPDATES * RUN.batch * 2 / 3 > windows


def test_a_finished_run_is_not_trained_again(done, data_root):
    root, outcome, _ = done
    again = train(RUN, root, data_root, report=lambda progress: pytest.fail("it trained"), study="tests")
    assert again == outcome and len(read(root).attempts) == 1


# Interrupted runs.

@pytest.mark.parametrize("chunks", [(0,), (1,), (3, 2), (5, 1, 1)], ids=str)
def test_stopped_and_resumed_equals_uninterrupted(done, data_root, tmp_path, chunks):
    steps, seen = [], []
    for count in chunks:
        outcome = train(RUN, tmp_path, data_root, stop=StopAfter(count), report=seen.append, study="tests")
        assert (outcome.status, outcome.reason) == ("preempted", "SIGTERM")
        assert read(tmp_path).status == {"state": "preempted", "reason": "SIGTERM", "result": None}
        assert checkpoint_steps(tmp_path)[-1] == outcome.step
        steps.append(outcome.step)
    train(RUN, tmp_path, data_root, report=seen.append, study="tests")
    run = read(tmp_path)
    assert record.equal(run, read(done[0])) == [] and run.notes == ()
    assert [attempt["first_step"] for attempt in run.attempts] == [0, *steps]
    assert not [progress.note for progress in seen if progress.note]


def test_stops_fall_between_checkpoints_and_chunks(data_root, tmp_path):
    # So that the test above does not only resume where the loop would have saved anyway.
    step = train(RUN, tmp_path, data_root, stop=StopAfter(3)).step
    assert step % RUN.chunk and step % RUN.checkpoint.every and step not in RUN.checkpoint.keep


@pytest.mark.parametrize(("error", "state"), [(RuntimeError, "failed"), (KeyboardInterrupt, "preempted")])
def test_killed_in_the_middle_goes_on_from_the_last_checkpoint(done, data_root, tmp_path, error, state):
    def report(progress):
        if progress.step >= 14:
            raise error("power cut")

    with pytest.raises(error):
        train(RUN, tmp_path, data_root, report=report, study="tests")
    assert read(tmp_path).status == {"state": state, "reason": f"{error.__name__}: power cut", "result": None}
    train(RUN, tmp_path, data_root, study="tests")
    run = read(tmp_path)
    assert record.equal(run, read(done[0])) == [] and run.notes == ()
    assert [attempt["first_step"] for attempt in run.attempts] == [0, 9]


def test_rows_reach_the_disk_between_checkpoints_once_they_have_waited(done, data_root, tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "FLUSH_SECONDS", 0.0)
    train(RUN, tmp_path, data_root, study="tests")
    segments = [len(list((root / RUN.folder / "metrics").iterdir())) for root in (done[0], tmp_path)]
    assert segments[1] > segments[0]
    assert record.equal(read(done[0]), read(tmp_path)) == []


def test_rows_that_are_redone_have_the_same_values(done, data_root, tmp_path, monkeypatch):
    save = checkpoints.save

    def broken(manager, step, state, **metrics):
        if step > 9:
            raise OSError("disk full")
        save(manager, step, state, **metrics)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", broken)
        with pytest.raises(OSError, match="disk full"):
            train(RUN, tmp_path, data_root, study="tests")
    # The metrics of updates 9 to 17 were durable before their checkpoint failed.
    assert read(tmp_path).metrics["step"][-1] == 17
    train(RUN, tmp_path, data_root, study="tests")
    run = read(tmp_path)
    assert [attempt["first_step"] for attempt in run.attempts] == [0, 9]
    assert run.notes == () and record.equal(run, read(done[0])) == []


def edit(root, change, config=RUN):
    """Applies `change` to the content of the run's run.json."""
    path = root / config.folder / "run.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_killed_between_the_last_checkpoint_and_the_result(done, data_root, tmp_path):
    train(RUN, tmp_path, data_root, study="tests")
    edit(tmp_path, lambda content: content.update(status={"state": "running", "reason": None, "result": None}))
    outcome = train(RUN, tmp_path, data_root, study="tests")
    assert outcome == done[1] and record.equal(read(tmp_path), read(done[0])) == []


def test_resume_under_other_conditions_warns(done, data_root, tmp_path):
    train(RUN, tmp_path, data_root, stop=StopAfter(2), study="tests")
    edit(tmp_path, lambda content: content["attempts"][0].update(jaxlib="0.0.1", cpu_threads=-1))
    seen = []
    train(RUN, tmp_path, data_root, report=seen.append, study="tests")
    now = read(tmp_path).attempts[-1]
    prefix = "resumed under other conditions, not bit for bit: "
    assert [progress.note for progress in seen if progress.note] == [
        f"{prefix}jaxlib: 0.0.1 before, {now['jaxlib']} now",
        f"{prefix}cpu_threads: -1 before, {now['cpu_threads']} now"]
    assert read(tmp_path).state == "finished"


def test_a_branch_under_other_conditions_than_its_parent_warns(data_root, tmp_path):
    train(RUN, tmp_path, data_root)
    edit(tmp_path, lambda content: content["attempts"][0].update(devices=64))
    seen = []
    train(RUN.replace(name="branch", parent=Parent(run=RUN.folder, step=5), checkpoint=CheckpointConfig()),
          tmp_path, data_root, report=seen.append)
    assert [progress.note for progress in seen if progress.note] == [
        "resumed under other conditions, not bit for bit: devices: 64 before, 1 now"]


# Branches and shared compilation.

@pytest.mark.parametrize("updates", [20, 30])
def test_branch_equals_an_uninterrupted_run_with_its_schedule(done, data_root, updates):
    root = done[0]
    whole = RUN.replace(name="whole", updates=updates, schedule=dataclasses.replace(RUN.schedule, decay=8),
                        checkpoint=CheckpointConfig())
    branch = whole.replace(name="branch", parent=Parent(run=RUN.folder, step=5))
    train(whole, root, data_root)
    train(branch, root, data_root)
    a, b = read(root, branch), read(root, whole)
    assert a.result == b.result
    assert a.identity["parent"] == {"run": RUN.folder, "step": 5} and a.attempts[0]["first_step"] == 5
    np.testing.assert_array_equal(a.metrics["step"], np.arange(5, updates))
    for field in record.schema.METRICS:
        if field.kind == "result":
            np.testing.assert_array_equal(a.metrics[field.name], b.metrics[field.name][5:], err_msg=field.name)


@pytest.fixture
def compilations():
    """Grows by one for every program that XLA compiles."""
    found = []

    def listen(event, seconds, **kwargs):
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found
    jax.monitoring.unregister_event_duration_listener(listen)


def test_runs_of_one_shape_share_one_compilation(done, data_root, tmp_path, compilations):
    other = RUN.replace(
        seed=1, updates=19, evaluation=EvalConfig(sequences=8), schedule=WSD(peak_lr=3e-3, warmup=1, decay=5),
        optimizer=dataclasses.replace(RUN.optimizer, weight_decay=0.0))
    assert train(other, tmp_path, data_root).status == "finished" and compilations == []


def test_chunk_length_changes_no_result(done, data_root, tmp_path, compilations):
    other = RUN.replace(chunk=11)
    train(other, tmp_path, data_root, study="tests")
    differing = record.equal(read(tmp_path, other), read(done[0]))
    assert [line.partition(":")[0] for line in differing] == [
        "identity.config.chunk", "identity.config_hash", "identity.name"]
    # The step alone, and once: its first call takes values of the same kind as the later ones.
    assert len(compilations) == 1


# Divergence.

@pytest.fixture(scope="module", params=[8, 12])
def diverged(request, tmp_path_factory, data_root, done):
    """(bad update, config, root, outcome): the rate of one update is far too large."""
    bad, root = request.param, tmp_path_factory.mktemp("diverged")
    rates = np.full(UPDATES, 1e-2)
    rates[bad] = 1e38
    np.save(root / "schedule.npy", rates)
    config = RUN.replace(schedule=FromArray(path=str(root / "schedule.npy")))
    return bad, config, root, train(config, root, data_root)


def test_divergence_ends_the_run_and_names_the_first_bad_update(diverged):
    bad, config, root, outcome = diverged
    run = read(root, config)
    assert (outcome.status, outcome.step) == ("diverged", bad + 1)
    assert run.state == "diverged" and run.result is None
    assert run.status["reason"] == outcome.reason and outcome.reason.startswith(f"update {bad}: ")


def test_divergence_keeps_the_record_up_to_the_bad_update(diverged):
    bad, config, root, _ = diverged
    metrics = read(root, config).metrics
    np.testing.assert_array_equal(metrics["step"], np.arange(bad + 1))
    assert np.isfinite(metrics["param_rms"][:-1]).all() and np.isnan(metrics["param_rms"][-1])


def test_values_that_are_not_finite_are_null(diverged):
    _, config, root, _ = diverged
    text = "".join(path.read_text() for path in (root / config.folder / "metrics").iterdir())
    assert '"param_rms": null' in text.replace('":null', '": null')
    assert "NaN" not in text and "Infinity" not in text


def test_no_checkpoint_holds_a_diverged_state(diverged):
    # With the bad update just before it, the checkpoint after 9 updates must not be made.
    bad, config, root, _ = diverged
    assert checkpoint_steps(root, config) == ([5] if bad == 8 else [5, 9])


def test_a_diverged_run_is_not_trained_again(diverged, data_root):
    _, config, root, outcome = diverged
    assert train(config, root, data_root, report=lambda progress: pytest.fail("it trained")) == outcome
