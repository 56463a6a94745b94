"""COSMOS: Adam in the leading eigenspace of the gradients, Newton-Schulz on what it leaves."""

import dataclasses
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxlm.optim.adam import scale_by_adam
from jaxlm.optim.decay import Order, scale_by_rate_and_decay
from jaxlm.optim.factorizations import complete_q, descending_eigenvectors, qr
from jaxlm.optim.hyper import COUNT, FRACTION, NOT_NEGATIVE, POSITIVE, Hyperparameters, check, hyper, one_of
from jaxlm.optim.matrices import largest_to_one, matrix_transform
from jaxlm.optim.newton_schulz import Coefficients, orthogonalize
from jaxlm.optim.partition import by_kind, decayed
from jaxlm.optim.wrappers import contract

Momentum = Literal["nesterov", "average", "unused"]


class CosmosState(NamedTuple):
    """State of one leaf, float32.

    Attributes:
      mu: M, sum of decayed gradients [B..., in, out].
      nu: V, second moment of the gradient in the basis [B..., r, out].
      basis: P, orthonormal columns [B..., in, r].
      gram: S, average of the Gram matrix of the gradient in the basis [B..., r, r].
    """

    mu: jax.Array
    nu: jax.Array
    basis: jax.Array
    gram: jax.Array


def cosmos(
    learning_rate: Any,
    infos: Any,
    *,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    rank: int = 64,
    gamma: Any = 0.2,
    lr_ratio: Any = 0.1,
    momentum: Momentum = "nesterov",
    ns_steps: int = 5,
    ns_coefficients: str | Coefficients = "jordan",
    ns_eps: float = 1e-7,
    ns_dtype: jax.typing.DTypeLike | None = "bfloat16",
    rest_b1: Any = 0.9,
    weight_decay: Any = 0.0,
    order: Order = "before",
    mask: Any = None,
    rest: optax.GradientTransformation | None = None,
) -> optax.GradientTransformation:
    """Returns COSMOS (Liu et al. 2025, 2502.17410, algorithm 1, and lliu606/COSMOS as released).

    W <- (1 - rate weight_decay) W - rate direction; matrices take `scale_by_cosmos`, the others Adam. The release
    gives Adam also to matrices with more than 10000 rows; here `infos` decide. State: that of `scale_by_cosmos`, two arrays for
    the others.

    Args:
      learning_rate: a number, an array or a schedule; the release's default is 1e-3.
      infos: the tree of `ParamInfo`.
      b1, b2, eps, rank, gamma, lr_ratio, momentum, ns_steps, ns_coefficients, ns_eps, ns_dtype: as in
        `scale_by_cosmos`; b2 and eps are Adam's as well.
      rest_b1: Adam's decay of the first moment, in [0, 1); the release has 0.9 whatever b1 is.
      weight_decay: at least 0; 0 as released.
      order: whether the decay comes before or after the step; "before" as released.
      mask: a tree of booleans in the place of the one that follows from `infos`.
      rest: direction of embeddings, head and vectors; None: `scale_by_adam` (rest_b1, b2, eps).
    """
    rule = scale_by_cosmos(
        b1, b2, eps=eps, rank=rank, gamma=gamma, lr_ratio=lr_ratio, momentum=momentum, ns_steps=ns_steps,
        ns_coefficients=ns_coefficients, ns_eps=ns_eps, ns_dtype=ns_dtype, dims=infos)
    mask = decayed(infos) if mask is None else mask
    return contract(optax.chain(
        by_kind(infos, matrix=rule, rest=scale_by_adam(rest_b1, b2, eps) if rest is None else rest),
        scale_by_rate_and_decay(learning_rate, weight_decay, mask=mask, order=order)))


