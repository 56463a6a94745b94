"""A run that starts with another run's parameters, on other data; and held-out losses of single sources."""

import dataclasses

import jax
import numpy as np
import pytest
from tiny_run import DATA, RUN, leaves

from jaxlm import data
from jaxlm.cli import checkpoints as listing
from jaxlm.config import ConfigError, from_dict, override, to_dict
from jaxlm.data import DataConfig, StandardLibrary
from jaxlm.optim import Muon, ScheduleFree
from jaxlm.schedules import Constant
from jaxlm.train import CheckpointConfig, DiagnosticsConfig, EvalConfig, Initial, Parent, RunConfig, start, train
from jaxlm.train import checkpoint as checkpoints
from jaxlm.train.state import abstract_state
from scaling import record

OLD, NEW = DATA.sources
ONE = DataConfig(sources=(OLD,), sequence=DATA.sequence)
FIRST = RUN.replace(name="first", updates=9, data=ONE, model=dataclasses.replace(RUN.model, dropout=0.0),
                    checkpoint=CheckpointConfig(), evaluation=EvalConfig(every=4, sequences=4, sources=(OLD, NEW)))
SECOND = FIRST.replace(name="second", updates=12, data=dataclasses.replace(ONE, sources=(NEW,), seed=3),
                       schedule=Constant(peak_lr=3e-3), initial=Initial(run=FIRST.folder, step=9))


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def root(tmp_path_factory, data_root):
    """The folder of both runs, the second trained without interruption."""
    root = tmp_path_factory.mktemp("runs")
    assert train(FIRST, root, data_root).status == train(SECOND, root, data_root).status == "finished"
    return root


def saved(root, config, data_root):
    """Returns the state of a checkpoint of the run."""
    job = start.prepare(config, root, data_root, root)
    target = abstract_state(config.model, job.compiled.tx, job.compiled.mesh)
    return job, checkpoints.restore(job.checkpoints, config.updates, target)


def started(root, config, data_root):
    """Returns (compiled step, state before its first update) of a run that nobody has trained."""
    job = start.prepare(config.replace(name="untrained"), root, data_root, root)
    return job.compiled, start.starting_state(job)[0]


def same(a, b):
    a, b = leaves(a), leaves(b)
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_it_takes_the_parameters_and_begins_anew(root, data_root):
    before = saved(root, FIRST, data_root)[1]
    compiled, state = started(root, SECOND, data_root)
    assert same(state.params, before.params) and int(state.step) == 0 and int(before.step) == 9
    assert same(state.opt_state, compiled.tx.init(before.params)) and not same(state.opt_state, before.opt_state)


def test_it_keeps_the_optimizer_state_where_asked(root, data_root):
    before = saved(root, FIRST, data_root)[1]
    keep = SECOND.replace(initial=dataclasses.replace(SECOND.initial, optimizer="keep"))
    _, state = started(root, keep, data_root)
    assert same(state._replace(step=before.step), before) and int(state.step) == 0
    assert state.step.sharding == before.step.sharding


def test_its_first_batch_is_batch_0_of_its_own_order_under_its_own_schedule(root, data_root):
    run = record.read(root / SECOND.folder)
    assert run.metrics["step"].tolist() == list(range(12)) and not run.notes and set(run.metrics["lr"]) == {3e-3}
    job, before = saved(root, FIRST, data_root)
    batch = data.open_dataset(SECOND.data, data_root).batch(0, SECOND.batch).reshape(1, SECOND.batch, -1)
    loss = float(job.compiled.heldout_loss(before.params, batch))
    assert run.metrics["train_loss"][0] == pytest.approx(loss, rel=1e-5)


def test_killed_and_started_again_it_ends_the_same(root, data_root, tmp_path):
    train(FIRST, tmp_path, data_root)
    for stop in (3, 7):
        assert train(SECOND, tmp_path, data_root, stop_at=stop).status == "preempted"
    train(SECOND, tmp_path, data_root)
    assert record.equal(record.read(tmp_path / SECOND.folder), record.read(root / SECOND.folder)) == []


def test_the_record_says_where_it_started(root):
    identity = record.read(root / SECOND.folder).identity
    assert identity["parent"] is None
    assert identity["config"]["initial"] == {"run": FIRST.folder, "step": 9, "optimizer": "reset"}
    assert from_dict(RunConfig, identity["config"]) == SECOND


def test_the_checkpoint_it_started_from_is_not_deleted(root):
    _, entries = listing.plan(root / FIRST.folder, {"latest": 1}, listing.StudyFolder(root))
    assert f"branch point of {SECOND.folder}" in entries[-1].reasons


def test_conditions_that_differ_from_the_other_runs_are_told(root, data_root, tmp_path):
    train(FIRST, tmp_path, data_root)
    path = tmp_path / FIRST.folder / "run.json"
    devices = '"devices": '
    path.write_text(path.read_text().replace(f"{devices}1", f"{devices}64"))
    seen = []
    train(SECOND, tmp_path, data_root, stop_at=1, report=seen.append)
    assert [one.note for one in seen if one.note] == [
        "resumed under other conditions, not bit for bit: devices: 64 before, 1 now"]


