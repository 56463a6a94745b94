"""The loss in chunks against the one with all logits: values, gradients, memory; on meshes in test_cut_on_meshes.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.config import ConfigError
from jaxlm.losses import cross_entropy, cut_cross_entropy, default_chunks

RNG = np.random.default_rng(0)
N, D, V = 13, 5, 29
Z_LOSS = 0.1
TARGETS = jnp.asarray(RNG.integers(0, V, N))


def inputs(dtype=np.float64, *, columns=V, transposed=False):
    h, w = RNG.normal(size=(N, D)), RNG.normal(size=(columns, D))
    return jnp.asarray(h, dtype), jnp.asarray(w.T if transposed else w, dtype)


def dense(h, w, z_loss, *, targets=TARGETS, transposed=False, soft_cap=None):
    """(cross-entropy, z penalty) from the matrix of logits, in the dtype of the inputs."""
    logits = h @ (w if transposed else w.T)
    if soft_cap is not None:
        logits = soft_cap * jnp.tanh(logits / soft_cap)
    log_z = jax.nn.logsumexp(logits, axis=-1)
    return jnp.mean(log_z - logits[jnp.arange(N), targets]), z_loss * jnp.mean(log_z**2)


def gradients(fn, *arguments):
    """Gradients for hidden states and weights."""
    return jax.jit(jax.grad(fn, (0, 1)))(*arguments)


def assert_same(fn, expected, arguments, rtol):
    """Equal values, and gradients within `rtol` of the largest entry of each."""
    found, right = (jax.jit(jax.value_and_grad(f, range(len(arguments))))(*arguments) for f in (fn, expected))
    for left, leaf in zip(jax.tree.leaves(found), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(left, leaf, rtol=0, atol=rtol * max(float(jnp.abs(leaf).max()), 1e-30))


FORMS = [{}, {"transposed": True}, {"soft_cap": 1.5}, {"soft_cap": 2.0, "transposed": True}]


# 4 chunks of 4 rows hold 3 that count nothing.
@pytest.mark.parametrize(("form", "chunks"), [*((form, 4) for form in FORMS), *(({}, n) for n in (1, 13, None))], ids=str)
def test_equals_the_dense_form_in_float64(form, chunks):
    with jax.enable_x64(True):
        arguments = (*inputs(transposed="transposed" in form), jnp.float64(Z_LOSS))
        assert_same(lambda *a: sum(cut_cross_entropy(*a[:2], TARGETS, z_loss=a[2], chunks=chunks, **form)),
                    lambda *a: sum(dense(*a, **form)), arguments, 1e-14)


@pytest.mark.parametrize("of_loss, of_penalty", [(1.0, 0.0), (0.0, 1.0), (0.3, 2.0)])
def test_any_combination_of_the_results_has_its_gradient(of_loss, of_penalty):
    def combined(fn, *arguments, **options):
        loss, penalty = fn(*arguments, **options)
        return of_loss * loss + of_penalty * penalty

    with jax.enable_x64(True):
        assert_same(lambda h, w, z: combined(cut_cross_entropy, h, w, TARGETS, z_loss=z, chunks=4),
                    lambda h, w, z: combined(dense, h, w, z), (*inputs(), jnp.float64(Z_LOSS)), 1e-14)


@pytest.mark.parametrize("chunks", [1, 3])
def test_float32_equals_the_plain_form(chunks):
    assert_same(lambda h, w: sum(cut_cross_entropy(h, w, TARGETS, z_loss=1e-4, chunks=chunks)),
                lambda h, w: sum(cross_entropy(h @ w.T, TARGETS, z_loss=1e-4)), inputs(np.float32), 1e-6)


def test_bfloat16_products_are_summed_in_float32():
    h, w = inputs(jnp.bfloat16)
    wide = h.astype(jnp.float32), w.astype(jnp.float32)
    loss, penalty = jax.jit(lambda h, w: cut_cross_entropy(h, w, TARGETS, z_loss=Z_LOSS, chunks=3))(h, w)
    expected, _ = jax.jit(lambda h, w: dense(h, w, Z_LOSS))(*wide)
    assert loss.dtype == penalty.dtype == jnp.float32
    np.testing.assert_allclose(loss, expected, rtol=1e-6)  # products of bfloat16 numbers are exact in float32
    found = gradients(lambda *a: sum(cut_cross_entropy(*a, TARGETS, z_loss=Z_LOSS, chunks=3)), h, w)
    right = gradients(lambda *a: sum(dense(*a, Z_LOSS)), *wide)
    for left, leaf in zip(found, right, strict=True):
        assert left.dtype == jnp.bfloat16
        # dz and the result are rounded, by 2^-9 each.
        np.testing.assert_allclose(left.astype(jnp.float32), leaf, atol=2**-7 * float(jnp.abs(leaf).max()))


def test_wide_weights_of_narrow_states_get_a_wide_gradient():
    h, w = inputs(np.float32)
    _, gradient = gradients(lambda h, w: cut_cross_entropy(h, w, TARGETS)[0], h.astype(jnp.bfloat16), w)
    assert gradient.dtype == jnp.float32


@pytest.mark.parametrize("bad", [-1, V])
def test_target_outside_the_vocabulary_gives_nan(bad):
    for targets, expected in ((TARGETS.at[7].set(bad), True), (TARGETS, False)):
        assert np.isnan(cut_cross_entropy(*inputs(np.float32), targets, chunks=4)[0]) == expected


def test_rows_may_be_several_axes():
    h, w = inputs(np.float32)
    found = cut_cross_entropy(h[:12].reshape(3, 4, D), w, TARGETS[:12].reshape(3, 4), z_loss=Z_LOSS, chunks=2)
    np.testing.assert_array_equal(found, cut_cross_entropy(h[:12], w, TARGETS[:12], z_loss=Z_LOSS, chunks=2))


@pytest.mark.parametrize("transposed", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_filtered_gradients_stay_within_their_bounds(transposed):
    columns, eps = 1300, 3e-3  # blocks of 512, 512 and 276
    h, w = inputs(np.float32, columns=columns, transposed=transposed)
    # The last block falls below eps and the others hold targets or large logits.
    w = w * jnp.where(jnp.arange(columns) < 1024, 1.0, 1e-2)[slice(None) if transposed else (slice(None), None)]
    targets = TARGETS * 30

    def filtered(filter_eps):
        return gradients(lambda *a: sum(cut_cross_entropy(*a, targets, z_loss=1e-4, chunks=2, transposed=transposed,
                                                          filter_eps=filter_eps)), h, w)

    (exact_h, exact_w), (found_h, found_w) = filtered(None), filtered(eps)
    rows = exact_w.T if transposed else exact_w
    error = np.abs(exact_w - found_w).T if transposed else np.abs(exact_w - found_w)
    assert (error[1024:] == np.abs(rows)[1024:]).all() and error[:1024].max() < 1e-7  # dropped whole, kept whole
    assert (error < eps * np.abs(h).mean(axis=0) + 1e-7).all()
    bound = eps / N * np.abs(w).sum(axis=1 if transposed else 0)
    assert 1e-6 < np.abs(exact_h - found_h).max() and (np.abs(exact_h - found_h) < bound + 1e-7).all()


def test_filter_that_drops_nothing_changes_nothing():
    with jax.enable_x64(True):
        h, w = inputs(columns=1300)
        assert_same(lambda *a: sum(cut_cross_entropy(*a, TARGETS, z_loss=Z_LOSS, chunks=3, filter_eps=1e-30)),
                    lambda *a: sum(dense(*a, Z_LOSS)), (h, w), 1e-14)


def test_nan_is_not_filtered():
    h, w = inputs(np.float32)
    _, gradient = gradients(lambda *a: cut_cross_entropy(*a, TARGETS, filter_eps=0.5)[0], h.at[0, 0].set(jnp.nan), w)
    assert np.isnan(gradient).all()


def test_under_vmap_remat_and_a_second_derivative():
    with jax.enable_x64(True):
        h, w = inputs()

        def cut(h):
            return sum(cut_cross_entropy(h, w, TARGETS, z_loss=Z_LOSS, chunks=4))

        def plain(h):
            return sum(dense(h, w, Z_LOSS))

        for change in (lambda fn: jax.grad(lambda h: jnp.sum(jax.grad(fn)(h) ** 2)),
                       lambda fn: jax.grad(jax.checkpoint(fn)),
                       lambda fn: lambda h: jax.vmap(jax.grad(fn))(jnp.stack([h, 2 * h]))):
            np.testing.assert_allclose(jax.jit(change(cut))(h), jax.jit(change(plain))(h), atol=1e-15)
        with pytest.raises(TypeError, match="forward-mode"):
            jax.jvp(cut, (h,), (h,))


@pytest.mark.parametrize("options", [{"chunks": 0}, {"soft_cap": 0.0}, {"filter_eps": -1.0}], ids=str)
def test_options_that_are_not_positive_are_refused(options):
    (name, value), = options.items()
    with pytest.raises(ConfigError, match=f"^{name} = {value}: must be positive"):
        cut_cross_entropy(*inputs(np.float32), TARGETS, **options)


def test_default_chunks_of_small_middle_large_and_huge():
    # 32 x 128 by 256, 16 x 256 by 4096, 4 x 512 by 32768; then 2^33 logits in chunks of 2^27.
    assert [default_chunks(4096, 256), default_chunks(4096, 4096), default_chunks(2048, 32768)] == [1, 4, 4]
    assert default_chunks(2**15, 2**18) == 64


def temporaries(fn, *shapes):
    """Bytes of temporaries and the number of conditionals of a compiled function."""
    compiled = jax.jit(fn).lower(*shapes).compile()
    return compiled.memory_analysis().temp_size_in_bytes, compiled.as_text().count(" conditional(")


@pytest.mark.parametrize("transposed", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_temporaries_at_a_vocabulary_of_256k_hold_one_chunk(transposed):
    rows, width, columns = 1024, 16, 2**18
    shapes = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in (
        ((rows, width), jnp.float32), ((width, columns) if transposed else (columns, width), jnp.float32),
        ((rows,), jnp.int32), ((), jnp.float32))]

    def loss(h, w, targets, z_loss, chunks):
        return sum(cut_cross_entropy(h, w, targets, z_loss=z_loss, chunks=chunks, transposed=transposed))

    for chunks in (8, 32):
        chunk, weights = rows * columns * 4 // chunks, width * columns * 4
        one = functools.partial(loss, chunks=chunks)
        # The chunk's logits and its dz, and what a step adds to dW; the sum of dW itself is a result.
        found, conditionals = temporaries(jax.value_and_grad(one, (0, 1)), *shapes)
        assert (found < 2.1 * chunk + 1.1 * weights, conditionals) == (True, 0)
        assert temporaries(one, *shapes)[0] < 1.1 * chunk
