"""Statistics by layer, each on inputs whose answer is known, and the probe against the model itself."""

import dataclasses
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from jaxlm.config import ConfigError
from jaxlm.model import ComputeConfig, ModelConfig, init, probe
from jaxlm.model.attention import scores
from jaxlm.model.layer_statistics import attention_statistics, residual_statistics

BASE = ModelConfig(vocabulary=32, sequence=12, layers=2, width=16, heads=4)
TOKENS = np.random.default_rng(0).integers(0, 32, (3, 12)).astype(np.int32)
VARIANTS = {
    "llama": BASE,
    "grouped, qk-norm": dataclasses.replace(BASE, kv_heads=2, qk_norm=True),
    "nanodo": dataclasses.replace(BASE, norm="layernorm", positions="learned", activation="gelu", tied=True),
}


# Attention.

def test_equal_scores_have_entropy_one():
    largest, entropy = attention_statistics(jnp.full((2, 2, 3 * 5, 5), 0.7))
    assert largest == pytest.approx(0.7, rel=1e-6) and entropy == pytest.approx(1.0, rel=1e-6)


def test_one_key_alone_has_entropy_zero():
    assert attention_statistics(100.0 * jnp.eye(6)[None, None])[1] == pytest.approx(0.0, abs=1e-6)


def test_entropy_of_known_weights():
    # Query 1 sees weights (3/4, 1/4), query 2 (1/2, 1/4, 1/4); query 0, which sees one key, does not count.
    weights = np.array([[1, 1, 1], [3, 1, 1], [2, 1, 1]])
    expected = np.mean([-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)) / np.log(2), 1.5 * np.log(2) / np.log(3)])
    assert attention_statistics(jnp.log(weights)[None, None])[1] == pytest.approx(expected, rel=1e-6)


def test_entropy_is_of_the_lowest_head_and_the_mean_over_the_batch():
    sharp, flat = 100.0 * np.eye(4), np.zeros((4, 4))
    # Two heads in one group: the first sharp in one sequence of two, the second flat in both.
    both = np.stack([np.concatenate([sharp, flat]), np.concatenate([flat, flat])])[:, None]
    assert attention_statistics(jnp.asarray(both))[1] == pytest.approx(0.5, rel=1e-6)


def test_keys_to_come_do_not_count():
    values = np.tril(np.ones((4, 4))) + 50 * np.triu(np.ones((4, 4)), 1)
    values[2, 1] = -3.0
    assert attention_statistics(jnp.asarray(values)[None, None])[0] == 3.0


def test_largest_logit_of_known_queries_and_keys():
    q, k = np.zeros((1, 3, 4, 16)), np.zeros((1, 3, 2, 16))
    q[0, 2, 3, 5], k[0, 1, 1, 5] = 8.0, -10.0  # head 3 reads group 1
    assert attention_statistics(scores(jnp.asarray(q), jnp.asarray(k)))[0] == pytest.approx(80 / 4, rel=1e-6)


# Residual stream.

def test_gaussian_channels_have_no_excess_kurtosis():
    x = 3 + 2 * jax.random.normal(jax.random.key(0), (400, 4096))
    rms, kurtosis = residual_statistics(x)
    # Within a row: bias about -6 / 4096, standard error of the mean of 400 rows .004.
    assert rms == pytest.approx(np.sqrt(13), rel=2e-3) and kurtosis == pytest.approx(0, abs=0.015)


@pytest.mark.parametrize("width", [8, 100])
def test_one_outlier_channel_has_the_kurtosis_of_a_bernoulli(width):
    x = np.zeros((5, width))
    x[:, 3] = -7.0
    p = 1 / width
    expected = (1 - 6 * p * (1 - p)) / (p * (1 - p))  # about width - 7
    rms, kurtosis = residual_statistics(jnp.asarray(x))
    assert rms == pytest.approx(7 / np.sqrt(width), rel=1e-6) and kurtosis == pytest.approx(expected, rel=1e-4)


# The probe.

