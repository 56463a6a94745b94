"""Diagnostics: each on a case with a known answer, and their rows in the record of a run."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_run import MODEL, RUN, SEQUENCE, UPDATES, leaves, tokens

from jaxlm import config as configs
from jaxlm import data, model
from jaxlm.optim import AdamW
from jaxlm.params import ParamInfo
from jaxlm.parallel import MeshConfig
from jaxlm.train import CheckpointConfig, DiagnosticsConfig, StepConfig, make_step, train
from jaxlm.train import checkpoint as checkpoints
from jaxlm.train.diagnostics import block_rms, sequence_grad_sq
from jaxlm.train.state import abstract_state, init_state
from jaxlm.train.step import SCALARS
from scaling import record
from scaling.diagnostics import estimate_noise_scale, noise_scale, update_ratio

# Rows after 4, 8, ... 24 updates; checkpoints fall on and between them.
MEASURED = RUN.replace(diagnostics=DiagnosticsConfig(every=4))
DUE = [3, 7, 11, 15, 19, 23]
STEP = StepConfig(model=dataclasses.replace(MODEL, dropout=0.0, layers=2), optimizer=AdamW(weight_decay=0.0),
                  clip_norm=1.0, z_loss=1e-3, accumulation=4, mesh=MeshConfig(), diagnostics=True)


# Blocks.

def test_block_rms_of_known_arrays():
    infos = {"embedding": ParamInfo(shape=(2, 2), axes=("vocab", "width"), kind="embedding"),
             "kernel": ParamInfo(shape=(2, 2, 2), axes=("layers", "width", "ff"), kind="matrix", stack_axes=1),
             "scale": ParamInfo(shape=(2, 1), axes=("layers", "width"), kind="vector", stack_axes=1),
             "head": ParamInfo(shape=(1, 3), axes=("width", "vocab"), kind="head"),
             "norm": ParamInfo(shape=(1,), axes=("width",), kind="vector")}
    tree = {"embedding": np.array([[3.0, -3], [3, 3]]), "kernel": np.array([[[1.0, 1], [1, 1]], [[2, 2], [2, 2]]]),
            "scale": np.array([[4.0], [3.0]]), "head": np.array([[0.0, 2, 2]]), "norm": np.array([2.0])}
    expected = [3.0, np.sqrt((4 + 16) / 5), np.sqrt((16 + 9) / 5), np.sqrt(12 / 4)]
    np.testing.assert_allclose(block_rms(jax.tree.map(jnp.asarray, tree), infos), expected, rtol=1e-6)


@pytest.fixture(scope="module")
def one_update():
    """(parameters before and after, metrics, parameter rms by block, batch) of one update of STEP."""
    compiled = make_step(STEP)
    state = init_state(STEP.model, compiled.tx, mesh=compiled.mesh, seed=0)
    before, batch = jax.device_get(state.params), tokens(1, 4, 2, SEQUENCE + 1)
    state, _, _, metrics = compiled.run_chunk(
        state, np.bool_(True), batch, np.array([0.01], np.float32), np.int32(1), np.float32(0.1), np.uint32(0))
    found = compiled.diagnose(state.params, batch[0, 0], None, np.int32(1), np.uint32(0))
    return before, jax.device_get(state.params), jax.device_get(metrics), np.array(found.block_param_rms), batch[0]


def test_blocks_of_a_step_are_embedding_layers_and_final_norm(one_update):
    before, after, metrics, param_rms, _ = one_update
    changes = leaves(jax.tree.map(np.subtract, after, before))
    for found, arrays, rtol in ((metrics.diagnostics.block_update_rms[0], changes, 1e-3),  # difference of rounded
                                (param_rms, leaves(after), 1e-6)):
        blocks = [[arrays["embedding.tokens"]], *([a[layer] for n, a in arrays.items() if n.startswith("blocks")]
                                                  for layer in range(2)), [arrays["final_norm.scale"]]]
        expected = [np.sqrt(np.mean(np.concatenate([a.ravel() for a in block])**2)) for block in blocks]
        np.testing.assert_allclose(found, expected, rtol=rtol)


def test_blocks_together_are_the_whole(one_update):
    _, after, metrics, param_rms, _ = one_update
    sizes = np.array([after["embedding"]["tokens"].size, *[sum(
        a[0].size for n, a in leaves(after).items() if n.startswith("blocks"))] * 2, MODEL.width])
    for blocks, whole in ((metrics.diagnostics.block_update_rms[0], metrics.update_rms),
                          (param_rms, metrics.param_rms)):
        np.testing.assert_allclose(np.sqrt(np.sum(blocks**2 * sizes) / sizes.sum()), whole[0], rtol=1e-6)


# Gradients of small batches.

@jax.jit
def gradient_sq(params, batch_BxS):
    def loss(params):
        logits = model.apply(STEP.model, params, batch_BxS[:, :-1])
        log_z = jax.nn.logsumexp(logits, axis=-1)
        picked = jnp.take_along_axis(logits, batch_BxS[:, 1:].reshape(-1, 1), axis=-1)[:, 0]
        return jnp.mean(log_z - picked) + STEP.z_loss * jnp.mean(log_z**2)

    return sum(jnp.sum(g**2) for g in jax.tree.leaves(jax.grad(loss)(params)))


def test_small_grad_sq_of_a_step_is_the_mean_over_its_micro_batches(one_update):
    before, _, metrics, _, batch = one_update
    expected = np.mean([gradient_sq(before, micro_batch) for micro_batch in batch])
    # Taken from differences of float32 sums.
    assert metrics.diagnostics.small_grad_sq[0] == pytest.approx(expected, rel=1e-5)
    assert metrics.grad_l2[0] ** 2 < 0.9 * expected  # averaging takes noise out


def test_small_grad_sq_of_a_state_is_the_mean_over_single_sequences(one_update):
    before, _, _, _, batch = one_update
    sequences = batch.reshape(-1, SEQUENCE + 1)[:6]
    found = make_step(STEP).diagnose(before, batch[0], sequences.reshape(3, 2, -1), np.int32(0), np.uint32(0))
    assert found.small_grad_sq == pytest.approx(np.mean([gradient_sq(before, s[None]) for s in sequences]), rel=1e-5)


def test_dropout_masks_differ_between_sequences_and_follow_the_key():
    def gradient(batch_BxS, key):
        return {"w": jax.random.normal(key, (50,)) + 0 * batch_BxS.sum()}

    same = jnp.zeros((2, 2, 3), jnp.int32)
    first, again, other = (sequence_grad_sq(gradient, same, jax.random.key(seed)) for seed in (0, 0, 1))
    assert first == again != other
    key = jax.random.key(0)
    expected = np.mean([np.sum(np.square(jax.random.normal(jax.random.fold_in(key, i), (50,)))) for i in range(4)])
    assert first == pytest.approx(expected, rel=1e-6)


def test_noise_scale_of_a_quadratic_from_the_step_s_own_norms():
    # loss(x) = |w - x|^2 / 2 with x ~ N(0, s^2 I): the gradient of one example is w - x, so |G|^2 = |w|^2 and
    # tr(Sigma) = n s^2 whatever the update.
    size, deviation, batch, count = 200, 0.5, 32, 2000
    w = np.full(size, 0.2)
    x = np.random.default_rng(0).normal(0, deviation, (count, 8, batch // 8, size))
    small = w - x.mean(axis=2)
    found = estimate_noise_scale((small**2).sum(-1).mean(1), (small.mean(1)**2).sum(-1), small_batch=batch // 8,
                                 big_batch=batch, decay=0.999)
    truth = size * deviation**2 / np.sum(w**2)
    # A thousand rows remembered: three standard errors are 2%.
    assert found.sequences[-1] == pytest.approx(truth, rel=0.05)
    assert found.noise[-1] == pytest.approx(size * deviation**2, rel=0.02)


# Bits: what is measured changes nothing that is trained.

@pytest.fixture
def as_a_user_compiles():
    """With all passes of XLA, which fuse and reorder."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.mark.slow
