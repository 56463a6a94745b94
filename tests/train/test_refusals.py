"""What a run refuses before it trains: data, parents and checkpoints that do not fit, in one line each."""

import dataclasses
import json
import os

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh
from tiny_run import DATA, MODEL, RUN

from jaxlm import data, schedules
from jaxlm.config import ConfigError
from jaxlm.data import DataConfig, Files
from jaxlm.optim import AdamW
from jaxlm.parallel import AXES, MeshConfig
from jaxlm.train import CheckpointConfig, EvalConfig, Parent, start, train
from jaxlm.train import checkpoint as checkpoints
from jaxlm.train.start import identity, step_config
from jaxlm.train.state import abstract_state, state_shardings
from jaxlm.train.step import make_step
from scaling import record
from scaling.errors import InputError

BRANCH = RUN.replace(name="branch", parent=Parent(run=RUN.folder, step=9))


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def recorded(tmp_path, data_root):
    """A root with the record of RUN, stopped early, and no checkpoint: nothing is trained in this file."""
    dataset = data.open_dataset(RUN.data, data_root)
    rates = schedules.as_array(RUN.schedule.build(RUN.updates), RUN.updates)
    record.create(tmp_path / RUN.folder, identity(RUN, dataset, ""), rates, {})
    record.set_status(tmp_path / RUN.folder, "preempted", reason="SIGTERM")
    return tmp_path


def refusal(config, root, data_root):
    """Returns the text of the error that `train` raises, one line."""
    with pytest.raises(ConfigError) as error:
        train(config, root, data_root)
    assert "\n" not in str(error.value)
    return str(error.value)


def zero_state(model_config, step):
    """Returns a training state of zeros after `step` updates."""
    compiled = make_step(step_config(RUN.replace(model=model_config)))
    target = abstract_state(model_config, compiled.tx, compiled.mesh)
    state = jax.tree.map(lambda leaf: jax.device_put(jnp.zeros(leaf.shape, leaf.dtype), leaf.sharding), target)
    return state._replace(step=jnp.int32(step)), target


def save_checkpoint(folder, model_config, step):
    place = checkpoints.checkpoint_folder(folder.parent, folder.name)
    with checkpoints.open_checkpoints(place, CheckpointConfig()) as manager:
        checkpoints.save(manager, step, zero_state(model_config, step)[0])


def set_digest(folder, digest):
    """Makes the run at `folder` one of another corpus."""
    content = json.loads((folder / "run.json").read_text())
    content["identity"]["corpus"]["digest"] = digest
    (folder / "run.json").write_text(json.dumps(content))


# Data.

def test_too_small_a_vocabulary(tmp_path, data_root):
    small = RUN.replace(model=dataclasses.replace(MODEL, vocabulary=8))
    assert refusal(small, tmp_path, data_root) == "model.vocabulary = 8: must be at least the tokenizer's 16"
    assert not (tmp_path / small.folder).exists()


def test_more_heldout_sequences_than_there_are(tmp_path, data_root):
    # Without this check it would be found at the first evaluation, perhaps after the last update.
    greedy = RUN.replace(evaluation=EvalConfig(sequences=9))
    assert refusal(greedy, tmp_path, data_root) == (
        "evaluation.sequences = 9: the held-out split has 8 windows of data.sequence = 8")
    assert not (tmp_path / greedy.folder).exists()


def test_recorded_corpus_differs(recorded, data_root):
    set_digest(recorded / RUN.folder, "abc")
    message = refusal(RUN, recorded, data_root)
    assert message.startswith("corpus digest = ")
    assert message.endswith(f": run {RUN.folder} was recorded on abc; its text has changed since")


def test_text_edited_between_two_starts(tmp_path, data_root, monkeypatch):
    text = tmp_path / "prose.txt"
    text.write_text("It was a bright cold day in April. " * 40)
    source = DataConfig(sources=(Files(paths=(str(text),)),), sequence=8)
    config = RUN.replace(data=source, model=dataclasses.replace(MODEL, vocabulary=256))
    with monkeypatch.context() as patch:
        # The record is made before the state, and nothing is trained.
        patch.setattr(start, "init_state", lambda *args, **kwargs: pytest.fail("stopped here"))
        with pytest.raises(pytest.fail.Exception):
            train(config, tmp_path, data_root)
    assert (tmp_path / config.folder / "run.json").exists()
    text.write_text("It was a bright warm day in April. " * 40)
    assert "its text has changed since" in refusal(config, tmp_path, data_root)


