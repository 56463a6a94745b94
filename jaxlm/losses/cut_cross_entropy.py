"""Cross-entropy from hidden states, whose matrix of logits is never whole.

Rows are taken in chunks, one after the other. Where a gradient is wanted, the chunk whose logits are there forms its
share of it at once, so that they are made once and dropped:

    dz_nv = (softmax(z_n)_v (1 + 2 z_loss log Z_n) - [v = target_n]) / N * (1 - (z_nv / soft_cap)^2)
    dH    = dz W^T,   dW += H^T dz

Source: Wijmans et al. 2024, "Cut Your Losses in Large-Vocabulary Language Models", arXiv 2411.09009. Theirs goes by
tiles in a kernel and makes the logits again in its backward pass; forming the gradient in the forward pass needs one
matrix product less and memory for one more gradient of `weights`, which a training step has anyway.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from jaxlm.config import require
from jaxlm.params.activations import mesh_in_force, native_bfloat16, transposed

# Columns of logits that the filter keeps or drops together.
FILTER_BLOCK = 512


@dataclasses.dataclass(frozen=True)
class _Form:
    """What is fixed when the loss is traced: the options, and the mesh axes over which each array lies."""

    transposed: bool
    soft_cap: float | None
    chunks: int | None
    filter_eps: float | None
    mesh: Mesh | None = None
    rows: tuple[tuple[str, ...], ...] = ()
    vocab: tuple[str, ...] = ()

    @property
    def row_axes(self) -> tuple[str, ...]:
        """Every mesh axis that splits rows."""
        return sum(self.rows, ())


def cut_cross_entropy(h_NxD: jax.Array, weights_VxD: jax.Array, targets_N: jax.Array, *,
                      z_loss: float | jax.Array = 0.0, transposed: bool = False, soft_cap: float | None = None,
                      chunks: int | None = None, filter_eps: float | None = None) -> tuple[jax.Array, jax.Array]:
    """Returns (cross-entropy, z penalty) as `losses.cross_entropy` does of the logits h W^T.

    Gradients are exact with respect to `h_NxD`, `weights_VxD` and `z_loss`, whatever is made of the two results; that
    of their sum is formed in the forward pass, another combination by a second pass. Products are taken in the
    dtype of `h_NxD`, which dz is rounded to, and summed in float32; all else is float32 (float64 for float64).
    A second derivative works by reverse mode and holds all logits; forward mode is refused by JAX, as for every
    `jax.custom_vjp`.

    Inside `params.activations.on_mesh` each device takes chunks of its own rows ("batch", and "time" of (B, T, D))
    and its own part of the vocabulary ("vocab"): log Z is summed over the parts and the gradient of
    `weights_VxD` over the rows, once. Axes that their devices do not divide are left to the compiler, in one chunk.

    Args:
      h_NxD: (N, D) hidden states; N may be several axes.
      weights_VxD: (V, D), such as a token table.
      targets_N: (N,) whole numbers in [0, V); others give NaN.
      z_loss: weight of the mean of (log Z)^2; PaLM uses 1e-4.
      transposed: whether `weights_VxD` is (D, V), as the kernel of a head is.
      soft_cap: logits are soft_cap tanh(h W^T / soft_cap), as in Gemma 2 (2408.00118, section 2); None for no cap.
      chunks: how many; rows that they do not divide are filled up with some that count nothing. None for
        `default_chunks` of the rows and columns of one device.
      filter_eps: leaves out of both gradients each block of a chunk's rows and 512 columns in which every N |dz| lies
        below it, as ml-cross-entropy does (2^-12 for bfloat16 there; for pretraining it advises against). The error
        is then below filter_eps / N sum_v |W_vd| in entry (n, d) of the gradient of `h_NxD`, and below
        filter_eps mean_n |h_nd| in entry (v, d) of that of `weights_VxD`. None is exact.

    Raises `ConfigError` for `soft_cap`, `chunks` or `filter_eps` that are not positive.
    """
    for name, value in (("soft_cap", soft_cap), ("chunks", chunks), ("filter_eps", filter_eps)):
        require(value is None or value > 0, name, value, "must be positive, or None")
    form = _Form(transposed, soft_cap, chunks, filter_eps)
    place = mesh_in_force()
    if place is not None:
        lengths = (*targets_N.shape, weights_VxD.shape[1 if transposed else 0])
        axes = ("batch", "time")[:targets_N.ndim] + ("vocab",)
        if all(length % place.devices(axis) == 0 for axis, length in zip(axes, lengths, strict=True)):
            *rows, vocab = (place.rules.get(axis, ()) for axis in axes)
            form = dataclasses.replace(form, mesh=place.mesh, rows=tuple(rows), vocab=vocab)
        else:
            form = dataclasses.replace(form, chunks=1)
    return _loss(form, h_NxD, weights_VxD, targets_N, jnp.asarray(z_loss, jnp.promote_types(h_NxD.dtype, jnp.float32)))


def default_chunks(rows: int, vocabulary: int) -> int:
    """Returns 1 for up to 2^22 logits (16 MiB, about a cache), else 4, or as many as keep a chunk below 2^27 (512 MiB).

    Each chunk adds to the whole gradient of the weights. On two cores 4 and 8 chunks took the same time at 4096 x 4096
    logits; at 2048 x 32768 and width 512 4 took 1.71 s, 8 1.96 s and one 1.90 s.
    """
    logits = rows * vocabulary
    return 1 if logits <= 2**22 else max(4, math.ceil(logits / 2**27))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _loss(form: _Form, h: jax.Array, weights: jax.Array, targets: jax.Array,
          z_loss: jax.Array) -> tuple[jax.Array, jax.Array]:
    loss, square = _pass(form, h, weights, targets, z_loss, None)
    return loss, z_loss * square


def _forward(form: _Form, *inputs: jax.Array) -> tuple[tuple[jax.Array, jax.Array], tuple]:
    z_loss = inputs[-1]
    one = jnp.ones_like(z_loss)
    loss, square, *gradients = _pass(form, *inputs, (one, one))
    return (loss, z_loss * square), (inputs, square, gradients)


def _backward(form: _Form, saved: tuple, cotangents: tuple[jax.Array, jax.Array]) -> tuple:
    inputs, square, gradients = saved
    of_loss, of_penalty = cotangents
    # For the sum of both, or without z-loss, XLA knows the answer when it compiles and drops the other branch.
    dh, dweights = jax.lax.cond(
        (of_loss == of_penalty) | (inputs[-1] == 0),
        lambda: [(of_loss * gradient).astype(gradient.dtype) for gradient in gradients],
        lambda: list(_pass(form, *inputs, cotangents)[2:]))
    return dh, dweights, None, of_penalty * square


_loss.defvjp(_forward, _backward)


def _pass(form: _Form, h: jax.Array, weights: jax.Array, targets: jax.Array, z_loss: jax.Array,
          pull: tuple[jax.Array, jax.Array] | None) -> tuple[jax.Array, ...]:
    """Returns (cross-entropy, mean of (log Z)^2), and where there are cotangents to `pull` back (dH, dW) too."""
    local = functools.partial(_local, form)
    if form.mesh is not None:
        rows = [axes or None for axes in form.rows]
        vocab = form.vocab or None
        of_h = PartitionSpec(*rows, None)
        of_weights = PartitionSpec(None, vocab) if form.transposed else PartitionSpec(vocab, None)
        whole = PartitionSpec()
        local = jax.shard_map(
            local, mesh=form.mesh, in_specs=(of_h, of_weights, PartitionSpec(*rows), whole, whole),
            out_specs=(whole, whole) if pull is None else (whole, whole, of_h, of_weights), check_vma=False)
    return local(h, weights, targets, z_loss, pull)


def _local(form: _Form, h: jax.Array, weights: jax.Array, targets: jax.Array, z_loss: jax.Array,
           pull: tuple[jax.Array, jax.Array] | None) -> tuple[jax.Array, ...]:
    """`_pass` of the rows and columns that one device has."""
    h_NxD, targets_N = h.reshape(-1, h.shape[-1]), targets.reshape(-1).astype(jnp.int32)
    w = weights.astype(h.dtype)
    tokens, columns = h_NxD.shape[0], w.shape[1 if form.transposed else 0]
    copied = transposed(w) if native_bfloat16(w) else None  # once for all chunks
    chunks = min(form.chunks or default_chunks(tokens, columns), tokens)
    length = math.ceil(tokens / chunks)
    chunks = math.ceil(tokens / length)  # none of them empty
    dtype = jnp.promote_types(h.dtype, jnp.float32)
    share_N = jnp.full(tokens, 1 / jax.lax.psum(tokens, form.row_axes), dtype)

    def cut(x: jax.Array) -> jax.Array:
        filled = jnp.pad(x, [(0, chunks * length - tokens), *((0, 0) for _ in x.shape[1:])])
        return filled.reshape(chunks, length, *x.shape[1:])

    def add(carry: tuple, rows: tuple) -> tuple[tuple, jax.Array | None]:
        loss, square, dw_DxV = carry
        h_NxD, targets_N, share_N = rows
        other = w.T if copied is None else copied
        w_VxD, w_DxV = (other, w) if form.transposed else (w, other)
        loss_, square_, dz_NxV = _chunk(form, _product(h_NxD, w_DxV), targets_N, share_N, z_loss, pull)
        dh_NxD = None
        if dz_NxV is not None:
            dh_NxD, dw_DxV = _gradients(form, dz_NxV, h_NxD, w_VxD, dw_DxV, share_N[0])
            dh_NxD = jax.lax.psum(dh_NxD, form.vocab).astype(h.dtype)
        return (loss + loss_, square + square_, dw_DxV), dh_NxD

    zero = jnp.zeros((), dtype)
    carry = zero, zero, None if pull is None else jnp.zeros((h.shape[-1], columns), dtype)
    rows = (h_NxD, targets_N, share_N)
    if chunks == 1:
        carry, dh = add(carry, rows)
    else:
        carry, dh = jax.lax.scan(add, carry, jax.tree.map(cut, rows))
    loss, square, dw_DxV = carry
    means = tuple(jax.lax.psum((loss, square), form.row_axes))
    if pull is None:
        return means
    dw_DxV = jax.lax.psum(dw_DxV, form.row_axes).astype(weights.dtype)
    return *means, dh.reshape(-1, h.shape[-1])[:tokens].reshape(h.shape), dw_DxV if form.transposed else dw_DxV.T


def _chunk(form: _Form, z_NxV: jax.Array, targets_N: jax.Array, share_N: jax.Array, z_loss: jax.Array,
           pull: tuple[jax.Array, jax.Array] | None) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """Returns a chunk's sums of cross-entropy and (log Z)^2, weighed by `share_N`, and dz of the uncapped logits."""
    if form.soft_cap is not None:
        tanh_NxV = jnp.tanh(z_NxV / form.soft_cap)
        z_NxV = form.soft_cap * tanh_NxV
    columns = z_NxV.shape[1]
    top_N = jax.lax.pmax(jax.lax.stop_gradient(z_NxV.max(axis=1)), form.vocab)
    mass_NxV = jnp.exp(z_NxV - top_N[:, None])
    sum_N = jax.lax.psum(mass_NxV.sum(axis=1), form.vocab)
    log_z_N = top_N + jnp.log(sum_N)
    column_N = targets_N - (jax.lax.axis_index(form.vocab) * columns if form.vocab else 0)
    here_N = (column_N >= 0) & (column_N < columns)
    picked_N = jnp.take_along_axis(z_NxV, jnp.clip(column_N, 0, columns - 1)[:, None], axis=1)[:, 0]
    # Outside the vocabulary a target lies on no device.
    known_N = jax.lax.psum(here_N.astype(jnp.int32), form.vocab) > 0
    picked_N = jnp.where(known_N, jax.lax.psum(jnp.where(here_N, picked_N, 0), form.vocab), jnp.nan)
    loss, square = jnp.sum(share_N * (log_z_N - picked_N)), jnp.sum(share_N * jnp.square(log_z_N))
    if pull is None:
        return loss, square, None
    of_loss, of_penalty = pull
    scale_N = share_N * (of_loss + 2 * of_penalty * z_loss * log_z_N) / sum_N
    target_NxV = column_N[:, None] == jnp.arange(columns)
    dz_NxV = mass_NxV * scale_N[:, None] - jnp.where(target_NxV, (of_loss * share_N)[:, None], 0)
    return loss, square, dz_NxV if form.soft_cap is None else dz_NxV * (1 - jnp.square(tanh_NxV))


