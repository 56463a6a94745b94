"""Bounds on the singular values of weights, kept by projecting them after every update.

Newhouse et al. 2025 (Training Transformers with Enforced Lipschitz Constants, 2507.13338) and its release. A map of
RMS norms to RMS norms has the norm sigma_1(X) with X = W / sqrt(out / in); all bounds are on that matrix.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxlm.config import ConfigError, require
from jaxlm.optim.factorizations import svd
from jaxlm.optim.hyper import COUNT, NOT_NEGATIVE, POSITIVE, SHARE, check, one_of
from jaxlm.optim.matrices import matrix_transform
from jaxlm.optim.newton_schulz import Coefficients
from jaxlm.optim.partition import by_kind
from jaxlm.optim.wrappers import float32_state
from jaxlm.params import labels, matching

Projection = Literal["normalize", "hammer", "hard_cap", "soft_cap", "decay", "clip_svd"]

# F. Cesista's four odd polynomials a s + b s^3 + c s^5, one after the other (in the release): about min(1, s).
# Measured for s in [0, 3.5]: never above 1.0109, within 0.034 of min(1, s). Beyond, values fall below that, and from
# 4.05 on diverge.
HARD_CAP: Coefficients = (
    (0.805032, 0.206361, -0.019763), (0.649867, 0.162935, -0.011150),
    (1.810259, -0.200265, 0.008251), (1.004384, -0.183490, 0.014413))
HARD_CAP_BOUND, HARD_CAP_ERROR, HARD_CAP_REACH = 1.011, 0.034, 3.5

# Where an estimate of sigma_1 may be some percent low.
_HARD_CAP_START = 3.0


def project_spectral(
    kind: Projection,
    infos: Any = None,
    *,
    w_max: Any = 1.0,
    strength: Any = 0.1,
    weight_decay: Any = 0.0,
    max_update_norm: Any = 0.1,
    steps: int = 16,
    exact: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Returns the transformation, the last of a chain, after whose update the matrices satisfy a spectral bound.

    X = (W + update) / (w_max sqrt(out / in));  X <- projection;  update <- w_max sqrt(out / in) X - W,
    each matrix of a stack by itself, sigma_1 u v^T its leading singular triple:

    normalize: X / max(1, sigma_1)
    hammer:    X + (1 - sigma_1) u v^T, so that the leading value is 1, also where it was smaller
    decay:     X - strength sigma_1 u v^T; bounds nothing by itself
    hard_cap:  `hard_cap(X)`: values at most 1.011, for X first scaled down to sigma_1 <= 3 where it is larger
    soft_cap:  `soft_cap(X, a)`, a from `soft_cap_strength`: values at most 1 while the bounds that it is told hold
    clip_svd:  min(1, sigma_i), exact, by an SVD

    No state but a counter. Updates come in as what is added to the parameters, so after learning rate and weight
    decay. In bfloat16 the bound holds to the rounding of the weights.

    Differences to the release, whose batched functions divide by the number of matrices (a defect; each matrix is
    by itself here) and which gives NaN for a zero matrix (that stays zero here): the power iteration starts from
    another vector; the soft cap takes `max_update_norm` in the norm of X, where the release divides it by
    sqrt(out / in) a second time; where no cap is needed its strength is 0, there 1. w_max scales X for every kind,
    which for hammer and soft cap is the same as the release's argument, both being homogeneous.

    Args:
      kind: the projection.
      infos: the tree of `ParamInfo`; only parameters of kind "matrix" change. None: all arrays are (..., in, out).
      w_max: the bound, > 0.
      strength: what decay takes off, in [0, 1]; 0.1 as in the release's checks.
      weight_decay: the share that a step decays the weights by, so rate * decay, in [0, 1] (soft_cap).
      max_update_norm: a bound of sqrt(in / out) sigma_1(update), at least 0, without the decay (soft_cap). For Muon
        with the scale sqrt(out / in) it is about the learning rate.
      steps: of the power iteration, at least 1; 16 as released. Its sigma_1 is from below.
      exact: whether leading triples come from an SVD instead; for small matrices.
    """
    check(kind=(kind, one_of("normalize", "hammer", "hard_cap", "soft_cap", "decay", "clip_svd")),
          w_max=(w_max, POSITIVE), strength=(strength, SHARE), weight_decay=(weight_decay, SHARE),
          max_update_norm=(max_update_norm, NOT_NEGATIVE), steps=(steps, COUNT), exact=(exact, one_of(True, False)))
    leading = functools.partial(leading_triple, steps=steps, exact=exact)
    k = 1 - weight_decay + max_update_norm / w_max
    if kind == "soft_cap" and isinstance(k, float):
        require(k <= 1.306, "max_update_norm", max_update_norm, "one step must not exceed the bound by more than 30%")

    def soft(x: jax.Array) -> jax.Array:
        a = soft_cap_strength(1.0, weight_decay, max_update_norm / w_max, unneeded=0.0)
        return soft_cap(shrink_to(x, jnp.maximum(k, 1), leading), a)

    project: Callable[[jax.Array], jax.Array] = {
        "normalize": lambda x: shrink_to(x, 1, leading),
        "hammer": lambda x: hammer(x, leading=leading),
        "decay": lambda x: decay_leading(x, strength, leading=leading),
        "hard_cap": lambda x: hard_cap(shrink_to(x, _HARD_CAP_START, leading)),
        "soft_cap": soft,
        "clip_svd": clip_singular_values,
    }[kind]

    def update(change: jax.Array, state: None, weights: jax.Array | None, count: Any) -> tuple[jax.Array, None]:
        del count
        if weights is None:
            raise ConfigError("params = None: a projection needs the parameters; pass them to update")
        scale = w_max * (weights.shape[-1] / weights.shape[-2]) ** 0.5
        return scale * project((weights + change) / scale) - weights, state

    rule = matrix_transform(lambda weights: None, update, infos)
    return rule if infos is None else by_kind(infos, matrix=rule, rest=optax.identity())


