import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.losses import stablemax_cross_entropy, stablemax_log_probs

FOLDER = pathlib.Path(os.environ.get("JAXLM_GOLDEN", pathlib.Path(__file__).parents[3] / "shared" / "golden" / "optim"))
GOLDEN = FOLDER / "functions.npz"


def twin(logits):
    """log(s(x) / sum s(x)) in float64, s(x) = x + 1 or 1 / (1 - x)."""
    x = np.float64(logits)
    s = np.where(x >= 0, x + 1, 1 / (1 - np.minimum(x, 0)))
    return np.log(s / s.sum(axis=-1, keepdims=True))


@pytest.mark.skipif(not GOLDEN.exists(), reason="no golden files here")
def test_equals_the_recorded_values():
    with np.load(GOLDEN) as data:
        golden = {key.removeprefix("stablemax/"): data[key] for key in data.files if key.startswith("stablemax/")}
    logits, labels = jnp.asarray(golden["logits"]), jnp.asarray(golden["labels"])
    loss, grad = jax.value_and_grad(stablemax_cross_entropy)(logits, labels)
    np.testing.assert_allclose(stablemax_log_probs(logits), golden["logprobs"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(loss, golden["loss"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(grad, golden["grad"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(twin(golden["logits"]), golden["logprobs"], rtol=0, atol=1e-12)


def test_equals_its_twin():
    logits = np.float32(np.random.default_rng(0).normal(size=(5, 4, 9)) * np.logspace(-4, 4, 9))
    np.testing.assert_allclose(stablemax_log_probs(jnp.asarray(logits)), twin(logits), rtol=2e-6, atol=2e-6)


def test_gradient_at_zero_is_that_of_the_right_side():
    # s'(0) = 1 from both sides: log s has slope 1 there, so the gradient is softmax-like, 1/V - 1 at the target.
    grad = jax.grad(lambda x: stablemax_cross_entropy(x, jnp.zeros(1, int)))(jnp.zeros((1, 4)))
    np.testing.assert_allclose(grad, [[-0.75, 0.25, 0.25, 0.25]], rtol=1e-6)


def test_a_fitted_example_keeps_its_gradient():
    # Softmax of these logits is exactly one-hot in float32.
    logits = jnp.asarray([[200.0, 0.0, 0.0]])
    grad = jax.grad(lambda x: stablemax_cross_entropy(x, jnp.zeros(1, int)))(logits)
    assert (grad[0, 1:] > 1e-3).all()


def test_bad_targets_and_nan_give_nan():
    logits = jnp.zeros((2, 3))
    assert jnp.isnan(stablemax_cross_entropy(logits, jnp.asarray([0, 3])))
    assert jnp.isnan(stablemax_cross_entropy(logits, jnp.asarray([-1, 0])))
    assert jnp.isnan(stablemax_cross_entropy(logits.at[0, 0].set(jnp.nan), jnp.asarray([0, 1])))


def test_narrow_logits_are_widened():
    assert stablemax_cross_entropy(jnp.ones((2, 3), jnp.bfloat16), jnp.asarray([0, 1])).dtype == jnp.float32
