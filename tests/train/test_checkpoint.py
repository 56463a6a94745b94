"""Checkpoints: the first format loads, every damaged file is met, and the run goes on from the one before."""

import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_run import RUN, leaves

from jaxlm.config import ConfigError
from jaxlm.train import CheckpointConfig, Parent, train
from jaxlm.train import checkpoint as checkpoints
from jaxlm.train.start import step_config
from jaxlm.train.state import TrainState, abstract_state, init_state
from jaxlm.train.step import make_step
from scaling import record

FIXTURE = pathlib.Path(__file__).parent / "fixtures" / "v1"
SHORT = RUN.replace(name="short", updates=12, checkpoint=CheckpointConfig(every=5))


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def compiled():
    return make_step(step_config(RUN))


@pytest.fixture(scope="module")
def target(compiled):
    return abstract_state(RUN.model, compiled.tx, compiled.mesh)


@pytest.fixture(scope="module")
def saved(tmp_path_factory, compiled):
    """A folder with one checkpoint, and the state in it."""
    state = init_state(RUN.model, compiled.tx, mesh=compiled.mesh, seed=3)
    folder = checkpoints.checkpoint_folder(tmp_path_factory.mktemp("saved"), "run")
    with checkpoints.open_checkpoints(folder, CheckpointConfig()) as manager:
        checkpoints.save(manager, 7, state)
    return folder, state


def equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def copy_of(folder, tmp_path):
    shutil.copytree(folder.parent, tmp_path / "run")
    return checkpoints.checkpoint_folder(tmp_path, "run")


# The first format.

def test_the_first_format_loads_for_ever(target):
    run = record.read(next(FIXTURE.iterdir()))
    folder = checkpoints.checkpoint_folder(FIXTURE, run.name)
    assert checkpoints.steps(folder) == [run.result["updates"]] == [6]
    state = checkpoints.restore(folder, 6, target)
    assert checkpoints.params_digest(state.params) == run.result["params_digest"]
    moments = [name for name in leaves(state.opt_state) if ".mu." in name or ".nu." in name]
    assert int(state.step) == 6 and len(moments) == 2 * len(leaves(state.params))
    assert all(leaves(state.opt_state)[name].any() for name in moments)


# Damage.