def normalize_embeddings(infos: Any, *, max_inflation: Any = 1.0) -> optax.GradientTransformationExtraArgs:
    """Returns the transformation, the last of a chain, after whose update no embedding vector has an RMS above 1.

    e <- e / max(1 / max_inflation, RMS(e)): RMS 1, but no vector grows by more than `max_inflation`; 1 is a cap.
    Acts on parameters of kind "embedding", stored (..., entries, width). Stateless. The release stores the transpose.

    Args:
      infos: the tree of `ParamInfo`.
      max_inflation: > 0; 1 as released.
    """
    check(max_inflation=(max_inflation, POSITIVE))

    def update(updates: Any, state: optax.EmptyState, params: Any = None) -> tuple[Any, optax.EmptyState]:
        if params is None:
            raise ConfigError("params = None: a projection needs the parameters; pass them to update")
        kinds = matching(labels(infos), updates)
        new = jax.tree.map(lambda u, w, kind: normalize_vectors(u + w, max_inflation) - w if kind == "embedding" else u,
                           updates, params, kinds)
        return new, state

    return float32_state(optax.GradientTransformation(lambda params: optax.EmptyState(), update))


Leading = Callable[[jax.Array], tuple[jax.Array, jax.Array, jax.Array]]


def leading_triple(x: jax.Array, *, steps: int = 16, exact: bool = False) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns (u [B..., m], sigma [B...], v [B..., n]), the leading singular triple of every matrix [B..., m, n].

    `steps` power iterations on the smaller side: w <- X X^T w / ||X X^T w||; sigma = ||X^T w|| <= sigma_1. The start is
    the first min(m, n) normal numbers of NumPy's `RandomState(0)`, whose stream is frozen. It is the same on every
    machine, for every matrix of a stack, and independent of JAX's random settings. A zero matrix gives zeros.

    Args:
      x: float matrices; scaled inside, so that entries of 1e18 do not overflow.
      steps: at least 1.
      exact: an SVD instead.
    """
    if exact:
        u, s, vt = svd(x)
        return u[..., 0], s[..., 0], vt[..., 0, :]
    largest = jnp.max(jnp.abs(x), axis=(-2, -1), keepdims=True)
    largest = jnp.where(largest == 0, 1, largest)
    unit = x / largest
    wide = x.shape[-2] <= x.shape[-1]
    near, far = ("...i", "...j") if wide else ("...j", "...i")
    across = functools.partial(jnp.einsum, f"...ij,{near}->{far}", unit)
    back = functools.partial(jnp.einsum, f"...ij,{far}->{near}", unit)
    start = np.random.RandomState(0).standard_normal(min(x.shape[-2:])).astype(x.dtype)
    near_vector = jnp.broadcast_to(start, (*x.shape[:-2], start.size))
    near_vector = jax.lax.fori_loop(0, steps, lambda _, w: _direction(back(across(w)))[0], near_vector)
    far_vector, sigma = _direction(across(near_vector))
    u, v = (near_vector, far_vector) if wide else (far_vector, near_vector)
    return u, sigma * largest[..., 0, 0], v


def shrink_to(x: jax.Array, bound: Any, leading: Leading = leading_triple) -> jax.Array:
    """Returns X / max(1, sigma_1 / bound) for matrices [B..., m, n]."""
    sigma = leading(x)[1][..., None, None]
    return x / jnp.maximum(1, sigma / bound)


def hammer(x: jax.Array, w_max: Any = 1.0, *, leading: Leading = leading_triple) -> jax.Array:
    """Returns X + (w_max - sigma_1) u v^T: the leading singular value becomes `w_max`."""
    u, sigma, v = leading(x)
    return x + _outer((w_max - sigma)[..., None] * u, v)


def decay_leading(x: jax.Array, strength: Any = 0.1, *, leading: Leading = leading_triple) -> jax.Array:
    """Returns X - strength sigma_1 u v^T."""
    u, sigma, v = leading(x)
    return x - _outer((strength * sigma)[..., None] * u, v)


def hard_cap(x: jax.Array) -> jax.Array:
    """Returns matrices [B..., m, n] whose singular values s have become about min(1, s): `HARD_CAP`, products alone.

    For s in [0, 3.5] at most 1.011 and within 0.034 of min(1, s) (largest at s = 1); larger ones diverge.
    """
    return odd_polynomials(x, HARD_CAP)


def soft_cap(x: jax.Array, strength: Any) -> jax.Array:
    """Returns matrices whose singular values went through s <- s - a s^3, then s <- s + a s^3, a = `strength`."""
    return odd_polynomials(x, ((1, -strength, None), (1, strength, None)))


def soft_cap_strength(w_max: Any, weight_decay: Any, max_update_norm: Any, *, unneeded: float = 1.0) -> jax.Array:
    """Returns the strength of the soft cap that brings the largest value which a step can reach back to `w_max`.

    A step from w_max reaches at most k = w_max (1 - weight_decay) + max_update_norm. The strength is the smallest
    non-negative real root a of

        -k^9 a^4 + 3 k^7 a^3 - 3 k^5 a^2 + (k - w_max) = 0,

    that is, with x = k^2 a, of x^2 (3 - 3 x + x^2) = 1 - w_max / k, which rises with x: the root is alone, and five
    Newton steps from below reach it. Where k < w_max (by more than rounding) no root exists. For x <= 1/3, that is
    k <= 1.306 w_max, the soft cap rises up to k and so bounds every value; the roots beyond bound nothing.

    Args:
      w_max: the bound, > 0.
      weight_decay: the share that a step decays the weights by, in [0, 1].
      max_update_norm: the largest spectral norm of a step, at least 0.
      unneeded: the result where k < w_max: 1 as released; 0 is no cap.
    """
    beyond = max_update_norm - w_max * weight_decay
    k = w_max + beyond
    share = beyond / jnp.asarray(k, jnp.result_type(float))
    target = jnp.where(share > 0, share, 1)
    x = jnp.sqrt(target / 3)
    for _ in range(5):
        x = x + (target - x**2 * (3 - 3 * x + x**2)) / (x * (6 - 9 * x + 4 * x**2))
    return jnp.where(share > 0, x / k**2, jnp.where(share > -1e-7, 0, unneeded))


def clip_singular_values(x: jax.Array, bound: Any = 1.0) -> jax.Array:
    """Returns matrices with singular values min(bound, sigma_i), by an SVD."""
    u, s, vt = svd(x)
    return jnp.matmul(u * jnp.minimum(s, bound)[..., None, :], vt)


def normalize_vectors(x: jax.Array, max_inflation: Any = 1.0) -> jax.Array:
    """Returns x / max(1 / max_inflation, RMS(x)), the RMS over the last axis."""
    largest = jnp.max(jnp.abs(x), axis=-1, keepdims=True)
    largest = jnp.where(largest == 0, 1, largest)
    rms = largest * jnp.sqrt(jnp.mean((x / largest) ** 2, axis=-1, keepdims=True))
    return x / jnp.maximum(1 / max_inflation, rms)


def odd_polynomials(x: jax.Array, rows: Sequence[tuple[Any, Any, Any]]) -> jax.Array:
    """Returns matrices whose singular values went through a s + b s^3 + c s^5 for each row (a, b, c); c may be None."""
    transposed = x.shape[-2] > x.shape[-1]
    out = x.swapaxes(-1, -2) if transposed else x
    for a, b, c in rows:
        gram = jnp.einsum("...ik,...jk->...ij", out, out)
        out = a * out + jnp.matmul(b * gram if c is None else b * gram + c * jnp.matmul(gram, gram), out)
    return out.swapaxes(-1, -2) if transposed else out


def _direction(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    norm = jnp.linalg.norm(x, axis=-1)
    return x / jnp.where(norm == 0, 1, norm)[..., None], norm


def _outer(u: jax.Array, v: jax.Array) -> jax.Array:
    return u[..., :, None] * v[..., None, :]
