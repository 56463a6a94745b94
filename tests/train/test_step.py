"""The compiled step: its update, its metrics, and how it is cut into calls."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from adamw_twin import AdamWTwin
from tiny_run import MODEL, SEQUENCE, leaves, tokens

from jaxlm import model
from jaxlm.optim import AdamW
from jaxlm.parallel import MeshConfig
from jaxlm.train import Metrics, StepConfig, make_step
from jaxlm.train.state import init_state
from jaxlm.train.step import SCALARS, loss_fn

K, BATCH = 8, 8
# The eps is large enough that a gradient entry near zero does not turn rounding into a whole step.
PLAIN = StepConfig(model=dataclasses.replace(MODEL, dropout=0.0), optimizer=AdamW(b1=0.8, eps=1e-5, weight_decay=0.0),
                   clip_norm=0.25, z_loss=1e-2, accumulation=1, mesh=MeshConfig())
SPLIT = dataclasses.replace(PLAIN, accumulation=4)
DROPOUT = StepConfig(model=MODEL, optimizer=AdamW(weight_decay=0.0), clip_norm=1.0, z_loss=1e-3, accumulation=2,
                     mesh=MeshConfig())
DECAY = 0.3


def fresh(config, seed=0):
    """Returns a new state; the step donates the one it is given."""
    compiled = make_step(config)
    return init_state(config.model, compiled.tx, mesh=compiled.mesh, seed=seed)


def chunk(config, state, batches, lrs, *, count=None, seed=0, healthy=True):
    """Calls the compiled step with buffers of K updates; returns host arrays (state, healthy, made, metrics)."""
    held = np.zeros((K, config.accumulation, BATCH // config.accumulation, SEQUENCE + 1), np.int32)
    held[:len(batches)] = batches.reshape(len(batches), *held.shape[1:])
    rates = np.zeros(K, np.float32)
    rates[:len(lrs)] = lrs
    count = len(batches) if count is None else count
    state, healthy, made, metrics = make_step(config).run_chunk(
        state, np.bool_(healthy), held, rates, np.int32(count), np.float32(DECAY), np.uint32(seed))
    return state, bool(healthy), int(made), jax.device_get(metrics)


def assert_same_bits(a, b):
    for (name, left), right in zip(leaves(a).items(), leaves(b).values(), strict=True):
        np.testing.assert_array_equal(left, right, err_msg=name)


# One update against its definition.

@functools.partial(jax.jit, static_argnums=2)
def reference_loss(params, batch_BxS, z_loss):
    """(cross-entropy, gradient of cross-entropy + z-loss), written apart from jaxlm.losses."""
    def loss(params):
        logits = model.apply(PLAIN.model, params, batch_BxS[:, :-1]).reshape(*batch_BxS[:, 1:].shape, -1)
        log_z = jnp.log(jnp.sum(jnp.exp(logits), -1))
        target = jnp.sum(logits * jax.nn.one_hot(batch_BxS[:, 1:], logits.shape[-1]), -1)
        cross_entropy = jnp.mean(log_z - target)
        return cross_entropy + z_loss * jnp.mean(log_z**2), cross_entropy

    (_, cross_entropy), gradient = jax.value_and_grad(loss, has_aux=True)(params)
    return cross_entropy, gradient


@dataclasses.dataclass
class Update:
    """One update as made, as the twin makes it, and the twin's values for the metrics."""

    params: dict
    metrics: Metrics
    twin_params: dict
    twin_metrics: dict


@pytest.fixture(scope="module")
def updates():
    """Three updates of PLAIN, each from the parameters that the compiled step had reached."""
    infos = leaves_of_infos(PLAIN.model)
    batches, lrs = tokens(3, BATCH, SEQUENCE + 1), (0.02, 0.01, 0.03)
    state, found = fresh(PLAIN), []
    twin = AdamWTwin(leaves(state.params), decayed=[name for name, info in infos.items() if info.kind != "vector"],
                     b1=0.8, b2=0.95, eps=1e-5, clip_norm=0.25)
    for batch, lr in zip(batches, lrs, strict=True):
        loss, gradient = reference_loss(state.params, batch, PLAIN.z_loss)
        grads = {name: grad.astype(np.float64) for name, grad in leaves(gradient).items()}
        changes = twin.update(grads, lr=lr, weight_decay=DECAY)
        state, _, _, metrics = chunk(PLAIN, state, batch[None], [lr])
        found.append(Update(
            params=leaves(state.params), metrics=jax.tree.map(lambda column: column[0], metrics),
            twin_params=dict(twin.params),
            twin_metrics={"train_loss": float(loss), "grad_l2": norm(grads), "update_rms": rms(changes),
                          "grad_l1": sum(np.abs(grad).sum() for grad in grads.values()),
                          "param_rms": rms(twin.params)}))
    return found


