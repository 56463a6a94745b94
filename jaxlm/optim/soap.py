"""SOAP: Adam in the eigenbasis of Shampoo's two factors."""

import dataclasses
import math
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxlm.optim.decay import Order, scale_by_rate_and_decay
from jaxlm.optim.factorizations import complete_q, descending_eigenvectors, qr
from jaxlm.optim.hyper import (
    COUNT,
    FRACTION,
    NATURAL,
    NOT_NEGATIVE,
    POSITIVE,
    Hyperparameters,
    check,
    hyper,
    one_of,
)
from jaxlm.optim.late_adam import LateAdam, scale_by_late_adam, skip_first
from jaxlm.optim.matrices import largest_to_one, matrix_transform
from jaxlm.optim.partition import by_kind, decayed
from jaxlm.optim.wrappers import contract

Sides = Literal["both", "shorter", "input", "output"]
INPUT, OUTPUT = -2, -1


class SoapState(NamedTuple):
    """State of one leaf, float32; factor and basis of a side are None where it is not rotated.

    Attributes:
      mu, nu: first and second moment in the rotated basis, [B..., in, out].
      input_factor, output_factor: averages of G G^T and G^T G, [B..., in, in] and [B..., out, out].
      input_basis, output_basis: their approximate eigenvectors, in columns, by falling eigenvalue.
    """

    mu: jax.Array
    nu: jax.Array
    input_factor: jax.Array | None
    output_factor: jax.Array | None
    input_basis: jax.Array | None
    output_basis: jax.Array | None


def soap(
    learning_rate: Any,
    infos: Any,
    *,
    b1: Any = 0.95,
    b2: Any = 0.95,
    shampoo_beta: Any = None,
    eps: Any = 1e-8,
    refresh: int = 10,
    sides: Sides = "both",
    max_precond_dim: int = 2048,
    normalize_grads: bool = False,
    correct_bias: bool = True,
    alternate: bool = False,
    stagger: bool = False,
    weight_decay: Any = 0.01,
    order: Order = "after",
    mask: Any = None,
    rest: optax.GradientTransformation | None = None,
) -> optax.GradientTransformation:
    """Returns SOAP (Vyas et al. 2024, 2409.11321, algorithm 3, and nikhilvyas/SOAP as released).

    Matrices take `scale_by_soap`, the others Adam (`scale_by_late_adam`, as released with its default
    precondition_1d = False). The whole first update is skipped, weight decay included: it only makes the bases.
    A schedule's index counts it. State: that of `scale_by_soap`, two arrays for the others.

    Args:
      learning_rate: a number, an array or a schedule; the release's default is 3e-3.
      infos: the tree of `ParamInfo`.
      b1, b2, shampoo_beta, eps, refresh, sides, max_precond_dim, normalize_grads, correct_bias, alternate, stagger:
        as in `scale_by_soap`.
      weight_decay: at least 0; 0.01 as released.
      order: whether the decay comes before or after the step; "after" as released.
      mask: a tree of booleans in the place of the one that follows from `infos`.
      rest: direction of embeddings, head and vectors; its first one is skipped. None: `scale_by_late_adam`.
    """
    rule = scale_by_soap(
        b1, b2, shampoo_beta=shampoo_beta, eps=eps, refresh=refresh, sides=sides, max_precond_dim=max_precond_dim,
        normalize_grads=normalize_grads, correct_bias=correct_bias, alternate=alternate, stagger=stagger, dims=infos)
    if rest is None:
        rest = scale_by_late_adam(b1, b2, eps, normalize_grads=normalize_grads, correct_bias=correct_bias, infos=infos)
    mask = decayed(infos) if mask is None else mask
    return contract(optax.chain(
        by_kind(infos, matrix=rule, rest=rest),
        scale_by_rate_and_decay(learning_rate, weight_decay, mask=mask, order=order), skip_first()))


