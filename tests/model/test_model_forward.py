import dataclasses
import functools
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import model_reference

from jaxlm import losses
from jaxlm.config import ConfigError
from jaxlm.model import ComputeConfig, ModelConfig, apply, hidden, init, param_infos, unembed
from jaxlm.model.dropout import dropout

BASE = ModelConfig(vocabulary=32, sequence=12, layers=2, width=16, heads=4)
TOKENS = np.random.default_rng(0).integers(0, 32, (2, 12)).astype(np.int32)
VARIANTS = {
    "llama": BASE,
    "grouped, qk-norm": dataclasses.replace(BASE, kv_heads=2, qk_norm=True, ff=24),
    "nanodo": dataclasses.replace(BASE, norm="layernorm", positions="learned", activation="gelu", tied=True),
    "one kv head, qk layernorm": dataclasses.replace(BASE, norm="layernorm", kv_heads=1, head_size=6,
                                                     qk_norm=True),
}
forward = jax.jit(apply, static_argnums=0)
# Compiles in a third of the time, for tests that do not compare bits.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
quick_forward = quick_jit(apply, static_argnums=0)


@functools.cache
def parameters(config):
    """Returns parameters of the size that `init` gives, with gains that are not all 1."""
    generator = np.random.default_rng(1)

    def draw(info):
        if info.kind == "vector":
            return jnp.asarray(generator.uniform(0.5, 1.5, info.shape), jnp.float32)
        deviation = 16**-0.5 if info.kind == "embedding" else info.fan_in**-0.5
        return jnp.asarray(generator.normal(scale=deviation, size=info.shape), jnp.float32)

    return jax.tree.map(draw, param_infos(config))


@pytest.mark.parametrize("name", VARIANTS)
def test_equals_the_equations_in_float64(name):
    config = VARIANTS[name]
    logits = forward(config, parameters(config), TOKENS)
    assert logits.dtype == jnp.float32
    # Logits of order 1 after some ten float32 matrix products of 16 to 48 terms.
    np.testing.assert_allclose(logits, model_reference.logits(config, parameters(config), TOKENS), atol=2e-5)


@pytest.mark.parametrize("name", VARIANTS)
def test_later_tokens_leave_earlier_logits_alone_bit_for_bit(name):
    config = VARIANTS[name]
    before = forward(config, parameters(config), TOKENS).reshape(2, 12, 32)
    for t in (1, 7, 11):
        changed = TOKENS.copy()
        changed[:, t] = (changed[:, t] + 1) % 32
        after = forward(config, parameters(config), changed).reshape(2, 12, 32)
        np.testing.assert_array_equal(before[:, :t], after[:, :t])
        assert not np.array_equal(before[:, t], after[:, t])


@functools.cache
def loss_and_gradient(scan_layers, policy):
    remat = {} if policy is None else {"remat": True, "remat_policy": policy}
    config = dataclasses.replace(BASE, compute=ComputeConfig(scan_layers=scan_layers, **remat))

    def loss(params):
        return losses.cross_entropy(apply(config, params, TOKENS), TOKENS.reshape(-1))[0]

    return quick_jit(jax.value_and_grad(loss))(parameters(BASE))


@pytest.mark.parametrize(("scan_layers", "policy"), [
    (False, "attention"), (True, None), (True, "block"),
    *(pytest.param(False, policy, marks=pytest.mark.slow) for policy in ("block", "projections"))])
def test_scan_and_remat_change_no_number_beyond_rounding(scan_layers, policy):
    # The same float32 operations in another fusion: a few units in the last place (6e-8).
    loss, gradient = loss_and_gradient(scan_layers, policy)
    plain_loss, plain_gradient = loss_and_gradient(False, None)
    np.testing.assert_allclose(loss, plain_loss, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6 * np.abs(b).max()),
                 gradient, plain_gradient)


def test_copied_kv_heads_reproduce_full_attention():
    config = dataclasses.replace(BASE, kv_heads=2)
    params = parameters(config)
    attention = params["blocks"]["attention"]
    copied = {name: jnp.repeat(attention[name].reshape(2, 16, 2, 4), 2, axis=2).reshape(2, 16, 16)
              for name in ("key", "value")}
    full = params | {"blocks": params["blocks"] | {"attention": attention | copied}}
    # The same sums, compiled in two shapes; logits up to 4.
    np.testing.assert_allclose(quick_forward(config, params, TOKENS), forward(BASE, full, TOKENS), atol=1e-5)


def test_rope_knows_differences_of_positions_only():
    # One layer: a sequence of one repeated token has the same attention at every position.
    config = dataclasses.replace(BASE, layers=1)
    logits = quick_forward(config, parameters(config), jnp.full((1, 12), 5))
    np.testing.assert_allclose(logits, jnp.broadcast_to(logits[:1], logits.shape), atol=1e-5)


def test_rope_runs_beyond_the_stated_sequence():
    tokens = np.zeros((1, 20), np.int32)
    assert jax.eval_shape(lambda: apply(BASE, parameters(BASE), tokens)).shape == (20, 32)