def leaves_of_infos(config):
    paths = jax.tree_util.tree_leaves_with_path(model.param_infos(config))
    return {jax.tree_util.keystr(path, simple=True, separator="."): info for path, info in paths}


def norm(arrays):
    return np.sqrt(sum(np.sum(array**2) for array in arrays.values()))


def rms(arrays):
    return norm(arrays) / np.sqrt(sum(array.size for array in arrays.values()))


@pytest.mark.parametrize("index", range(3))
def test_update_equals_gradient_and_numpy_adamw(updates, index):
    for name, array in updates[index].params.items():
        # Float32 gradients agree to about 1e-6 of their size, a step is of the size of the rate, 0.03.
        np.testing.assert_allclose(array, updates[index].twin_params[name], rtol=1e-6, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("name", SCALARS)
def test_metric_equals_its_definition(updates, name):
    found = [getattr(update.metrics, name) for update in updates]
    # Sums of some hundred float32 numbers.
    np.testing.assert_allclose(found, [update.twin_metrics[name] for update in updates], rtol=5e-6)


def test_the_gradients_above_were_clipped(updates):
    # Else the norms before and after clipping would be the same, and the tests above would not tell.
    assert min(update.metrics.grad_l2 for update in updates) > 2 * PLAIN.clip_norm


def test_step_counts_the_updates():
    state, _, made, _ = chunk(PLAIN, fresh(PLAIN), tokens(3, BATCH, SEQUENCE + 1), [0.01] * 3)
    assert (int(state.step), made) == (3, 3)


def test_accumulation_over_four_equals_one_batch():
    batch = tokens(1, BATCH, SEQUENCE + 1)
    whole, _, _, metrics = chunk(PLAIN, fresh(PLAIN), batch, [0.02])
    split, _, _, split_metrics = chunk(SPLIT, fresh(PLAIN), batch, [0.02])
    np.testing.assert_allclose(jax.tree.leaves(split_metrics), jax.tree.leaves(metrics),
                               rtol=5e-6)  # the same sums in another order
    for name, array in leaves(whole.params).items():
        np.testing.assert_allclose(leaves(split.params)[name], array, rtol=1e-6, atol=2e-6, err_msg=name)


def test_heldout_loss_is_the_mean_over_batches_without_z_loss():
    batches, params = tokens(2, BATCH, SEQUENCE + 1), fresh(PLAIN).params
    expected = np.mean([reference_loss(params, batch, PLAIN.z_loss)[0] for batch in batches])
    assert float(make_step(PLAIN).heldout_loss(params, batches)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("tied", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_loss_in_chunks_is_the_plain_one(tied):
    params, batch = None, tokens(BATCH, SEQUENCE + 1)
    found = []
    for chunks in (1, None, 5):
        shape = dataclasses.replace(PLAIN.model, tied=tied, compute=model.ComputeConfig(loss_chunks=chunks))
        config = dataclasses.replace(PLAIN, model=shape)
        params = model.init(shape, 0) if params is None else params
        both = jax.jit(jax.value_and_grad(functools.partial(loss_fn, config=config), has_aux=True))
        found.append(jax.device_get(both(params, batch, None)))
    (plain, gradient), *others = found
    for values, grads in others:
        np.testing.assert_allclose(values, plain, rtol=5e-7)
        for name, array in leaves(grads).items():
            expected = leaves(gradient)[name]
            np.testing.assert_allclose(array, expected, rtol=0, atol=2e-6 * np.abs(expected).max(), err_msg=name)


# How calls are cut.

@pytest.fixture(scope="module")
def eight():
    """Eight updates with dropout in one call."""
    return chunk(DROPOUT, fresh(DROPOUT), tokens(8, BATCH, SEQUENCE + 1), np.linspace(0.01, 0.02, 8))


@pytest.mark.parametrize("parts", [(5, 3), (1,) * 8, (2, 6)], ids=str)
def test_where_calls_are_cut_changes_no_bit(eight, parts):
    batches, lrs = tokens(8, BATCH, SEQUENCE + 1), np.linspace(0.01, 0.02, 8)
    state, columns, first = fresh(DROPOUT), [], 0
    for count in parts:
        state, _, made, metrics = chunk(DROPOUT, state, batches[first:first + count], lrs[first:first + count])
        columns.append([column[:made] for column in jax.tree.leaves(metrics)])
        first += count
    assert_same_bits(state, eight[0])
    for name, pieces, whole in zip(SCALARS, zip(*columns, strict=True), jax.tree.leaves(eight[3]), strict=True):
        np.testing.assert_array_equal(np.concatenate(pieces), whole, err_msg=name)


def test_what_lies_behind_the_count_is_not_read(eight):
    batches, lrs = tokens(8, BATCH, SEQUENCE + 1), np.linspace(0.01, 0.02, 8)
    batches[5:], lrs[5:] = -1, np.nan
    state, healthy, made, metrics = chunk(DROPOUT, fresh(DROPOUT), batches, lrs, count=5)
    assert (healthy, made, int(state.step)) == (True, 5, 5)
    np.testing.assert_array_equal(metrics.train_loss[:5], eight[3].train_loss[:5])


def losses_of_one_batch(seed):
    """Losses of the same batch and the same parameters at updates 0 to 3: only the masks differ."""
    batches = np.broadcast_to(tokens(1, BATCH, SEQUENCE + 1), (4, BATCH, SEQUENCE + 1))
    return chunk(DROPOUT, fresh(DROPOUT), batches, [0.0] * 4, seed=seed)[3].train_loss[:4]


def test_dropout_masks_differ_between_updates_and_seeds():
    assert len(set(losses_of_one_batch(0)) | set(losses_of_one_batch(1))) == 8


def test_dropout_keys_are_folded_from_seed_purpose_step_and_micro_batch():
    @jax.jit
    def loss(params, batch_BxS, key):
        logits = model.apply(MODEL, params, batch_BxS[:, :-1], dropout_key=key).reshape(*batch_BxS[:, 1:].shape, -1)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), batch_BxS[:, 1:, None], -1))

    # Both micro-batches are the same, so that only their masks differ; the rate is 0.
    half = tokens(1, BATCH // 2, SEQUENCE + 1)
    found = chunk(DROPOUT, fresh(DROPOUT), np.tile(half, (3, 2, 1)), [0.0] * 3, seed=7)[3].train_loss[:3]
    for step in range(3):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(7), 1), step)
        expected = np.mean([loss(fresh(DROPOUT).params, half[0], jax.random.fold_in(key, i)) for i in range(2)])
        assert found[step] == pytest.approx(expected, rel=1e-6)


