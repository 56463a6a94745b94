"""Bases of the low-rank core whose frames are columns [B..., n, r]."""

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from jaxlm.optim.factorizations import qr, svd
from jaxlm.optim.hyper import COUNT, NATURAL, check, one_of
from jaxlm.optim.low_rank.project import OUTPUT


@dataclasses.dataclass(frozen=True)
class Columns:
    """Columns [B..., n, r] as the frame; what dense bases share.

    Subclass it, or any other basis, and write `refresh` to project on frames from elsewhere.

    S = X Q on the output axis, Q^T X on the input axis; back S Q^T and Q S. With R = Q_old^T Q_new a first moment
    becomes M R or R^T M, a second one the same with the squares of R's entries (it stays positive, and keeps its
    sum where R is orthogonal).
    """

    def init(self, shape: tuple[int, ...], axis: int, rank: int) -> jax.Array:
        """Zeros: the first update refreshes."""
        return jnp.zeros((*shape[:-2], shape[axis], rank))

    def compress(self, x: jax.Array, frame: jax.Array, axis: int) -> jax.Array:
        """x Q, or Q^T x for the input axis."""
        return jnp.matmul(x, frame) if axis == OUTPUT else jnp.matmul(_transposed(frame), x)

    def expand(self, s: jax.Array, frame: jax.Array, axis: int, length: int) -> jax.Array:
        """s Q^T, or Q s for the input axis."""
        return jnp.einsum("...mr,...nr->...mn", s, frame) if axis == OUTPUT else jnp.matmul(frame, s)

    def rotate(self, s: jax.Array, old: jax.Array, new: jax.Array, *, axis: int, squared: bool) -> jax.Array:
        """See the class."""
        turn = jnp.matmul(_transposed(old), new)
        return Columns.compress(self, s, turn**2 if squared else turn, axis)


@dataclasses.dataclass(frozen=True)
class SVD(Columns):
    """The leading singular vectors, the entry of largest magnitude of each positive: GaLore as released.

    The sign rule makes trajectories reproducible where moments are kept over a refresh: LAPACK builds disagree.
    """

    def refresh(self, x: jax.Array, frame: jax.Array, *, axis: int, rank: int, count: jax.Array) -> jax.Array:
        """Returns [B..., n, r], by falling singular value."""
        left, _, right = svd(x)
        vectors = right.swapaxes(-1, -2) if axis == OUTPUT else left
        return canonical_signs(vectors[..., :rank])