def test_diagnostics_change_no_bit_of_training(as_a_user_compiles):
    found = []
    for diagnostics in (False, True):
        # A clip norm of its own, so that no other test has compiled these.
        config = dataclasses.replace(STEP, model=MODEL, clip_norm=0.9, diagnostics=diagnostics)
        compiled = make_step(config)
        state = init_state(MODEL, compiled.tx, mesh=compiled.mesh, seed=0)
        state, _, _, metrics = compiled.run_chunk(
            state, np.bool_(True), tokens(6, 4, 2, SEQUENCE + 1),
            np.full(6, 0.02, np.float32), np.int32(6), np.float32(0.1), np.uint32(0))
        found.append(leaves(state) | {name: np.asarray(getattr(metrics, name)) for name in SCALARS})
    for name, array in found[0].items():
        np.testing.assert_array_equal(found[1][name], array, err_msg=name)


# The record of a run.

@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def done(tmp_path_factory, data_root):
    """The root where MEASURED was trained without interruption."""
    root = tmp_path_factory.mktemp("runs")
    train(MEASURED, root, data_root)
    return root


def read(root, config=MEASURED):
    return record.read(root / config.folder)


def test_rows_stand_where_they_are_due_with_every_field(done):
    rows = dict(read(done).diagnostics)
    np.testing.assert_array_equal(rows["step"], DUE)
    lists = {"block_update_rms": MODEL.layers + 2, "block_param_rms": MODEL.layers + 2,
             **dict.fromkeys(("attention_logit_max", "attention_entropy", "residual_rms", "residual_kurtosis"),
                             MODEL.layers)}
    assert np.isnan(rows.pop("source_losses")).all()  # of runs that name sources to evaluate
    for name, column in rows.items():
        assert column.shape == ((len(DUE), lists[name]) if name in lists else (len(DUE),)), name
        assert np.isfinite(column).all(), name
    assert set(rows["small_batch"]) == {RUN.microbatch} and set(rows["big_batch"]) == {RUN.batch}