def test_dropout_masks_are_the_same_in_the_same_update():
    np.testing.assert_array_equal(losses_of_one_batch(0), losses_of_one_batch(0))


# Divergence.

@pytest.mark.parametrize("bad_lr", [np.nan, np.inf, 1e38], ids=str)
def test_a_chunk_stops_at_its_first_bad_update(eight, bad_lr):
    lrs = np.linspace(0.01, 0.02, 8)
    lrs[3] = bad_lr
    state, healthy, made, metrics = chunk(DROPOUT, fresh(DROPOUT), tokens(8, BATCH, SEQUENCE + 1), lrs)
    assert (healthy, made, int(state.step)) == (False, 4, 4)
    np.testing.assert_array_equal(metrics.param_rms[:3], eight[3].param_rms[:3])
    assert not np.isfinite(metrics.param_rms[3]) and not metrics.param_rms[4:].any()


def test_a_bad_loss_stops_at_once():
    state = fresh(DROPOUT)
    state = state._replace(params=jax.tree.map(lambda x: x * jnp.nan, state.params))
    _, healthy, made, metrics = chunk(DROPOUT, state, tokens(8, BATCH, SEQUENCE + 1), [0.01] * 8)
    assert (healthy, made) == (False, 1) and np.isnan(metrics.train_loss[0])


def test_after_a_bad_update_a_call_does_nothing():
    before = fresh(DROPOUT)
    state, healthy, made, metrics = chunk(DROPOUT, fresh(DROPOUT), tokens(8, BATCH, SEQUENCE + 1), [0.01] * 8,
                                          healthy=False)
    assert (healthy, made) == (False, 0) and not np.any(jax.tree.leaves(metrics))
    assert_same_bits(state, before)