# Parents.

def test_parent_is_missing(tmp_path, data_root):
    assert refusal(BRANCH, tmp_path, data_root) == (
        f"parent.run = {RUN.folder!r}: no such run in {tmp_path}; train it first")
    assert not (tmp_path / BRANCH.folder).exists()


@pytest.mark.parametrize(("field", "value"), [
    ("model", dataclasses.replace(MODEL, width=16)), ("data", dataclasses.replace(DATA, seed=1)),
    ("optimizer", AdamW(b2=0.99)), ("batch", 8), ("accumulation", 1), ("seed", 1), ("z_loss", 0.0),
    ("clip_norm", None),
])
def test_parent_of_another_configuration(recorded, data_root, field, value):
    message = refusal(BRANCH.replace(**{field: value}), recorded, data_root)
    assert message.startswith(f"{field} = ") and "must be the parent's, " in message and RUN.folder in message


def test_parent_of_another_corpus(recorded, data_root):
    set_digest(recorded / RUN.folder, "abc")
    message = refusal(BRANCH, recorded, data_root)
    assert message.startswith("corpus digest = ") and f"the parent {RUN.folder} was trained on abc" in message


def test_parent_without_checkpoints(recorded, data_root):
    assert refusal(BRANCH, recorded, data_root) == (
        f"parent.step = 9: run {RUN.folder} has no checkpoints; train it first")


def test_parent_without_that_checkpoint(recorded, data_root):
    save_checkpoint(recorded / RUN.folder, MODEL, 5)
    message = refusal(BRANCH, recorded, data_root)
    assert message == f"parent.step = 9: run {RUN.folder} has checkpoints at [5]; train it first"
    assert record.read(recorded / BRANCH.folder).status["reason"] == f"ConfigError: {message}"


# Checkpoints.

def test_checkpoint_of_another_model(recorded, data_root):
    save_checkpoint(recorded / RUN.folder, dataclasses.replace(MODEL, ff=16), 5)
    assert refusal(RUN, recorded, data_root) == (
        f"checkpoint {RUN.folder}/5 is of another model: blocks/feed_forward/down has shape (1, 16, 8), "
        "this run's has (1, 8, 8)")


def test_checkpoint_of_a_model_with_other_arrays(tmp_path):
    save_checkpoint(tmp_path / "other", dataclasses.replace(MODEL, tied=False), 5)
    with pytest.raises(ConfigError, match=r"other/5 is of another model: head.* this run's has None"):
        checkpoints.restore(checkpoints.checkpoint_folder(tmp_path, "other"), 5, zero_state(MODEL, 0)[1])


def test_a_folder_without_checkpoints_has_nothing_to_restore(tmp_path):
    place = checkpoints.checkpoint_folder(tmp_path, "nothing")
    assert checkpoints.restore_newest(place, zero_state(MODEL, 0)[1]) == (None, {})


# Meshes.

def test_mesh_of_more_devices_than_there_are(tmp_path, data_root):
    wide = RUN.replace(mesh=MeshConfig(tensor=64))
    have = jax.device_count()
    assert refusal(wide, tmp_path, data_root) == f"mesh = (1, 1, 1, 64, 1): needs 64 devices, {have} are here"


def test_mesh_that_does_not_divide_the_model():
    axis = "the axis 'width' of blocks.attention.key, which has length 8"
    for lengths, text in (({"fsdp": 3}, f"mesh.fsdp = 3: must divide {axis}"),
                          ({"fsdp": 4, "sequence": 4}, f"mesh.fsdp * mesh.sequence = 16: must divide {axis}"),
                          ({"tensor": 4}, "mesh.tensor = 4: must divide model.heads = 2")):
        mesh = AbstractMesh(MeshConfig(**lengths).shape, AXES)
        with pytest.raises(ConfigError) as error:
            state_shardings(MODEL, make_step(step_config(RUN)).tx, mesh)
        assert str(error.value) == text


# The lock of a run.

def test_a_run_that_is_being_trained_is_refused(recorded, data_root):
    with record.run_lock(recorded / RUN.folder):
        with pytest.raises(InputError, match=rf"^run = {RUN.folder!r}: another process is writing it \(.*, pid {os.getpid()}\)$"):
            train(RUN, recorded, data_root)
    assert record.read(recorded / RUN.folder).state == "preempted"