def test_rows_agree_with_the_metrics_of_their_update(done):
    run = read(done)
    np.testing.assert_array_equal(run.diagnostics["big_grad_sq"], run.metrics["grad_l2"][DUE] ** 2)
    assert (run.diagnostics["small_grad_sq"] > run.diagnostics["big_grad_sq"]).all()
    sizes = np.array([16 * 8, sum(a.size for n, a in leaves(model.init(MODEL, 0)).items() if "blocks" in n), 8])
    whole = np.sqrt((run.diagnostics["block_param_rms"]**2 * sizes).sum(1) / sizes.sum())
    np.testing.assert_allclose(whole, run.metrics["param_rms"][DUE], rtol=1e-6)


def test_the_state_is_measured_after_the_update_on_the_next_batch(done, data_root):
    run, compiled = read(done), make_step(dataclasses.replace(STEP, model=MODEL, accumulation=2))
    state = checkpoints.restore(checkpoints.checkpoint_folder(done, MEASURED.folder), UPDATES,
                                abstract_state(MODEL, compiled.tx, compiled.mesh))
    batch = data.open_dataset(MEASURED.data, data_root).batch(UPDATES, MEASURED.batch)
    probe = jax.jit(lambda params, batch: model.probe(MODEL, params, batch))(state.params, batch[:2, :-1])
    for name, expected in probe._asdict().items():
        # The same numbers from another program.
        np.testing.assert_allclose(run.diagnostics[name][-1], expected, rtol=1e-5, err_msg=name)


def test_noise_scale_and_update_ratio_of_a_run(done):
    run = read(done)
    found = noise_scale(run)
    np.testing.assert_array_equal(found.steps, DUE)
    np.testing.assert_array_equal(found.tokens, found.sequences * SEQUENCE)
    assert (found.noise > 0).all()
    np.testing.assert_allclose(update_ratio(run) * run.diagnostics["block_param_rms"],
                               run.diagnostics["block_update_rms"], rtol=1e-12)


