import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.model.matmul import matmul, transposed_product
from jaxlm.params.activations import transposed


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def plain(x, weights):
    return x @ weights.astype(x.dtype)


def gradients(product, x, weights, dy):
    return jax.vjp(product, x, weights)[1](dy)


# Narrower before the product, after it, and neither.
@pytest.mark.parametrize(("width", "inner"), [(12, 20), (20, 12), (16, 16)])
def test_value_and_gradients_are_those_of_the_plain_product(width, inner):
    x, weights, dy = draw(48, width), draw(width, inner, seed=1), draw(48, inner, seed=2)
    np.testing.assert_array_equal(jax.jit(matmul)(x, weights), jax.jit(plain)(x, weights))
    for found, expected in zip(jax.jit(functools.partial(gradients, matmul))(x, weights, dy),
                               gradients(plain, *(np.float64(a) for a in (x, weights, dy))), strict=True):
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(expected).max())


def test_products_are_taken_in_the_dtype_of_the_activations_and_gradients_come_in_that_of_the_weights():
    x, weights = draw(8, 4).astype(jnp.bfloat16), draw(4, 6)
    y, pull = jax.vjp(matmul, x, weights)
    dx, dweights = pull(y)
    assert (y.dtype, dx.dtype, dweights.dtype) == (jnp.bfloat16, jnp.bfloat16, jnp.float32)


def test_rows_of_two_axes_and_mapped_sequences_have_the_same_gradients():
    x, weights, dy = draw(3, 5, 4), draw(4, 6, seed=1), draw(3, 5, 6, seed=2)
    expected = gradients(plain, x, weights, dy)
    mapped = jax.vmap(functools.partial(gradients, matmul), (0, None, 0))(x, weights, dy)
    np.testing.assert_allclose(mapped[0], expected[0], atol=1e-5)
    np.testing.assert_allclose(mapped[1].sum(0), expected[1], atol=1e-5)
    for found, other in zip(gradients(matmul, x, weights, dy), expected, strict=True):
        np.testing.assert_array_equal(found, other)


@pytest.mark.parametrize(("width", "inner"), [(4, 24), (24, 4)])
def test_only_the_narrower_factor_is_transposed(width, inner):
    # What is transposed on its own stands behind a barrier, else XLA takes the slow product after all.
    program = jax.jit(transposed_product).lower(draw(64, width), draw(64, inner)).as_text()
    assert "stablehlo.optimization_barrier" in program
    assert "tensor<64x4xf32>) -> tensor<4x64xf32>" in program and "tensor<24x64xf32>" not in program


NATIVE = jax.__version_info__ >= (0, 12)


@pytest.mark.parametrize(("dtype", "behind"), [
    ("float32", "3x6x4xf32"), ("bfloat16", "72xbf16" if NATIVE else "3x6x4xbf16")])
def test_a_transposed_copy_is_flat_behind_its_barrier_in_native_bfloat16(dtype, behind):
    x = draw(3, 4, 6).astype(dtype)
    np.testing.assert_array_equal(jax.jit(transposed)(x), x.swapaxes(1, 2))
    barrier, = (line for line in jax.jit(transposed).lower(x).as_text().splitlines() if "optimization_barrier" in line)
    assert barrier.endswith(f"tensor<{behind}>")


@pytest.mark.parametrize(("width", "inner"), [(12, 20), (20, 12)])
def test_bfloat16_gradients_are_those_of_the_plain_product(width, inner):
    x, weights, dy = (a.astype(jnp.bfloat16) for a in (draw(48, width), draw(width, inner, seed=1), draw(48, inner, seed=2)))
    for found, expected in zip(jax.jit(functools.partial(gradients, matmul))(x, weights, dy),
                               gradients(plain, *(np.float64(a) for a in (x, weights, dy))), strict=True):
        assert found.dtype == jnp.bfloat16
        np.testing.assert_allclose(found.astype(jnp.float32), expected, rtol=2**-8, atol=2e-6 * np.abs(expected).max())