def scale_by_cosmos(
    b1: Any = 0.9,
    b2: Any = 0.999,
    *,
    eps: Any = 1e-8,
    rank: int = 64,
    gamma: Any = 0.2,
    lr_ratio: Any = 0.1,
    momentum: Momentum = "nesterov",
    ns_steps: int = 5,
    ns_coefficients: str | Coefficients = "jordan",
    ns_eps: float = 1e-7,
    ns_dtype: jax.typing.DTypeLike | None = "bfloat16",
    dims: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Returns the direction of COSMOS for matrices G [in, out]; the basis is always that of the input side.

        1. M = b1 M + G
        2. t = 1: P = the leading r left singular vectors of G; later
           P = the Q of qr(b2 P' S + (1 - b2) G G^T P'), P' the P of before;  T = P'^T P
        3. S = b2 T^T S T + (1 - b2) (P^T G)(P^T G)^T                          (S = 0 before t = 1)
        4. V = b2 V + (1 - b2) (P^T G)^2                                       (V does not turn with P)
        5. c = (1 - b1^t) / (1 - b1);  q = (G + b1 M) / (1 + b1 c) ("nesterov"), M / c ("average"), G / c ("unused")
        6. A = P ((P^T q) / (sqrt(V / (1 - b2^t)) + eps))
        7. Z = NS(q - P P^T q);  Z <- sqrt(in out) Z / (||Z||_F + eps)
        8. D = A + gamma Z;  direction = lr_ratio sqrt(in out) D / (||D||_F + eps)

    The direction's RMS is lr_ratio. NS is `orthogonalize`. State: in out + (in + out) r + r^2. The result does not
    depend on the signs of the singular vectors. Cost: Newton-Schulz and seven products with r columns, one thin QR.

    Differences to the release: the first P comes from the eigenvectors of the smaller of G G^T and G^T G, not from
    the SVD of the former; rank above in means rank = in, and nothing is left for Z then (the release refuses the
    first and would orthogonalise rounding noise in the second). Below that it is orthogonalised here, too: with r
    of at least out the first gradient leaves nothing else, and with r above out rounding fills up P at first; choose
    r well below both. Without Nesterov the release divides the bare gradient by c, so that M has no effect:
    momentum="unused"; the paper's algorithm is "average".

    Args:
      b1: decay of the momentum, in [0, 1); 0.9 as released.
      b2: decay of V and S, in [0, 1); 0.999 as released.
      eps: added to the corrected root and to the norms, > 0; 1e-8 as released.
      rank: r, at least 1; 64 as released.
      gamma: weight of the orthogonalised part, at least 0; 0.2 as released.
      lr_ratio: RMS of the direction, at least 0; 0.1 as released.
      momentum: which momentum q is.
      ns_steps, ns_coefficients, ns_eps, ns_dtype: of `orthogonalize`; 5 steps, Jordan's coefficients, 1e-7 and
        bfloat16 as released; ns_dtype=None for the gradient's type.
      dims: as in `matrix_transform`.
    """
    check(b1=(b1, FRACTION), b2=(b2, FRACTION), eps=(eps, POSITIVE), rank=(rank, COUNT), gamma=(gamma, NOT_NEGATIVE),
          lr_ratio=(lr_ratio, NOT_NEGATIVE), momentum=(momentum, one_of("nesterov", "average", "unused")),
          ns_steps=(ns_steps, COUNT))

    def init(weight: jax.Array) -> CosmosState:
        *batch, n, m = weight.shape
        r = min(rank, n)
        zeros = lambda *shape: jnp.zeros((*batch, *shape), weight.dtype)  # noqa: E731
        return CosmosState(mu=zeros(n, m), nu=zeros(r, m), basis=zeros(n, r), gram=zeros(r, r))

    def update(
        g: jax.Array, state: CosmosState, weight: jax.Array | None, count: jax.Array
    ) -> tuple[jax.Array, CosmosState]:
        del weight
        n, r = g.shape[-2], state.basis.shape[-1]
        mu = b1 * state.mu + g
        p = jax.lax.cond(count == 1, lambda: _leading(g, r), lambda: _power_step(g, state, b2))
        low, turn = _onto(p, g), _onto(state.basis, p)
        gram = b2 * _onto(turn, jnp.matmul(state.gram, turn)) + jnp.matmul((1 - b2) * low, low.swapaxes(-1, -2))
        nu = b2 * state.nu + (1 - b2) * low * low
        q = _momentum(momentum, g, mu, b1, count)
        y = _onto(p, q)
        correction = (1 - jnp.asarray(b2) ** count).astype(g.dtype)
        direction = jnp.matmul(p, y / (jnp.sqrt(nu / correction) + eps))
        if r < n:
            z = orthogonalize(
                q - jnp.matmul(p, y), steps=ns_steps, coefficients=ns_coefficients, eps=ns_eps, dtype=ns_dtype)
            direction = direction + gamma * _unit_rms(z, eps)
        return lr_ratio * _unit_rms(direction, eps), CosmosState(mu, nu, p, gram)

    return matrix_transform(init, update, dims)


@dataclasses.dataclass(frozen=True, kw_only=True)
class COSMOS(Hyperparameters):
    """Adam in the gradients' leading eigenspace, Newton-Schulz beside it (Liu et al. 2025, 2502.17410); see `cosmos`.

    Attributes:
      b1: decay of the momentum, in [0, 1).
      b2: decay of the second moments, in [0, 1).
      eps: added to roots and norms, > 0.
      rank: dimension of the eigenspace, at least 1.
      gamma: weight of the orthogonalised part, at least 0.
      lr_ratio: RMS of a matrix's update at rate 1, > 0; Adam's is about 1.
      momentum: "nesterov", "average" (the paper's) or "unused" (as released without Nesterov).
    """

    kind: ClassVar[str] = "cosmos"

    b1: float = hyper(0.9, FRACTION, "lliu606/COSMOS as released")
    b2: float = hyper(0.999, FRACTION, "lliu606/COSMOS as released")
    eps: float = hyper(1e-8, POSITIVE, "lliu606/COSMOS as released")
    rank: int = hyper(64, COUNT, "lliu606/COSMOS as released")
    gamma: float = hyper(0.2, NOT_NEGATIVE, "lliu606/COSMOS as released")
    lr_ratio: float = hyper(0.1, POSITIVE, "lliu606/COSMOS as released")
    momentum: Momentum = hyper("nesterov", one_of("nesterov", "average", "unused"), "lliu606/COSMOS as released")
    weight_decay: float = hyper(0.0, NOT_NEGATIVE, "lliu606/COSMOS as released")

    def chain(self, learning_rate: Any, infos: Any, *, weight_decay: Any) -> optax.GradientTransformation:
        """See the base class."""
        return cosmos(learning_rate, infos, b1=self.b1, b2=self.b2, eps=self.eps, rank=self.rank, gamma=self.gamma,
                      lr_ratio=self.lr_ratio, momentum=self.momentum, weight_decay=weight_decay)


def _momentum(kind: Momentum, g: jax.Array, mu: jax.Array, b1: Any, count: jax.Array) -> jax.Array:
    total = ((1 - jnp.asarray(b1) ** count) / (1 - b1)).astype(g.dtype)
    if kind == "nesterov":
        return (g + b1 * mu) / (1 + b1 * total)
    return (mu if kind == "average" else g) / total


def _leading(g: jax.Array, r: int) -> jax.Array:
    """The leading r left singular vectors [B..., n, r] of [B..., n, m]."""
    g = largest_to_one(g)
    n, m = g.shape[-2:]
    if n <= m:
        return descending_eigenvectors(jnp.matmul(g, g.swapaxes(-1, -2)))[..., :r]
    right = descending_eigenvectors(_onto(g, g))
    # Fewer right ones than r: the QR completes them.
    columns = jnp.matmul(g, right)[..., :r]
    return complete_q(columns)[..., :r] if r > m else qr(columns)[0]


def _power_step(g: jax.Array, state: CosmosState, b2: Any) -> jax.Array:
    p = state.basis
    new = b2 * jnp.matmul(p, state.gram) + jnp.matmul(g, (1 - b2) * _onto(p, g).swapaxes(-1, -2))
    return qr(largest_to_one(new))[0]


def _onto(p: jax.Array, x: jax.Array) -> jax.Array:
    """P^T X; written out, as XLA's CPU products are slower with their left operand transposed."""
    return jnp.matmul(jax.lax.optimization_barrier(p.swapaxes(-1, -2)), x)


def _unit_rms(x: jax.Array, eps: Any) -> jax.Array:
    """sqrt(in out) X / (||X||_F + eps)."""
    norm = jnp.sqrt(jnp.sum(x * x, axis=(-2, -1), keepdims=True))
    return (x.shape[-2] * x.shape[-1]) ** 0.5 / (norm + eps) * x
