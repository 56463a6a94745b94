"""Dion: orthonormal updates of low rank, by one step of power iteration an update."""

import dataclasses
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxlm.optim import factorizations
from jaxlm.optim.adam import scale_by_adam
from jaxlm.optim.decay import Order
from jaxlm.optim.hyper import (ANY, COUNT, FRACTION, NATURAL, NOT_NEGATIVE, POSITIVE, Hyperparameters, check, hyper,
                               one_of)
from jaxlm.optim.matrices import matrix_transform
from jaxlm.optim.muon import Scale, matrix_chain, shape_scale
from jaxlm.optim.newton_schulz import safe_norm

QR = Literal["householder", "cholesky"]


class DionState(NamedTuple):
    """State of one matrix: momentum [B..., in, out] and the right factor q [B..., in, r]."""

    momentum: jax.Array
    q: jax.Array


def scale_by_dion(
    rank: int = 768,
    mu: Any = 0.95,
    eps: Any = 1e-8,
    *,
    scale: Scale = "spectral",
    qr: QR = "cholesky",
    seed: int = 0,
    dims: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Returns Dion's direction (Ahn et al. 2025, 2504.05295; microsoft/dion, the simple class).

    Per matrix G [B..., in, out], r = min(rank, in, out):

        M = M + G
        P = orthonormal(M^T Q)                 [B..., out, r]
        R = M P                                [B..., in, r]
        M = M - (1 - mu) R P^T                 what the factors do not hold stays (error feedback)
        Q = R / (norms of its columns + eps)
        direction = s Q P^T

    State per matrix: M, and Q of in * r; in * out + in * r elements. 4 products of in * out * r, and one QR.

    Args:
      rank: at least 1; 768 as in the release.
      mu: what is kept of the part that was applied, in [0, 1); 0.95 as there.
      eps: > 0; 1e-8 as there.
      scale: s, as in `scale_by_muon`; "spectral", sqrt(out / in), as there.
      qr: how M^T Q is made orthonormal: "householder" as in the simple class; "cholesky" by the Cholesky factor C of
        its Gram matrix, columns normalised before: mostly matrix products, a third of the time on CPU, and as the
        release's distributed class (without its random sketch). Where ||C^-1||_F^2 > 4 r, so that rounding could
        show, and where there is no C (a rank below r), by Householder. Directions do not depend on the signs of P.
      seed: of the normal Q at the start, at least 0; the same for all matrices of one shape,
        so that a stack goes as its layers would by themselves.
      dims: as in `matrix_transform`.

    Deviations: the release makes QR in float32 and the rest in the parameters' type, here all is float32 (float64
    for float64); a Q that became zero, under zero gradients, is as good as any other. optax has no Dion.
    """
    check(rank=(rank, COUNT), mu=(mu, FRACTION), eps=(eps, POSITIVE), qr=(qr, one_of("householder", "cholesky")),
          scale=(scale, one_of("kj", "kimi", "spectral", "none")), seed=(seed, NATURAL))

    def init(weight: jax.Array) -> DionState:
        *batch, inputs, outputs = weight.shape
        q = jax.random.normal(jax.random.key(seed), (inputs, min(rank, inputs, outputs)), weight.dtype)
        return DionState(momentum=jnp.zeros_like(weight), q=jnp.broadcast_to(q, (*batch, *q.shape)))

    def update(grad: jax.Array, state: DionState, _: Any, count: jax.Array) -> tuple[jax.Array, DionState]:
        del count
        momentum = state.momentum + grad
        # P^T [r, out] and a written transpose of Q: XLA's CPU products are slower with their left operand transposed.
        p = orthonormal_rows(jnp.matmul(jax.lax.optimization_barrier(state.q.swapaxes(-1, -2)), momentum), qr)
        r = jnp.matmul(momentum, p.swapaxes(-1, -2))
        momentum = momentum - (1 - mu) * jnp.matmul(r, p)
        q = r / (safe_norm(r, axis=-2) + eps)
        return jnp.matmul(shape_scale(scale, grad.shape) * q, p), DionState(momentum=momentum, q=q)

    return matrix_transform(init, update, dims)


def dion(
    learning_rate: Any,
    infos: Any,
    *,
    rank: int = 768,
    mu: Any = 0.95,
    eps: Any = 1e-8,
    scale: Scale = "spectral",
    qr: QR = "cholesky",
    seed: int = 0,
    b1: Any = 0.9,
    b2: Any = 0.95,
    rest_eps: Any = 1e-8,
    rest: optax.GradientTransformation | None = None,
    rest_scale: Any = 1.0,
    weight_decay: Any = 0.01,
    order: Order = "before",
    mask: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Returns Dion for the matrices and Adam for embeddings, head and vectors.

    W <- (1 - rate weight_decay) W - rate direction, of `scale_by_dion` (Ahn et al. 2025, 2504.05295) and of Adam.
    State: that of `scale_by_dion`, two arrays for the others.

    Args:
      learning_rate: a number, an array or a schedule.
      infos: the tree of `ParamInfo`.
      b1: Adam's decay of the first moment, in [0, 1); 0.9 as in the release.
      b2: Adam's decay of the second moment, in [0, 1); 0.95 as there.
      rest_eps: Adam's epsilon, at least 0; 1e-8 as there.
      rest: a direction in Adam's place (the release recommends Lion too).
      rest_scale: multiplies the rest's direction and so its rate, not its decay; at least 0.
      weight_decay: at least 0; 0.01 as in the release.
      order: whether the decay comes before or after the step; before as there.
      mask: a tree of booleans in the place of the decay mask that follows from `infos`.
      rank, mu, eps, scale, qr, seed: as in `scale_by_dion`.
    """
    rule = scale_by_dion(rank, mu, eps, scale=scale, qr=qr, seed=seed, dims=infos)
    rest = scale_by_adam(b1, b2, rest_eps) if rest is None else rest
    return matrix_chain(learning_rate, infos, matrix=rule, rest=rest, rest_scale=rest_scale, weight_decay=weight_decay,
                        order=order, mask=mask)


