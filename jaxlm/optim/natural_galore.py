"""Natural GaLore: projected gradients preconditioned by the inverse Fisher matrix of their recent history."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxlm.optim.adam import scale_by_adam_raw
from jaxlm.optim.decay import Order, scale_by_rate_and_decay
from jaxlm.optim.factorizations import solve_positive
from jaxlm.optim.hyper import COUNT, FRACTION, NATURAL, NOT_NEGATIVE, POSITIVE, Hyperparameters, check, hyper
from jaxlm.optim.low_rank import Backproject, Basis, Rank, Side, SubspaceIteration, project_low_rank
from jaxlm.optim.matrices import matrix_transform
from jaxlm.optim.partition import by_kind, decayed
from jaxlm.optim.slices import slice_norm
from jaxlm.optim.wrappers import contract


class FisherState(NamedTuple):
    """The last s gradients of one leaf, in a ring.

    Attributes:
      units: each divided by its norm, [s, B..., in, out], which lies on a mesh like the leaf.
      norms: their norms, [B..., s]; 0 for those not seen yet.
      gram: inner products of the units, [B..., s, s].
    """

    units: jax.Array
    norms: jax.Array
    gram: jax.Array


def scale_by_fisher_history(
    history: int = 20, damping: Any = 1e-3, *, dims: Any = None
) -> optax.GradientTransformation:
    """Returns the transformation that multiplies a gradient by the inverse of its empirical Fisher matrix.

    With the last `history` gradients of a matrix, the present one g among them, as the flattened columns of X:

        g <- (damping I + X X^T)^-1 g = X (damping I + X^T X)^-1 e

    (Woodbury; e picks the present column). Only a history x history system is solved, and one row of X^T X is new an
    update: two passes over the history. It costs history + 1 times a low-rank gradient where it stands inside
    `project_low_rank`, and as many whole gradients outside. State per matrix: history (in out + history + 1), float32.

    Columns are kept with length one and the system with a unit diagonal, so no square overflows. Beyond float32's
    reach, where squared norms exceed damping / (2 history 1.2e-7), the damping grows with them.

    Args:
      history: s, at least 1; 20 as released.
      damping: > 0; 1e-3 as released.
      dims: as in `matrix_transform`; None for (..., in, out).

    Source: Das 2024, Natural GaLore, 2410.16029, and its release, which computes g / l - X (I + X^T X / l)^-1 X^T g /
    l^2: the same, but a difference of numbers 1 / l times larger. X X^T is not divided by the history, as there.
    """
    check(history=(history, COUNT), damping=(damping, POSITIVE))

    def init(weight: jax.Array) -> FisherState:
        batch = weight.shape[:-2]
        zeros = lambda *shape: jnp.zeros((*batch, *shape), weight.dtype)  # noqa: E731
        return FisherState(jnp.zeros((history, *weight.shape), weight.dtype), zeros(history), zeros(history, history))

    def update(
        grad: jax.Array, state: FisherState, weight: jax.Array | None, count: jax.Array
    ) -> tuple[jax.Array, FisherState]:
        del weight
        slot = (count - 1) % history
        state = _remember(grad, state, slot)
        return _solve(state, slot, damping), state

    return matrix_transform(init, update, dims)


def _remember(grad: jax.Array, state: FisherState, slot: jax.Array) -> FisherState:
    """Puts `grad` at `slot` of the ring."""
    put = jax.lax.dynamic_update_index_in_dim
    norm = slice_norm(grad, (-2, -1))
    unit = grad / jnp.where(norm == 0, 1, norm)
    units = put(state.units, unit, slot, 0)
    norms = put(state.norms, norm[..., 0, 0], slot, state.norms.ndim - 1)
    products = jnp.einsum("s...io,...io->...s", units, unit, precision="highest")
    gram = put(state.gram, products, slot, state.gram.ndim - 2)
    return FisherState(units, norms, put(gram, products, slot, state.gram.ndim - 1))


def _solve(state: FisherState, slot: jax.Array, damping: Any) -> jax.Array:
    """Returns X (damping I + X^T X)^-1 e: with h = sqrt(damping + norms^2) the system is scaled to a unit diagonal."""
    history, dtype = state.norms.shape[-1], state.norms.dtype
    root = jnp.sqrt(jnp.asarray(damping, dtype))
    lengths = jnp.hypot(state.norms, root)
    share = state.norms / lengths
    ridge = jnp.maximum(jnp.square(root / lengths), 2 * history * jnp.finfo(dtype).eps)
    system = share[..., :, None] * state.gram * share[..., None, :] + ridge[..., None] * jnp.eye(history, dtype=dtype)
    present = jnp.broadcast_to(jax.nn.one_hot(slot, history, dtype=dtype), share.shape)
    solution = solve_positive(system, present[..., None])[..., 0]
    weights = share * solution / jnp.take(lengths, slot, axis=-1)[..., None]
    return jnp.einsum("...s,s...io->...io", weights, state.units)


def scale_by_natural_galore(
    rank: Rank = 128,
    *,
    scale: Any = 0.25,
    refresh: int = 200,
    history: int = 20,
    damping: Any = 1e-3,
    side: Side = "both",
    basis: Basis = SubspaceIteration(),
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-6,
    stagger: bool = False,
    dims: Any = None,
) -> optax.GradientTransformation:
    """Returns the rule of `natural_galore` for matrices, in ascent direction; the arguments are described there."""
    check(scale=(scale, NOT_NEGATIVE), history=(history, NATURAL))
    adam = scale_by_adam_raw(b1, b2, eps)
    inner = optax.chain(scale_by_fisher_history(history, damping), adam) if history else adam
    return project_low_rank(inner, basis=basis, rank=rank, side=side, refresh=refresh, combine=Backproject(scale),
                            stagger=stagger, dims=dims)


def natural_galore(
    learning_rate: Any,
    infos: Any,
    *,
    rank: Rank = 128,
    scale: Any = 0.25,
    refresh: int = 200,
    history: int = 20,
    damping: Any = 1e-3,
    side: Side = "both",
    basis: Basis = SubspaceIteration(),
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-6,
    weight_decay: Any = 0.0,
    order: Order = "after",
    mask: Any = None,
    stagger: bool = False,
    rest: optax.GradientTransformation | None = None,
) -> optax.GradientTransformation:
    """Returns Natural GaLore (Das 2024, 2410.16029), as released.

    Per matrix G [in, out], at update t (from 1):

        at updates 1, 1 + refresh, ...: A [in, r], B [out, r] = the leading singular vectors of G; moments and
            history stay as they are
        c = A^T G B [r, r];  X = the last `history` cores, the present one among them, flattened
        c <- (damping I + X X^T)^-1 c
        M = b1 M + (1 - b1) c;  V = b2 V + (1 - b2) c^2;  N = M / (sqrt(V) + eps)
        W <- W - rate sqrt(1 - b2^t) / (1 - b1^t) scale A N B^T;  W <- (1 - rate * decay) W

    State per matrix: M, V [r, r], A, B, and the history, float32: 2 r^2 + (in + out) r + history (r^2 + history + 1)
    elements; with history 20 more than a momentum once r exceeds about a quarter of the width.

    Args:
      learning_rate: a number, an array or a schedule.
      infos: the tree of `ParamInfo`; kind "matrix" takes the rule, each slice of a stack by itself.
      rank: r, at least 1, capped at each side; 128 as in GaLore's 60M script. Or a function of the shape.
      scale: of the update, at least 0; 0.25 as in GaLore's scripts.
      refresh: updates from one basis to the next; 200 as released.
      history: cores kept; 20 as released. 0: no Fisher matrix (the release's proj_type "galore").
      damping: > 0; 1e-3 as released.
      side: "both" as released (a Tucker decomposition); "shorter" as in the paper, c = A^T G and so on.
      basis: of `jaxlm.optim.low_rank`; `SVD()` is nearest to the release.
      b1: decay of the first moment, in [0, 1); 0.9 as released.
      b2: decay of the second moment, in [0, 1); 0.999 as released.
      eps: beside the uncorrected root, at least 0; 1e-6 as released.
      weight_decay: at least 0; 0 as released.
      order: whether the decay comes before or after the step; "after" as released.
      mask: a tree of booleans in the place of the decay mask that follows from `infos`.
      stagger: as in `project_low_rank`.
      rest: the direction of other parameters; None for Adam in the same form, as released.

    Differs from the release: one subspace iteration a refresh, with a sign rule, in the place of a Tucker
    decomposition to convergence; the better conditioned form of the inverse (`scale_by_fisher_history`). Left out:
    the "online" variants, which learn A and B. The first core is diagonal where the basis is exact, and Adam makes
    rounding noise of its zeros: prefer eps >= 1e-4. Where damping is small against squared cores, directions that
    recur are damped to 1 / (history |c|): convergence can be very slow. Not in optax.
    """
    rule = scale_by_natural_galore(rank, scale=scale, refresh=refresh, history=history, damping=damping, side=side,
                                   basis=basis, b1=b1, b2=b2, eps=eps, stagger=stagger, dims=infos)
    rest = scale_by_adam_raw(b1, b2, eps) if rest is None else rest
    return contract(optax.chain(
        by_kind(infos, matrix=rule, rest=rest),
        scale_by_rate_and_decay(learning_rate, weight_decay, order=order,
                                mask=decayed(infos) if mask is None else mask)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class NaturalGaLore(Hyperparameters):
    """GaLore with a Fisher matrix of recent gradients (Das 2024, 2410.16029); see `natural_galore`.

    Attributes:
      rank: of the projection on either side, at least 1, capped at each.
      scale: of the update.
      refresh: updates from one basis to the next.
      history: projected gradients kept; 0 for none.
      damping: added to the Fisher matrix, > 0.
      b1: decay of the first moment, in [0, 1).
      b2: decay of the second moment, in [0, 1).
      eps: added to the root of the second moment, > 0.
    """

    kind: ClassVar[str] = "natural_galore"

    rank: int = hyper(128, COUNT, "GaLore (Zhao et al. 2024, 2403.03507), script for 60M parameters")
    scale: float = hyper(0.25, POSITIVE, "GaLore (Zhao et al. 2024, 2403.03507), scripts")
    refresh: int = hyper(200, COUNT, "release")
    history: int = hyper(20, NATURAL, "release")
    damping: float = hyper(1e-3, POSITIVE, "release")
    b1: float = hyper(0.9, FRACTION, "release")
    b2: float = hyper(0.999, FRACTION, "release")
    eps: float = hyper(1e-6, POSITIVE, "release")
    weight_decay: float = hyper(0.0, NOT_NEGATIVE, "release")

    def chain(self, learning_rate: Any, infos: Any, *, weight_decay: Any) -> optax.GradientTransformation:
        """See the base class."""
        return natural_galore(learning_rate, infos, rank=self.rank, scale=self.scale, refresh=self.refresh,
                              history=self.history, damping=self.damping, b1=self.b1, b2=self.b2, eps=self.eps,
                              weight_decay=weight_decay)
