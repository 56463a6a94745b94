"""Step size and guarantee of SGD's last iterate for a class of convex Lipschitz losses and a schedule.

Sources: Defazio et al. 2023, arXiv 2310.07831 (linear decay, and the bound for general schedules); Liu and Zhou
2023, "Revisiting the Last-Iterate Convergence of Stochastic Gradient Methods", arXiv 2312.08531 (rates in T without
a compact domain or bounded noise, heavy tails). The constants are ours: derived as each docstring says.
"""

import dataclasses

import numpy as np
import numpy.typing as npt

from jaxlm.config import require


@dataclasses.dataclass(frozen=True, kw_only=True)
class Guarantee:
    """What theory promises of the last iterate for a class of problems, and how to get it.

    Attributes:
      step: size that multiplies the schedule.
      gap: bound on E f(x_T) - f*.
      clip: level at which the norm of the gradient is clipped; infinite where it is not.
    """

    step: float
    gap: float
    clip: float = np.inf


def exponent(p: float) -> float:
    """Returns e of T^-e, the optimal rate under noise of finite p-th moment: (p-1)/p, so 1/2 at p = 2.

    Raises `ConfigError` unless 1 < p <= 2. Source: Liu and Zhou 2023, on heavy tails.

    >>> exponent(2.0), exponent(1.25)
    (0.5, 0.2)
    """
    require(1 < p <= 2, "p", p, "must lie in (1, 2]")
    return (p - 1) / p


def any_schedule(shape: npt.ArrayLike, *, distance: float, moment: float, bias: float = 0.0,
                 diameter: float = 0.0) -> Guarantee:
    """Returns the step size that minimises the bound under a schedule, and the bound.

    With rates l_t = step * shape_t, |x_1 - x*| <= D and E|g_t|^2 <= M^2,

        E f(x_T) - f* <= D^2 / (2 S_1) + M^2 Q_1 / (2 S_1) + M^2/2 sum_{k<T} l_k Q_k / (S_k S_{k+1}),

    S_k and Q_k the sums of l and l^2 from k on: the gap of x_T is a weighted mean of all gaps plus weighted
    means of what later points lose to x_k, each bounded as in the proof for averages. x_T, the T-th point, is
    where the last rate would be applied. Gradients of bias b over a domain of the given diameter add
    b * diameter * (1 + sum_{k<T} l_k / S_{k+1}), by the same lines. In step the bound is a/step + b*step (+ c),
    hence the best step in closed form.

    Args:
      shape: [T] positive multipliers of the step size.
      distance: D > 0.
      moment: M > 0, root of the second moment of the gradient's norm.
      bias: bound on the norm of the gradient's bias, >= 0.
      diameter: of the domain; read only where there is a bias.

    Raises:
      ConfigError: naming the argument that is out of range.

    Source: Defazio et al. 2023, the bound that their numerical schedules minimise.

    >>> any_schedule([1.0], distance=1.0, moment=2.0)
    Guarantee(step=0.5, gap=2.0, clip=inf)
    """
    rates = np.asarray(shape, float)
    require(rates.ndim == 1 and rates.size > 0 and bool((rates > 0).all()), "shape", rates.tolist()[:3],
            "must be positive multipliers, one for each update")
    _check(distance=distance, moment=moment)
    require(bias >= 0, "bias", bias, "must not be negative")
    require(diameter >= 0, "diameter", diameter, "must not be negative")
    sums, squares = np.cumsum(rates[::-1])[::-1], np.cumsum(rates[::-1] ** 2)[::-1]
    noise = squares[0] / sums[0] + np.sum(rates[:-1] * squares[:-1] / (sums[:-1] * sums[1:]))
    lost = bias * diameter * (1 + np.sum(rates[:-1] / sums[1:]))
    return Guarantee(step=float(distance / (moment * np.sqrt(sums[0] * noise))),
                     gap=float(distance * moment * np.sqrt(noise / sums[0]) + lost))


def linear_decay(updates: int, *, lipschitz: float, distance: float, sigma: float = 0.0) -> Guarantee:
    """Returns the tight guarantee of rates step * (1 - t/T), t = 0..T-1, under noise of standard deviation sigma.

    step = D / (M sqrt T) and gap <= D M / sqrt T with M^2 = G^2 + sigma^2.
    Source: Defazio et al. 2023, with the second moment of the gradient for G^2.

    >>> linear_decay(100, lipschitz=3.0, distance=2.0, sigma=4.0)
    Guarantee(step=0.04, gap=1.0, clip=inf)
    """
    require(updates >= 1, "updates", updates, "must be at least 1")
    _check(lipschitz=lipschitz, distance=distance)
    require(0 <= sigma < np.inf, "sigma", sigma, "must be finite and not negative")
    moment = np.hypot(lipschitz, sigma)
    root = np.sqrt(updates)
    return Guarantee(step=float(distance / (moment * root)), gap=float(distance * moment / root))


def for_class(shape: npt.ArrayLike, *, lipschitz: float, distance: float, sigma: float, p: float = 2.0) -> Guarantee:
    """Returns step, clipping level and guarantee for G-Lipschitz convex losses and noise E|noise|^p <= sigma^p.

    p = 2: nothing is clipped and the domain need not be bounded; second moment G^2 + sigma^2.
    p < 2: on a domain of diameter 2 D, with gradients clipped at M T^(1/p), M^p = 2^(p-1) (G^p + sigma^p) >= E|g|^p:
    their second moment is then at most M^p clip^(2-p) and their bias M^p clip^(1-p), which `any_schedule` turns
    into a gap of order D M T^(-(p-1)/p), but for logarithms.

    Raises:
      ConfigError: naming the argument that is out of range.
    """
    exponent(p)
    _check(lipschitz=lipschitz, distance=distance, sigma=sigma)
    if p == 2:
        return any_schedule(shape, distance=distance, moment=np.hypot(lipschitz, sigma))
    power = 2 ** (p - 1) * (lipschitz**p + sigma**p)
    clip = float((power * np.size(shape)) ** (1 / p))
    found = any_schedule(shape, distance=distance, moment=np.sqrt(power * clip ** (2 - p)), diameter=2 * distance,
                         bias=power * clip ** (1 - p))
    return dataclasses.replace(found, clip=clip)


def _check(**positive: float) -> None:
    for name, value in positive.items():
        require(0 < value < np.inf, name, value, "must be positive and finite")