def damage(path, how):
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "flipped":
        path.write_bytes(content[:len(content) // 2] + bytes([content[len(content) // 2] ^ 1])
                         + content[len(content) // 2 + 1:])
    else:
        path.write_bytes(content[:{"empty": 0, "cut": len(content) // 2}[how]])


@pytest.mark.parametrize("how", ["missing", "empty", "cut", "flipped"])
def test_a_damaged_file_never_gives_other_values(saved, target, tmp_path, how):
    """Either what was saved comes back (the file does not matter), or a `CheckpointError` of one line."""
    folder, state = saved
    names = [path.relative_to(folder) for path in pathlib.Path(folder).rglob("*") if path.is_file()]
    met = 0
    for number, name in enumerate(names):
        place = copy_of(folder, tmp_path / str(number))
        damage(place / name, how)
        try:
            assert equal(checkpoints.restore(place, 7, target), state), name
        except checkpoints.CheckpointError as error:
            assert "\n" not in str(error) and str(error).startswith("checkpoint 7 in run is damaged")
            met += 1
    assert 3 <= met < len(names)


def test_a_changed_value_is_named(saved, target, tmp_path):
    folder, state = saved
    params = jax.tree.map(lambda leaf: leaf, state.params)
    params["embedding"]["tokens"] = params["embedding"]["tokens"].at[3, 1].multiply(1 + 2**-22)
    tree = state._replace(params=params)._asdict() | {"checksum": checkpoints._checksum(state)}
    place = checkpoints.checkpoint_folder(tmp_path, "run")
    import orbax.checkpoint as ocp
    with checkpoints.open_checkpoints(place, CheckpointConfig()) as manager:
        manager.save(7, args=ocp.args.StandardSave(tree))
    with pytest.raises(checkpoints.CheckpointError, match=r"other values than were saved in .*embedding.*tokens"):
        checkpoints.restore(place, 7, target)


def test_checksum_sees_every_bit_and_every_exchange():
    state = TrainState(params={"a": jnp.arange(6.0).reshape(2, 3)}, opt_state=jnp.array([True, False]),
                       step=jnp.int32(3))
    known = np.asarray(checkpoints._checksum(state))
    bits = np.asarray(state.params["a"]).view(np.uint32).ravel()
    odd = 2 * np.arange(6, dtype=np.uint64) + 1
    assert known.tolist() == [int((bits * odd).sum() % 2**32), 1, 3]
    for place, bit in ((0, 0), (2, 31), (5, 22)):
        other = bits.copy()
        other[place] ^= np.uint32(1 << bit)
        changed = state._replace(params={"a": jnp.asarray(other.view(np.float32).reshape(2, 3))})
        assert checkpoints._checksum(changed)[0] != known[0]
    assert checkpoints._checksum(state._replace(params={"a": state.params["a"][::-1]}))[0] != known[0]


def test_the_checkpoint_before_a_damaged_one_is_used_and_the_fact_recorded(tmp_path, data_root):
    whole = train(SHORT, tmp_path / "whole", data_root)
    out = tmp_path / "hurt"
    assert train(SHORT, out, data_root, stop_at=11).status == "preempted"
    folder = out / SHORT.folder
    for step, how in ((11, "cut"), (10, "missing")):
        for path in (folder / "checkpoints" / str(step) / "default").rglob("d/*"):
            damage(path, how)
    seen = []
    assert train(SHORT, out, data_root, report=lambda progress: seen.append(progress.note)) == whole
    run = record.read(folder)
    assert [(entry["step"], "damaged" in entry["reason"]) for entry in run.attempts[1]["damaged_checkpoints"]] == [
        (11, True), (10, True)]
    assert run.attempts[1]["first_step"] == 0 and (folder / "damaged").is_dir()  # latest=2: none is older
    assert sorted(path.name for path in (folder / "damaged").iterdir()) == ["10-0", "11-0"]
    assert any(note and "going on from update 0" in note for note in seen)
    assert record.equal(run, record.read(tmp_path / "whole" / SHORT.folder)) == [] and run.notes == ()
    assert checkpoints.steps(checkpoints.checkpoint_folder(out, SHORT.folder)) == [10, 12]


def test_a_damaged_parent_is_an_error_of_one_line(tmp_path, data_root):
    train(SHORT, tmp_path, data_root)
    for path in (tmp_path / SHORT.folder / "checkpoints" / "10" / "default").rglob("d/*"):
        damage(path, "empty")
    branch = SHORT.replace(name="branch", parent=Parent(run=SHORT.folder, step=10))
    with pytest.raises(checkpoints.CheckpointError, match=rf"checkpoint 10 in {SHORT.folder} is damaged"):
        train(branch, tmp_path, data_root)
    assert record.read(tmp_path / branch.folder).state == "failed"


# Stops, places.

@pytest.mark.parametrize("stop_at", [0, 13])
def test_a_stop_outside_the_run_is_refused(tmp_path, data_root, stop_at):
    with pytest.raises(ConfigError, match=rf"stop_at = {stop_at}: must lie in 1..updates = 12"):
        train(SHORT, tmp_path, data_root, stop_at=stop_at)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["s3://bucket/runs", "memory://runs"])
def test_a_place_that_orbax_cannot_write_is_refused_before_anything_is_written(tmp_path, data_root, place):
    with pytest.raises(ConfigError, match="Orbax saves to local folders and gs://"):
        train(SHORT, tmp_path, data_root, checkpoint_root=place)
    assert not list(tmp_path.iterdir())


def test_checkpoints_may_lie_apart_from_records(tmp_path, data_root):
    train(SHORT, tmp_path / "records", data_root, checkpoint_root=tmp_path / "states", stop_at=8)
    assert not (tmp_path / "records" / SHORT.folder / "checkpoints").exists()
    done = train(SHORT, tmp_path / "records", data_root, checkpoint_root=tmp_path / "states")
    assert done.status == "finished" and record.read(tmp_path / "records" / SHORT.folder).attempts[1]["first_step"] == 8


def test_a_failed_save_fails_the_run_and_the_next_start_goes_on(tmp_path, data_root, monkeypatch):
    import orbax.checkpoint as ocp

    def full(*args, **kwargs):
        raise ValueError("RESOURCE: no space left\non device")

    with monkeypatch.context() as patch:
        patch.setattr(ocp.CheckpointManager, "save", full)
        with pytest.raises(checkpoints.CheckpointError, match="checkpoint 5: RESOURCE: no space left on device"):
            train(SHORT, tmp_path, data_root)
    run = record.read(tmp_path / SHORT.folder)
    assert run.state == "failed" and "no space left" in run.status["reason"]
    assert train(SHORT, tmp_path, data_root).status == "finished"