def orthonormal_rows(y: jax.Array, qr: QR = "cholesky") -> jax.Array:
    """Returns orthonormal rows [B..., r, n] that span those of `y`, r <= n; see `scale_by_dion`."""
    norms = safe_norm(y, axis=-1)
    y = y / jnp.where(norms == 0, 1, norms)
    householder = lambda y: factorizations.qr(y.swapaxes(-1, -2))[0].swapaxes(-1, -2)  # noqa: E731
    if qr == "householder":
        return householder(y)
    inverse = factorizations.lower_inverse(factorizations.cholesky(jnp.matmul(y, y.swapaxes(-1, -2))))
    good = jnp.max(jnp.sum(inverse * inverse, axis=(-2, -1))) <= 4 * y.shape[-2]  # not with NaN
    return jax.lax.cond(good, jnp.matmul, lambda _, y: householder(y), inverse, y)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dion(Hyperparameters):
    """Orthonormal updates of low rank for matrices (Ahn et al. 2025, 2504.05295), Adam for the rest; see `dion`.

    Attributes:
      rank: of the updates, at least 1.
      mu: what is kept of the part of the momentum that was applied, in [0, 1).
      scale: of each matrix's update.
      qr: how the factors are made orthonormal.
      rest_scale: multiplies the rate of Adam, at least 0.
      b1: Adam's decay of the first moment, in [0, 1).
      b2: Adam's decay of the second moment, in [0, 1).
    """

    kind: ClassVar[str] = "dion"

    rank: int = hyper(768, COUNT, "microsoft/dion, simple class")
    mu: float = hyper(0.95, FRACTION, "microsoft/dion, simple class")
    scale: Scale = hyper("spectral", ANY, "Ahn et al. 2025, 2504.05295, algorithm 1")
    qr: QR = hyper("cholesky", ANY, "microsoft/dion, distributed class; the simple one has Householder")
    rest_scale: float = hyper(1.0, NOT_NEGATIVE, "microsoft/dion: one rate for all parameters")
    b1: float = hyper(0.9, FRACTION, "microsoft/dion, simple class")
    b2: float = hyper(0.95, FRACTION, "microsoft/dion, simple class")
    weight_decay: float = hyper(0.01, NOT_NEGATIVE, "microsoft/dion, simple class")

    def chain(self, learning_rate: Any, infos: Any, *, weight_decay: Any) -> optax.GradientTransformation:
        """See the base class."""
        return dion(learning_rate, infos, rank=self.rank, mu=self.mu, scale=self.scale, qr=self.qr,
                    rest_scale=self.rest_scale, b1=self.b1, b2=self.b2, weight_decay=weight_decay)
