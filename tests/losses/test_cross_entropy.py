import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.losses import cross_entropy

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(12, 7)) * 3
TARGETS = RNG.integers(0, 7, 12)


def reference(logits, targets):
    """Returns log Z (N,) and the cross-entropy in float64."""
    top = logits.max(axis=1)
    log_z = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    return log_z, np.mean(log_z - logits[np.arange(len(targets)), targets])


def test_equals_float64():
    logits = LOGITS.astype(np.float32)
    log_z, expected = reference(logits.astype(np.float64), TARGETS)
    loss, penalty = cross_entropy(jnp.asarray(logits), jnp.asarray(TARGETS), z_loss=1e-4)
    # float32 with sums of 7 terms: a few units of 6e-8.
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    np.testing.assert_allclose(penalty, 1e-4 * np.mean(log_z**2), rtol=1e-6)


def test_uniform_logits_cost_log_vocabulary():
    loss, penalty = cross_entropy(jnp.zeros((3, 50)), jnp.zeros(3, jnp.int32))
    np.testing.assert_allclose(loss, np.log(50), rtol=1e-6)
    assert penalty == 0.0


@pytest.mark.parametrize("offset", [1e4, -1e4])
def test_large_logits_do_not_overflow(offset):
    # Whole logits, exact in float32 after the shift; at 1e4 one unit of float32 is 1e-3.
    logits = np.round(LOGITS)
    _, expected = reference(logits, TARGETS)
    loss, _ = cross_entropy(jnp.asarray(logits + offset, jnp.float32), jnp.asarray(TARGETS))
    np.testing.assert_allclose(loss, expected, atol=1e-3)


def test_gradient_is_softmax_minus_one_hot():
    gradient = jax.grad(lambda x: cross_entropy(x, jnp.asarray(TARGETS))[0])(jnp.asarray(LOGITS, jnp.float32))
    log_z, _ = reference(LOGITS, TARGETS)
    expected = (np.exp(LOGITS - log_z[:, None]) - np.eye(7)[TARGETS]) / 12
    np.testing.assert_allclose(gradient, expected, atol=1e-7)  # entries up to 0.08, float32


def test_z_loss_gradient():
    weight = 0.3
    gradient = jax.grad(lambda x: cross_entropy(x, jnp.asarray(TARGETS), z_loss=weight)[1])(
        jnp.asarray(LOGITS, jnp.float32))
    log_z, _ = reference(LOGITS, TARGETS)
    expected = 2 * weight * log_z[:, None] * np.exp(LOGITS - log_z[:, None]) / 12
    np.testing.assert_allclose(gradient, expected, rtol=5e-6, atol=1e-8)  # exp of a float32 difference


def test_bfloat16_logits_are_summed_in_float32():
    logits = jnp.asarray(LOGITS, jnp.bfloat16)
    loss, _ = cross_entropy(logits, jnp.asarray(TARGETS))
    _, expected = reference(np.asarray(logits, np.float64), TARGETS)
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


@pytest.mark.parametrize("bad", [-1, 7])
def test_target_outside_the_vocabulary_gives_nan(bad):
    loss, _ = cross_entropy(jnp.zeros((2, 7)), jnp.array([0, bad]))
    assert np.isnan(loss)