@dataclasses.dataclass(frozen=True)
class SubspaceIteration(Columns):
    """An orthonormal basis near the leading singular vectors, from products and a QR factorisation of [n, r] alone.

    `iterations` times Y = X (X^T Q), Q R = Y with the diagonal of R positive, from the last frame or, at update 1,
    from a seeded Gaussian (the randomised range finder of Halko, Martinsson & Tropp 2011, 0909.4061, algorithm
    4.4). Two products an iteration, against some hundred for an SVD. The sign rule follows from the start: each
    column points to the side of the one that it replaces, so moments that are kept over a refresh fit, and where the
    leading subspace stands still the columns converge to its singular vectors.

    Attributes:
      iterations: products with X X^T at a refresh.
      seed: of the Gaussian.
    """

    iterations: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        check(iterations=(self.iterations, COUNT), seed=(self.seed, NATURAL))

    def refresh(self, x: jax.Array, frame: jax.Array, *, axis: int, rank: int, count: jax.Array) -> jax.Array:
        """Returns [B..., n, r]; zero gradients give the first unit vectors."""
        start = self._start(frame, count)
        for _ in range(self.iterations):
            small = _scaled(self.compress(x, start, axis))
            power = (jnp.einsum("...mn,...mr->...nr", x, small) if axis == OUTPUT
                     else jnp.matmul(x, small.swapaxes(-1, -2)))
            start = orthonormal(_scaled(power))
        return start

    def refresh_both(
        self, x: jax.Array, in_frame: jax.Array, out_frame: jax.Array, *, count: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the frames of both sides, of one rank, each found from the other: two products an iteration."""
        out_frame = self._start(out_frame, count)
        for _ in range(self.iterations):
            in_frame = orthonormal(_scaled(self.compress(x, out_frame, OUTPUT)))
            out_frame = orthonormal(_scaled(jnp.einsum("...mn,...mr->...nr", x, in_frame)))
        return in_frame, out_frame

    def _start(self, frame: jax.Array, count: jax.Array) -> jax.Array:
        """The last frame, at update 1 the Gaussian."""
        return jax.lax.cond(
            count == 1, lambda old: jnp.broadcast_to(gaussian(self.seed, old.shape[-2:], old.dtype), old.shape),
            lambda old: old, frame)


@dataclasses.dataclass(frozen=True)
class Random(Columns):
    """A random basis that does not look at the gradient.

    Drawn from (seed, update) and nothing else, so matrices and slices of one shape share it and a stack goes the way
    of its layers; with `distinct` also from the slice's index, `first` for the first.

    Attributes:
      distribution: "gaussian" has entries of variance 1/r (APOLLO, Zhu et al. 2024, 2412.05270; not orthonormal),
        "orthonormal" is the Q of a Gaussian's QR factorisation, uniform among all frames (FRUGAL).
      seed: of the draws.
      distinct: whether slices of a stack differ.
      first: the index of the first slice.
    """

    distribution: Literal["gaussian", "orthonormal"] = "gaussian"
    seed: int = 0
    distinct: bool = False
    first: int | jax.Array = 0

    def __post_init__(self) -> None:
        check(distribution=(self.distribution, one_of("gaussian", "orthonormal")), seed=(self.seed, NATURAL),
              distinct=(self.distinct, one_of(True, False)), first=(self.first, NATURAL))

    @property
    def orthonormal(self) -> bool:
        """Whether the frames' columns are orthonormal, as other bases' are."""
        return self.distribution == "orthonormal"

    def at(self, index: jax.Array) -> "Random":
        """The basis of one slice."""
        return dataclasses.replace(self, first=self.first + index)

    def refresh(self, x: jax.Array, frame: jax.Array, *, axis: int, rank: int, count: jax.Array) -> jax.Array:
        """Returns [B..., n, r]."""
        def draw(key: jax.Array) -> jax.Array:
            columns = jax.random.normal(key, frame.shape[-2:], frame.dtype)
            return orthonormal(columns) if self.distribution == "orthonormal" else columns / rank**0.5

        return draw_slices(draw, x.shape[:-2], seed=self.seed, count=count, first=self.first if self.distinct else None)


def canonical_signs(columns: jax.Array) -> jax.Array:
    """Returns the columns [..., n, r], each with its entry of largest magnitude positive (the first of equals)."""
    largest = jnp.take_along_axis(columns, jnp.argmax(jnp.abs(columns), axis=-2, keepdims=True), axis=-2)
    return columns * jnp.where(largest < 0, -1, 1)


def orthonormal(columns: jax.Array) -> jax.Array:
    """Returns Q [..., n, r] of the QR factorisation whose R has a diagonal of at least 0."""
    q, r = qr(columns)
    return q * jnp.where(jnp.diagonal(r, axis1=-2, axis2=-1) < 0, -1, 1)[..., None, :]


def gaussian(seed: int, shape: tuple[int, ...], dtype: jax.typing.DTypeLike = jnp.float32) -> jax.Array:
    """Returns standard normal numbers that depend on the seed alone."""
    return jax.random.normal(jax.random.key(seed, impl="threefry2x32"), shape, dtype)


def draw_slices(
    draw: Callable[[jax.Array], jax.Array], batch: tuple[int, ...], *, seed: int, count: jax.Array,
    first: int | jax.Array | None
) -> jax.Array:
    """Returns `draw(key)` [B..., ...], the key made of seed and update and, where `first` is given, the slice."""
    key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), count)
    if first is None:
        one = draw(key)
        return jnp.broadcast_to(one, (*batch, *one.shape))
    indices = first + jnp.arange(max(1, _product(batch)))
    drawn = jax.vmap(lambda index: draw(jax.random.fold_in(key, index)))(indices)
    return drawn.reshape(*batch, *drawn.shape[1:])


def _scaled(x: jax.Array) -> jax.Array:
    """x / max |x| of each matrix: squares of large gradients would overflow."""
    largest = jnp.max(jnp.abs(x), axis=(-2, -1), keepdims=True)
    return x / jnp.where(largest == 0, 1, largest)


def _transposed(frame: jax.Array) -> jax.Array:
    """The transpose as an array of its own: XLA's CPU products are twice as slow with a transposed left operand."""
    return jax.lax.optimization_barrier(frame.swapaxes(-1, -2))


def _product(lengths: tuple[int, ...]) -> int:
    total = 1
    for length in lengths:
        total *= length
    return total
