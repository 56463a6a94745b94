"""Newton-Schulz: singular values near 1 for every preset, both forms, bfloat16, and the ends of the number range."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.config import ConfigError
from jaxlm.optim import orthogonalize
from jaxlm.optim.newton_schulz import COEFFICIENTS, safe_norm

# Smallest and largest singular value after so many steps, for values in [0.02, 1] of the norm.
RANGES = {"jordan": (5, 0.68, 1.14), "polar_express": (8, 0.999, 1.001), "polar_express_5": (5, 0.8, 1.2),
          "dion": (5, 0.8, 1.2), "modula": (6, 0.7, 1.25)}


def matrices(shape, smallest=0.02, seed=0):
    """Random matrices whose singular values fall from 1 to `smallest`."""
    rng = np.random.default_rng(seed)
    u, _, vt = np.linalg.svd(rng.normal(size=shape), full_matrices=False)
    return np.float32((u * np.geomspace(1, smallest, min(shape[-2:]))) @ vt)


def in_float64(x, rows):
    """The iteration matrix by matrix, one Gram matrix a step."""
    if x.ndim == 3:
        return np.stack([in_float64(slice_, rows) for slice_ in x])
    x = np.float64(x) / (np.linalg.norm(np.float64(x)) + 1e-7)
    for a, b, c in rows:
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


@pytest.mark.parametrize("name", COEFFICIENTS)
def test_presets_bring_singular_values_near_one(name):
    steps, low, high = RANGES[name]
    x = matrices((12, 16), smallest=0.1)
    values = np.linalg.svd(orthogonalize(x, steps=steps, coefficients=name), compute_uv=False)
    assert low <= values.min()
    assert values.max() <= high


def test_many_convergent_steps_are_the_polar_factor():
    x = matrices((3, 8, 20), smallest=1e-3)
    u, _, vt = np.linalg.svd(x, full_matrices=False)
    np.testing.assert_allclose(orthogonalize(x, steps=12, coefficients="polar_express"), u @ vt, atol=1e-4)


@pytest.mark.parametrize("shape", [(12, 12), (12, 20), (20, 12), (8, 64), (64, 8), (3, 8, 64), (2, 64, 8)])
@pytest.mark.parametrize("steps", [1, 3, 5, 8])
def test_both_forms_are_the_plain_iteration(shape, steps):
    x = matrices(shape, smallest=1e-5)
    rows = [COEFFICIENTS["polar_express"][min(step, 7)] for step in range(steps)]
    ours = orthogonalize(x, steps=steps, coefficients="polar_express")
    # Eight steps raise singular values of 1e-5, and their rounding, a thousandfold.
    np.testing.assert_allclose(ours, in_float64(x, rows), atol=1e-4 if steps == 8 else 3e-5)


def test_bfloat16_differs_by_its_rounding_alone():
    x = matrices((2, 16, 48))
    rows = COEFFICIENTS["jordan"] * 5
    ours = orthogonalize(x, dtype="bfloat16")
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, in_float64(x, rows), atol=0.05)


@pytest.mark.parametrize("size", [2.0**-17, 2.0**60, 2.0**83])  # powers of two, which round nothing
def test_size_does_not_matter(size):
    x = matrices((2, 8, 20))
    ours = orthogonalize(jnp.asarray(x * np.float32(size)), eps=1e-30)
    np.testing.assert_allclose(ours, orthogonalize(x, eps=1e-30), atol=1e-5)


def test_zero_stays_zero_and_nan_spreads_over_its_matrix_alone():
    x = matrices((3, 8, 20))
    x[0], x[1, 2, 3] = 0, np.nan
    ours = np.asarray(jax.jit(orthogonalize)(x))
    np.testing.assert_array_equal(ours[0], 0)
    assert np.isnan(ours[1]).all()
    assert np.isfinite(ours[2]).all()


def test_safe_norm():
    x = np.float32([[3e30, 4e30], [3, 4], [0, 0], [np.inf, 1], [np.nan, 1]])
    np.testing.assert_allclose(safe_norm(jnp.asarray(x), axis=-1)[:, 0], [5e30, 5, 0, np.inf, np.nan], rtol=1e-6)


@pytest.mark.parametrize(("options", "message"), [
    ({"coefficients": "jordon"}, "coefficients = 'jordon': no such preset.*jordan"),
    ({"coefficients": ((1.5, -0.5),)}, "coefficients = .*: must be rows of three"),
    ({"steps": 0}, "steps = 0: must be a whole number of at least 1"),
    ({"eps": 0.0}, "eps = 0.0: must be positive")])
def test_bad_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        orthogonalize(jnp.ones((2, 2)), **options)