@pytest.mark.slow
def test_the_average_of_a_schedule_free_run_is_what_goes_on(data_root, tmp_path):
    free = FIRST.replace(optimizer=ScheduleFree(b1=0.5))
    train(free, tmp_path, data_root)
    before = saved(tmp_path, free, data_root)[1]
    average = free.optimizer.eval_params(before.opt_state, before.params)
    after = SECOND.replace(initial=Initial(run=free.folder, step=9))
    assert same(started(tmp_path, after, data_root)[1].params, average) and not same(average, before.params)
    # The state of a schedule-free run starts as a copy of the parameters; both are donated to the first update.
    again = after.replace(optimizer=ScheduleFree(b1=0.5), updates=2)
    assert train(again, tmp_path, data_root).status == "finished"


def test_another_optimizer_may_go_on_from_a_reset(root, data_root):
    compiled, state = started(root, SECOND.replace(optimizer=Muon(), clip_norm=None), data_root)
    assert same(state.params, saved(root, FIRST, data_root)[1].params)
    assert same(state.opt_state, compiled.tx.init(state.params))


@pytest.mark.parametrize(("changes", "message"), [
    ({"model": dataclasses.replace(FIRST.model, ff=16)}, "model = "),
    ({"initial": Initial(run=FIRST.folder, step=9, optimizer="keep"), "clip_norm": None},
     "clip_norm = None: must be that of"),
    ({"initial": Initial(run="first-00000000", step=9)}, "initial.run = 'first-00000000': no such run"),
    ({"initial": Initial(run=FIRST.folder, step=8)},
     "initial.step = 8: run first-.* has checkpoints at .9.; train it first"),
])
def test_what_does_not_fit_is_refused(root, data_root, changes, message):
    with pytest.raises(ConfigError, match=f"^{message}") as error:
        train(SECOND.replace(name="refused", **changes), root, data_root)
    assert "\n" not in str(error.value)


# Held-out losses of single sources.

def test_the_loss_of_each_source_stands_beside_that_of_the_mixture(root, data_root):
    for config, own in ((FIRST, 0), (SECOND, 1)):
        run = record.read(root / config.folder)
        losses, seen = run.diagnostics["source_losses"], np.isfinite(run.metrics["heldout_loss"])
        np.testing.assert_array_equal(run.diagnostics["step"], run.metrics["step"][seen])
        np.testing.assert_array_equal(losses[:, own], run.metrics["heldout_loss"][seen])
        assert losses.shape == (3, 2) and np.all(losses[:, 0] != losses[:, 1])
    names = [data.open_dataset(dataclasses.replace(ONE, sources=(source,)), data_root).name for source in (OLD, NEW)]
    assert [text["name"] for text in run.identity["corpus"]["evaluated"]] == names


def test_evaluating_more_changes_nothing_else(root, data_root, tmp_path):
    plain = FIRST.replace(evaluation=EvalConfig(every=4, sequences=4))
    train(plain, tmp_path, data_root)
    a, b = record.read(tmp_path / plain.folder), record.read(root / FIRST.folder)
    assert a.result == b.result and a.diagnostics["step"].size == 0
    np.testing.assert_array_equal(a.metrics["train_loss"], b.metrics["train_loss"])


@pytest.mark.slow
def test_a_step_has_one_row_of_diagnostics(data_root, tmp_path):
    config = FIRST.replace(updates=4, diagnostics=DiagnosticsConfig(every=2, sequences=0))
    train(config, tmp_path, data_root)
    rows = record.read(tmp_path / config.folder).diagnostics
    assert rows["step"].tolist() == [1, 3]
    assert np.isnan(rows["source_losses"][0]).all() and np.isfinite(rows["source_losses"][1]).all()
    assert np.isfinite(rows["residual_rms"]).all()


# Names.

def test_runs_of_before_keep_their_names():
    assert "initial" not in RUN.identity and "sources" not in RUN.identity["evaluation"]
    assert from_dict(RunConfig, RUN.identity) == RUN
    names = {RUN.folder, FIRST.folder, SECOND.folder,
             RUN.replace(initial=Initial(run="x", step=1)).folder, RUN.replace(initial=Initial(run="x", step=2)).folder,
             RUN.replace(parent=Parent(run="x", step=1)).folder,
             RUN.replace(initial=Initial(run="x", step=1, optimizer="keep")).folder}
    assert len(names) == 7


def test_round_trip_and_override():
    assert from_dict(RunConfig, to_dict(SECOND)) == SECOND
    assert override(SECOND, {"initial.step": "4"}).initial.step == 4
    assert override(RUN, {"initial": '{"run": "x", "step": 4}'}).initial == Initial(run="x", step=4)


def test_text_is_not_evaluated_beside_synthetic_tokens():
    with pytest.raises(ConfigError, match="synthetic tokens and text must not be mixed"):
        RUN.replace(evaluation=EvalConfig(sources=(StandardLibrary(),)))


def test_on_a_mesh_the_start_lies_where_its_parameters_lie(root, data_root):
    compiled, state = started(root, SECOND, data_root)
    assert all(leaf.sharding.mesh == compiled.mesh for leaf in jax.tree.leaves(state))