def _gradients(form: _Form, dz_NxV: jax.Array, h_NxD: jax.Array, w_VxD: jax.Array, dw_DxV: jax.Array,
               share: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns (dz W^T, dW + H^T dz), without the blocks that the filter drops."""
    # The narrow factor is transposed, on its own: at 4096 tokens of width 256 and a vocabulary of 4096 the product of
    # the two as they are takes 120 ms, of dz^T and H 95 ms, and this 71 ms.
    h_DxN = transposed(h_NxD)
    if form.filter_eps is None:
        dz_NxV = dz_NxV.astype(h_NxD.dtype)
        return _product(dz_NxV, w_VxD), dw_DxV + _product(h_DxN, dz_NxV)
    columns = dz_NxV.shape[1]
    block = min(FILTER_BLOCK, columns)

    def add(index: jax.Array, sums: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        # The last block begins early where they do not divide the columns, and counts only what is new in it.
        start = jnp.minimum(index * block, columns - block)
        dz_NxW = jax.lax.dynamic_slice_in_dim(dz_NxV, start, block, axis=1)
        dz_NxW = jnp.where(start + jnp.arange(block) >= index * block, dz_NxW, 0)

        def keep() -> tuple[jax.Array, jax.Array]:
            narrow_NxW = dz_NxW.astype(h_NxD.dtype)
            w_WxD = jax.lax.dynamic_slice_in_dim(w_VxD, start, block)
            return _product(narrow_NxW, w_WxD), _product(h_DxN, narrow_NxW)

        def drop() -> tuple[jax.Array, jax.Array]:
            return jnp.zeros_like(sums[0]), jnp.zeros((h_NxD.shape[1], block), dz_NxV.dtype)

        # NaN is not below. The branches do not touch the sums, which XLA would copy whole for each block.
        dh_NxD, dw_DxW = jax.lax.cond(jnp.all(jnp.abs(dz_NxW) < form.filter_eps * share), drop, keep)
        dw_DxW += jax.lax.dynamic_slice_in_dim(sums[1], start, block, axis=1)
        return sums[0] + dh_NxD, jax.lax.dynamic_update_slice_in_dim(sums[1], dw_DxW, start, axis=1)

    zero_NxD = jnp.zeros(h_NxD.shape, dz_NxV.dtype)
    return jax.lax.fori_loop(0, math.ceil(columns / block), add, (zero_NxD, dw_DxV))


def _product(left: jax.Array, right: jax.Array) -> jax.Array:
    """Returns the product of two matrices in float32 at least."""
    return jnp.matmul(left, right, preferred_element_type=jnp.promote_types(left.dtype, jnp.float32))