def test_hidden_and_unembed_make_up_apply():
    params = parameters(BASE)
    x_NxD = quick_jit(hidden, static_argnums=0)(BASE, params, TOKENS)
    assert x_NxD.shape == (24, 16)
    # Two programs against one: rounding.
    np.testing.assert_allclose(unembed(BASE, params, x_NxD), forward(BASE, params, TOKENS), atol=1e-5)


def test_bfloat16_compute_is_near_float32():
    config = dataclasses.replace(BASE, compute=ComputeConfig(dtype="bfloat16"))
    logits = quick_forward(config, parameters(BASE), TOKENS)
    difference = np.linalg.norm(logits - forward(BASE, parameters(BASE), TOKENS))
    # 8 bits of mantissa: each of some thirty roundings in a row adds at most 0.4 %.
    assert 0 < difference < 0.05 * np.linalg.norm(logits)


def test_bfloat16_is_for_activations_only():
    config = dataclasses.replace(BASE, compute=ComputeConfig(dtype="bfloat16"))
    params = parameters(BASE)
    gradient = jax.eval_shape(jax.grad(lambda p: apply(config, p, TOKENS).mean()), params)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(gradient)} == {"float32"}
    assert jax.eval_shape(lambda: apply(config, params, TOKENS)).dtype == jnp.float32
    assert jax.eval_shape(lambda: hidden(config, params, TOKENS)).dtype == jnp.bfloat16


DROPPING = dataclasses.replace(BASE, dropout=0.5)


def test_dropout_depends_on_its_key_only():
    params, keys = parameters(BASE), [jax.random.key(seed) for seed in (0, 0, 1)]
    first, again, other = (quick_forward(DROPPING, params, TOKENS, dropout_key=key) for key in keys)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_dropout_masks_are_the_same_in_a_scan():
    scanned = dataclasses.replace(DROPPING, compute=ComputeConfig(scan_layers=True, remat=True))
    params, key = parameters(BASE), jax.random.key(0)
    # Rounding of logits up to 8; one other mask would change them by order 1.
    np.testing.assert_allclose(quick_forward(scanned, params, TOKENS, dropout_key=key),
                               quick_forward(DROPPING, params, TOKENS, dropout_key=key), atol=2e-5)


def test_dropout_zeroes_its_share_and_keeps_the_mean():
    kept = dropout(jnp.ones(20_000), 0.25, jax.random.key(0))
    assert set(np.unique(kept)) == {np.float32(0), np.float32(4 / 3)}
    # The standard error of the mean is sqrt(p / (1 - p) / 20000) = 0.004; 4 of them.
    assert np.mean(kept) == pytest.approx(1, abs=0.016)


def test_dropout_is_off_without_a_key():
    program = jax.make_jaxpr(lambda: apply(DROPPING, parameters(BASE), TOKENS))()
    assert "random" not in str(program) and "threefry" not in str(program)


def test_a_key_does_nothing_at_rate_zero():
    params = parameters(BASE)
    program = jax.make_jaxpr(lambda key: apply(BASE, params, TOKENS, dropout_key=key))(jax.random.key(0))
    assert "random" not in str(program) and "threefry" not in str(program)


def test_token_outside_the_vocabulary_gives_nan():
    tokens = TOKENS.copy()
    tokens[0, 0] = 32
    assert np.isnan(forward(BASE, parameters(BASE), tokens)[0]).all()


def test_first_use_inside_jit_leaks_no_tracer():
    # A configuration that no other test uses, so that its graph is made inside the trace.
    config = dataclasses.replace(BASE, vocabulary=33)
    logits = jax.eval_shape(lambda: apply(config, init(config, 0), TOKENS))
    assert logits.shape == (24, 33)
    params = parameters(config)
    assert jax.eval_shape(lambda: hidden(config, params, TOKENS)).shape == (24, 16)
    assert unembed(config, params, jnp.zeros((1, 16))).shape == (1, 33)


@pytest.mark.parametrize(("tokens", "words"), [
    (np.zeros(4, np.int32), "tokens.shape = (4,): must be (batch, time)"),
    (np.zeros((1, 4), np.float32), "tokens.dtype = 'float32'"),
    (np.zeros((1, 13), np.int32), "must not exceed model.sequence = 12"),
])
def test_wrong_tokens_are_refused(tokens, words):
    config = VARIANTS["nanodo"]
    with pytest.raises(ConfigError) as error:
        apply(config, parameters(config), tokens)
    assert words in str(error.value)


def test_parameters_of_another_model_are_refused():
    untied = dataclasses.replace(VARIANTS["nanodo"], tied=False)
    with pytest.raises(ConfigError, match=r"params\.head\.kernel is missing: must have shape \(16, 32\)"):
        apply(untied, parameters(VARIANTS["nanodo"]), TOKENS)
    with pytest.raises(ConfigError, match=r"params\.blocks\.attention\.key has shape \(2, 16, 16\)"):
        apply(dataclasses.replace(BASE, kv_heads=2), parameters(BASE), TOKENS)