def reference(config, params, tokens):
    """(largest logit, residual rms) by layer, in NumPy float64, for two norms and rope or a table."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    batch, time, heads = *tokens.shape, config.heads
    groups, size = config.kv_groups, config.size_per_head

    def norm(x, scale):
        x = x - x.mean(-1, keepdims=True) if config.norm == "layernorm" else x
        return scale * x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)

    def rotate(x):
        angles = np.arange(time)[:, None, None] * 1e4 ** (-np.arange(size // 2) / (size // 2))
        a, b = x[..., :size // 2], x[..., size // 2:]
        return np.concatenate([a * np.cos(angles) - b * np.sin(angles), b * np.cos(angles) + a * np.sin(angles)], -1)

    x = p["embedding"]["tokens"][tokens]
    if config.positions == "learned":
        x = x + p["embedding"]["positions"][:time]
    found = []
    for layer in range(config.layers):
        block = jax.tree.map(lambda leaf: leaf[layer], p["blocks"])
        a, f = block["attention"], block["feed_forward"]
        y = norm(x, block["attention_norm"]["scale"])
        q, k, v = ((y @ a[n]).reshape(batch, time, -1, size) for n in ("query", "key", "value"))
        if config.qk_norm:
            q, k = norm(q, a["query_norm"]["scale"]), norm(k, a["key_norm"]["scale"])
        if config.positions == "rope":
            q, k = rotate(q), rotate(k)
        k, v = np.repeat(k, heads // groups, axis=2), np.repeat(v, heads // groups, axis=2)
        s = np.einsum("bihk,bjhk->bhij", q, k) / np.sqrt(size)
        past = np.tril(np.ones((time, time), bool))
        w = np.where(past, np.exp(s - s.max(-1, keepdims=True)), 0)
        w /= w.sum(-1, keepdims=True)
        x = x + np.einsum("bhij,bjhk->bihk", w, v).reshape(batch, time, -1) @ a["output"]
        y = norm(x, block["feed_forward_norm"]["scale"])
        h = y @ f["up"]
        if config.activation == "swiglu":
            g = y @ f["gate"]
            h = g / (1 + np.exp(-g)) * h
        else:
            h = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
        x = x + h @ f["down"]
        log_w = np.log(w, where=w > 0, out=np.zeros_like(w))
        entropy = -(w * log_w).sum(-1)[..., 1:] / np.log(np.arange(2, time + 1))
        centred = x - x.mean(-1, keepdims=True)
        kurtosis = (centred**4).mean(-1) / (centred**2).mean(-1) ** 2 - 3
        found.append((np.abs(s)[..., past].max(), entropy.mean((0, 2)).min(), np.sqrt((x**2).mean()), kurtosis.mean()))
    return np.array(found).T


@pytest.mark.parametrize("config", [pytest.param(VARIANTS["llama"], marks=pytest.mark.slow), *list(VARIANTS.values())[1:]],
                         ids=VARIANTS)
def test_probe_equals_numpy(config):
    params = init(config, 0)
    found = jax.jit(lambda params, tokens: probe(config, params, tokens))(params, TOKENS)
    # Float32 sums of tens of terms; fourth powers for the kurtosis.
    np.testing.assert_allclose(np.array(found), reference(config, params, TOKENS), rtol=3e-5, atol=1e-5)


@pytest.mark.slow
def test_probe_in_bfloat16_is_near_float32():
    half = dataclasses.replace(BASE, compute=ComputeConfig(dtype="bfloat16", scan_layers=True, remat=True))
    found, exact = probe(half, init(half, 0), TOKENS), probe(BASE, init(BASE, 0), TOKENS)
    assert all(column.dtype == jnp.float32 for column in found)
    # Eight bits of mantissa, some layers deep; the kurtosis is a difference of numbers near 3.
    np.testing.assert_allclose(np.array(found), np.array(exact), rtol=0.03, atol=0.05)


def test_probe_takes_no_dropout():
    dropped = dataclasses.replace(BASE, dropout=0.5)
    np.testing.assert_array_equal(np.array(probe(dropped, init(dropped, 0), TOKENS)),
                                  np.array(probe(BASE, init(BASE, 0), TOKENS)))


def test_one_token_has_no_entropy():
    found = probe(BASE, init(BASE, 0), TOKENS[:, :1])
    assert np.isnan(found.attention_entropy).all() and np.isfinite(found.attention_logit_max).all()


def test_probe_refuses_what_the_model_refuses():
    with pytest.raises(ConfigError, match="tokens.shape"):
        probe(BASE, init(BASE, 0), TOKENS[0])