@pytest.mark.slow
def test_everything_else_is_recorded_as_without_diagnostics(done, data_root, tmp_path):
    train(RUN, tmp_path, data_root)
    plain = read(tmp_path, RUN)
    assert {line.partition(":")[0] for line in record.equal(plain, read(done))} == {
        "identity.config.diagnostics.every", "identity.config_hash", "identity.name", "diagnostics.step"}
    assert all(column.size == 0 for column in plain.diagnostics.values())
    assert not (tmp_path / RUN.folder / "diagnostics").exists()


class StopAfter:
    """Asks for a stop once, after so many chunks."""

    def __init__(self, chunks):
        self.left = chunks

    def __call__(self):
        self.left -= 1
        return "SIGTERM" if self.left < 0 else None


@pytest.mark.parametrize("chunks", [1, 6])
def test_stopped_and_resumed_equals_uninterrupted(done, data_root, tmp_path, chunks):
    assert train(MEASURED, tmp_path, data_root, stop=StopAfter(chunks)).status == "preempted"
    train(MEASURED, tmp_path, data_root)
    run = read(tmp_path)
    assert len(run.attempts) == 2 and run.notes == () and record.equal(run, read(done)) == []


def test_killed_in_the_middle_redoes_the_same_rows(done, data_root, tmp_path, monkeypatch):
    save = checkpoints.save

    def broken(manager, step, state, **more):
        if step > 9:
            raise OSError("disk full")
        save(manager, step, state, **more)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", broken)
        with pytest.raises(OSError, match="disk full"):
            train(MEASURED, tmp_path, data_root)
    # Written before the checkpoint that failed, after 18 updates, and once more by the second attempt.
    np.testing.assert_array_equal(read(tmp_path).diagnostics["step"], [3, 7, 11, 15])
    train(MEASURED, tmp_path, data_root)
    run = read(tmp_path)
    assert run.attempts[1]["first_step"] == 9 and run.notes == () and record.equal(run, read(done)) == []


@pytest.mark.slow
def test_without_accumulation_single_sequences_serve(data_root, tmp_path):
    config = MEASURED.replace(accumulation=1, updates=8, checkpoint=CheckpointConfig(),
                              diagnostics=DiagnosticsConfig(every=8, sequences=2))
    train(config, tmp_path, data_root)
    rows = read(tmp_path, config).diagnostics
    assert rows["small_batch"].tolist() == [1] and rows["small_grad_sq"][0] > 0
    none = config.replace(diagnostics=DiagnosticsConfig(every=8, sequences=0))
    train(none, tmp_path, data_root)
    assert np.isnan(read(tmp_path, none).diagnostics["small_grad_sq"]).all()


@pytest.mark.slow
def test_a_spike_is_noted_while_training(data_root, tmp_path, monkeypatch):
    # After so few updates nothing is judged by default.
    from jaxlm.train import rows

    monkeypatch.setattr(rows, "spikes", lambda losses, *, window, first: np.array([len(losses) - 1]))
    seen = []
    train(RUN.replace(updates=4, checkpoint=CheckpointConfig()), tmp_path, data_root, report=seen.append)
    assert [progress.note for progress in seen] == ["loss spike at update 3"]


# Configuration.

@pytest.mark.parametrize(("diagnostics", "changes", "text"), [
    ({"every": -1}, {}, "diagnostics.every = -1: must not be negative"),
    ({"sequences": -1}, {}, "diagnostics.sequences = -1: must not be negative"),
    ({"every": 1, "sequences": 5}, {"accumulation": 1}, "diagnostics.sequences = 5: must not exceed batch = 4"),
    ({"every": 1, "sequences": 3}, {"accumulation": 1, "mesh": MeshConfig(data=2)},
     "diagnostics.sequences = 3: must be divisible by mesh.replica * mesh.data * mesh.fsdp = 2"),
])
def test_wrong_diagnostics_are_refused(diagnostics, changes, text):
    with pytest.raises(configs.ConfigError) as error:
        RUN.replace(diagnostics=DiagnosticsConfig(**diagnostics), **changes)
    assert str(error.value) == text