def scale_by_soap(
    b1: Any = 0.95,
    b2: Any = 0.95,
    *,
    shampoo_beta: Any = None,
    eps: Any = 1e-8,
    refresh: int = 10,
    sides: Sides = "both",
    max_precond_dim: int = 2048,
    normalize_grads: bool = False,
    correct_bias: bool = True,
    alternate: bool = False,
    stagger: bool = False,
    phase: int = 0,
    dims: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Returns the direction of SOAP for matrices G [in, out].

    First update: L = (1 - s) G G^T, R = (1 - s) G^T G, QL and QR their eigenvectors by falling eigenvalue; the
    direction is 0 and the moments stay 0. Then, k = 1, 2, ... counting the later updates:

        1. G' = QL^T G QR
        2. M = b1 M + (1 - b1) G';  V = b2 V + (1 - b2) G'^2
        3. N = QL (M / (sqrt(V) + eps)) QR^T
        4. N <- N / (1e-30 + RMS(N))                                          with normalize_grads
        5. direction = (sqrt(1 - b2^k) / (1 - b1^k)) N                        without the factor: correct_bias=False
        6. L = s L + (1 - s) G G^T;  R = s R + (1 - s) G^T G
        7. where k mod refresh = 0, for each side: columns of Q and entries of V sorted by falling diag(Q^T L Q),
           then Q_new = the Q of qr(L Q) and M <- Q_new^T Q M (one power iteration; V is only permuted)

    A side that is not rotated has Q = I and no factor; with neither, it is Adam. M lives in the rotated basis and
    turns at refreshes alone, which equals turning it back and forth at every update, as paper and release do.
    State: 2 in out + 2 in^2 + 2 out^2. Cost of an update: four products and two rank updates with both sides.

    Non-square matrices: the first factor of the longer side has the rank of the shorter one, and an eigensolver
    fills its null space with noise, so the released code in float32 and float64 parts by 31% of the way on 20 x 8.
    Here the first bases are the eigenvectors E of the shorter side's factor and, for the longer one, the full
    orthogonal factor of the Householder QR (LAPACK's) of X E, where X [longer, shorter] is the gradient: eigenvectors
    as well, completed by a continuous function of them that does not depend on their signs. Nothing fixes what a
    first gradient of lower rank than the shorter side leaves open.

    Differences to the release: that completion; one eigensolver, of the shorter side; max_precond_dim is 2048 and
    not 10000; tensors with more axes are stacks of matrices, where the release has one factor for each axis, and
    merge_dims is given by `dims`; vectors have no rule here.

    Args:
      b1: decay of the first moment, in [0, 1); 0.95 as released.
      b2: decay of the second moment, in [0, 1); 0.95 as released.
      shampoo_beta: s, decay of the factors, in [0, 1); None for b2, as released.
      eps: added to the uncorrected root of the second moment, > 0; 1e-8 as released.
      refresh: k between two refreshes, at least 1; 10 as released and in the paper's experiments.
      sides: which sides may be rotated; "shorter" is the input where both are equal (one-sided SOAP, section 7.2.2
        of the paper).
      max_precond_dim: a longer side is not rotated. With 2048, and not the released 10000, a refresh costs less than
        three ordinary updates on 1024 x 1024 + 1024 x 4096; the QR of a 4096-side alone costs more.
      normalize_grads: whether every matrix's direction has RMS 1 before the bias correction.
      correct_bias: whether the moments' bias is corrected.
      alternate: whether the output side refreshes half an interval before the input side, so that no update
        refreshes both.
      stagger: whether slice i of a stack refreshes i * refresh // slices updates early.
      phase: updates by which all refreshes come early.
      dims: as in `matrix_transform`.
    """
    check(b1=(b1, FRACTION), b2=(b2, FRACTION), shampoo_beta=(shampoo_beta, FRACTION), eps=(eps, POSITIVE),
          refresh=(refresh, COUNT), max_precond_dim=(max_precond_dim, NATURAL), phase=(phase, NATURAL),
          sides=(sides, one_of("both", "shorter", "input", "output")))
    adam = LateAdam(b1, b2, eps, normalize_grads, correct_bias)
    decay = b2 if shampoo_beta is None else shampoo_beta
    rule = _Soap(adam, decay, refresh, sides, max_precond_dim, alternate, stagger, phase)
    return matrix_transform(rule.init, rule.update, dims)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SOAP(Hyperparameters):
    """Adam in Shampoo's eigenbasis for matrices, Adam for the rest (Vyas et al. 2024, 2409.11321); see `soap`.

    Attributes:
      b1: decay of the first moment, in [0, 1).
      b2: decay of the second moment and of the factors, in [0, 1).
      eps: added to the root of the second moment, > 0.
      refresh: updates between two refreshes of the bases.
      sides: which sides of a matrix are rotated.
      max_precond_dim: a longer side is not rotated.
    """

    kind: ClassVar[str] = "soap"

    b1: float = hyper(0.95, FRACTION, "nikhilvyas/SOAP as released")
    b2: float = hyper(0.95, FRACTION, "nikhilvyas/SOAP as released")
    eps: float = hyper(1e-8, POSITIVE, "nikhilvyas/SOAP as released")
    refresh: int = hyper(10, COUNT, "Vyas et al. 2024, 2409.11321, section 5")
    sides: Sides = hyper("both", one_of("both", "shorter", "input", "output"), "nikhilvyas/SOAP as released")
    max_precond_dim: int = hyper(2048, NATURAL, "measured: refreshes under three ordinary updates; 10000 as released")
    weight_decay: float = hyper(0.01, NOT_NEGATIVE, "nikhilvyas/SOAP as released")

    def chain(self, learning_rate: Any, infos: Any, *, weight_decay: Any) -> optax.GradientTransformation:
        """See the base class."""
        return soap(learning_rate, infos, b1=self.b1, b2=self.b2, eps=self.eps, refresh=self.refresh, sides=self.sides,
                    max_precond_dim=self.max_precond_dim, weight_decay=weight_decay)


@dataclasses.dataclass(frozen=True)
class _Soap:
    adam: LateAdam
    decay: Any
    every: int
    sides: Sides
    longest: int
    alternate: bool
    stagger: bool
    phase: int

    def axes(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The axes of [B..., in, out] that are rotated."""
        shorter = INPUT if shape[INPUT] <= shape[OUTPUT] else OUTPUT
        wanted = {"both": (INPUT, OUTPUT), "shorter": (shorter,), "input": (INPUT,), "output": (OUTPUT,)}[self.sides]
        return tuple(axis for axis in wanted if shape[axis] <= self.longest)

    def init(self, weight: jax.Array) -> SoapState:
        *batch, _, _ = weight.shape
        lengths = {axis: weight.shape[axis] for axis in self.axes(weight.shape)}
        factor = {axis: jnp.zeros((*batch, n, n), weight.dtype) for axis, n in lengths.items()}
        basis = {axis: jnp.broadcast_to(jnp.eye(n, dtype=weight.dtype), (*batch, n, n)) for axis, n in lengths.items()}
        return _state(jnp.zeros_like(weight), jnp.zeros_like(weight), factor, basis)

    def update(
        self, grad: jax.Array, state: SoapState, weight: jax.Array | None, count: jax.Array
    ) -> tuple[jax.Array, SoapState]:
        del weight
        axes = self.axes(grad.shape)
        factor = {INPUT: state.input_factor, OUTPUT: state.output_factor}
        basis = {INPUT: state.input_basis, OUTPUT: state.output_basis}
        rotated = grad
        for axis in axes:
            rotated = _into(rotated, basis[axis], axis)
        mu, nu = self.adam.moments(rotated, state.mu, state.nu, count)
        direction = self.adam.direction(mu, nu)
        for axis in axes:
            direction = _back(direction, basis[axis], axis)
        direction = self.adam.scale(direction, count, (INPUT, OUTPUT))
        for axis in axes:
            factor[axis] = self.decay * factor[axis] + _gram((1 - self.decay) * grad, grad, axis)
        if axes:
            bases = [basis[axis] for axis in axes]
            bases = jax.lax.cond(count == 1, lambda: _first_bases(grad, axes), lambda: bases)
            for axis, first in zip(axes, bases, strict=True):
                due = self._due(axis, count, grad.shape[:-2])
                basis[axis], mu, nu = _where_due(due, axis, factor[axis], first, mu, nu)
        return direction, _state(mu, nu, factor, basis)

    def _due(self, axis: int, count: jax.Array, batch: tuple[int, ...]) -> jax.Array:
        """Whether this update refreshes: a scalar, or one for each slice of the stack."""
        k, phase = count - 1, self.phase
        if self.alternate and axis == OUTPUT:
            phase = phase + self.every // 2
        slices = math.prod(batch)
        if self.stagger and slices > 1:
            phase = phase + jnp.arange(slices) * self.every // slices
        return (k > 0) & ((k + phase) % self.every == 0)


def _state(mu: jax.Array, nu: jax.Array, factor: dict, basis: dict) -> SoapState:
    return SoapState(mu=mu, nu=nu, input_factor=factor.get(INPUT), output_factor=factor.get(OUTPUT),
                     input_basis=basis.get(INPUT), output_basis=basis.get(OUTPUT))


def _first_bases(grad: jax.Array, axes: tuple[int, ...]) -> list[jax.Array]:
    """The eigenvectors of G G^T and G^T G by falling eigenvalue, completed as `scale_by_soap` says."""
    shorter = INPUT if grad.shape[INPUT] < grad.shape[OUTPUT] else OUTPUT
    x = largest_to_one(grad.swapaxes(-1, -2) if shorter == INPUT else grad)
    short = descending_eigenvectors(jnp.matmul(x.swapaxes(-1, -2), x))
    return [short if axis == shorter else complete_q(jnp.matmul(x, short)) for axis in axes]


def _where_due(
    due: jax.Array, axis: int, factor: jax.Array, basis: jax.Array, mu: jax.Array, nu: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Basis and moments, refreshed where `due`; slice by slice where slices differ."""
    def one(due: jax.Array, factor: jax.Array, *old: jax.Array) -> tuple[jax.Array, ...]:
        return jax.lax.cond(due, lambda: _refresh(axis, factor, *old), lambda: old)

    if due.ndim == 0:
        return one(due, factor, basis, mu, nu)
    flat = [x.reshape(-1, *x.shape[-2:]) for x in (factor, basis, mu, nu)]
    new = jax.lax.map(lambda each: one(*each), (due, *flat))
    return tuple(after.reshape(old.shape) for after, old in zip(new, (basis, mu, nu), strict=True))


def _refresh(
    axis: int, factor: jax.Array, basis: jax.Array, mu: jax.Array, nu: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """One power iteration of `basis`; the first moment turns with it, the second is permuted."""
    product = jnp.matmul(factor, basis)
    order = jnp.argsort(-jnp.sum(basis * product, axis=-2), axis=-1)
    along = order[..., :, None] if axis == INPUT else order[..., None, :]
    new = qr(largest_to_one(jnp.take_along_axis(product, order[..., None, :], axis=-1)))[0]
    if mu.shape[axis] <= mu.shape[INPUT + OUTPUT - axis]:
        mu = _into(mu, _into(new, basis, INPUT), axis)
    else:
        mu = _into(_back(mu, basis, axis), new, axis)
    return new, mu, jnp.take_along_axis(nu, along, axis=axis)


def _into(x: jax.Array, basis: jax.Array, axis: int) -> jax.Array:
    """Q^T X for the input axis, X Q for the output axis."""
    return jnp.matmul(_transposed(basis), x) if axis == INPUT else jnp.matmul(x, basis)


def _back(x: jax.Array, basis: jax.Array, axis: int) -> jax.Array:
    """Q X for the input axis, X Q^T for the output axis."""
    return jnp.matmul(basis, x) if axis == INPUT else jnp.matmul(x, basis.swapaxes(-1, -2))


def _gram(x: jax.Array, y: jax.Array, axis: int) -> jax.Array:
    """X Y^T for the input axis, X^T Y for the output axis."""
    return jnp.matmul(x, y.swapaxes(-1, -2)) if axis == INPUT else jnp.matmul(_transposed(x), y)


def _transposed(x: jax.Array) -> jax.Array:
    # Written out: XLA's CPU products take 1.7 times as long with the left matrix transposed in place.
    return jax.lax.optimization_barrier(x.swapaxes(-1, -2))
