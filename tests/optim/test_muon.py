"""Muon as a run's configuration: which parameters it takes, its step against NumPy, stacks by layer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlm.config import ConfigError
from jaxlm.optim import Muon, make_optimizer, set_rates
from jaxlm.params import ParamInfo

INFOS = {
    "kernel": ParamInfo(shape=(2, 6, 4), axes=("layers", "width", "ff"), kind="matrix", stack_axes=1),
    "table": ParamInfo(shape=(5, 6), axes=("vocab", "width"), kind="embedding"),
    "gain": ParamInfo(shape=(6,), axes=("width",), kind="vector"),
}
LR, DECAY = 0.1, 0.3


def arrays(seed):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=info.shape).astype(np.float32) for name, info in INFOS.items()}


def one_update(config, params, grads, infos=INFOS):
    tx = make_optimizer(config, infos, clip_norm=None)

    @jax.jit
    def update(params, grads):
        state = set_rates(tx.init(params), lr=jnp.float32(LR), weight_decay=jnp.float32(DECAY))
        updates, _ = tx.update(grads, state, params)
        return optax.apply_updates(params, updates)

    return jax.device_get(update(params, grads))


def orthogonalised(matrix, steps):
    """Newton-Schulz in float64 with Jordan's coefficients; a wide matrix is iterated as it stands."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = np.float64(matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T)
    x /= np.linalg.norm(x)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


@pytest.mark.parametrize("rms", [0.2, None])
def test_each_layer_takes_the_orthogonalised_step(rms):
    params, grads = arrays(0), arrays(1)
    new = one_update(Muon(rms=rms), params, grads)["kernel"]
    for layer in range(2):
        # The first Nesterov momentum is a multiple of the gradient, and the direction has no length.
        step = orthogonalised(grads["kernel"][layer], steps=5)
        scale = rms * np.sqrt(max(step.shape)) if rms else np.sqrt(max(1.0, step.shape[1] / step.shape[0]))
        expected = params["kernel"][layer] * (1 - LR * DECAY) - LR * scale * step
        # Five steps of float32 products of order one.
        np.testing.assert_allclose(new[layer], expected, atol=2e-5)


def test_embeddings_and_vectors_take_adam_without_decay():
    params, grads = arrays(0), arrays(1)
    new = one_update(Muon(), params, grads)
    for name in ("table", "gain"):
        # Nesterov Adam's first step is nearly the sign: (b1 / (1 + b1) + 1 - b1 ...) cancels to one sign each.
        step = (params[name] - new[name]) / LR
        np.testing.assert_array_equal(np.sign(step), np.sign(grads[name]))
        assert np.all(np.abs(step) < 2.0)
    still = one_update(Muon(), params, jax.tree.map(np.zeros_like, grads))
    np.testing.assert_array_equal(still["gain"], params["gain"])
    np.testing.assert_array_equal(still["table"], params["table"])
    np.testing.assert_allclose(still["kernel"], params["kernel"] * (1 - LR * DECAY), rtol=1e-6)


@pytest.mark.parametrize(("field", "value"), [("beta", 1.0), ("ns_steps", 0), ("rms", 0.0), ("eps", 0.0), ("weight_decay", -1.0)])
def test_a_value_out_of_range_is_named(field, value):
    with pytest.raises(ConfigError, match=f"optimizer.{field} = {value}"):
        Muon(**{field: value})
