"""Last iterate of SGD on Lipschitz convex losses, with Gaussian and with heavy-tailed gradient noise.

    python experiments/testbeds/last_iterate.py [--out DIR]     # about 20 s on one core

Rates are worst cases over a class, so the gap reported is the largest over a class of losses:
f(x) = g |x - D| from x = 0, slopes g from far below to the Lipschitz constant G = 1, noise added to the gradient.
With T updates the hardest slope is near the noise of the mean of T gradients. On a second problem, a maximum of
linear functions in T dimensions, the last iterate loses a logarithm unless the rate decays linearly.

Sources: those of `bounds`; Hübler et al. 2025, "Can SGD Handle Heavy-Tailed Noise?", arXiv 2508.04860 (no
clipping, a projection);
Harvey et al. 2018, arXiv 1812.05217 (the logarithm).
"""

import dataclasses
import functools
import pathlib
import sys
from typing import Literal

import bounds
import jax
import jax.numpy as jnp
import numpy as np
import verdicts

from jaxlm import schedules
from jaxlm.config import require

Shape = Literal["linear", "1/sqrt(t)", "constant"]
SHAPES: tuple[Shape, ...] = ("linear", "1/sqrt(t)", "constant")
QUANTILES = (0.5, 0.9, 0.99)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Noise:
    """Independent additive noise of the gradient with E|noise|^p = sigma^p.

    Attributes:
      p: the moment that is finite, in (1, 2]. 2 is Gaussian noise; below 2 symmetric Pareto noise.
      sigma: its p-th root, > 0.
      tail: how far the tail index lies above p, > 0; the moments below p + tail are finite.
    """

    p: float = 2.0
    sigma: float = 1.0
    tail: float = 0.1

    def __post_init__(self) -> None:
        require(1 < self.p <= 2, "p", self.p, "must lie in (1, 2]")
        require(0 < self.sigma < np.inf, "sigma", self.sigma, "must be positive and finite")
        require(self.tail > 0, "tail", self.tail, "must be positive")

    @property
    def index(self) -> float:
        """The tail index; infinite for Gaussian noise."""
        return np.inf if self.p == 2 else self.p + self.tail

    def sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Returns independent draws."""
        if self.p == 2:
            return self.sigma * jax.random.normal(key, shape)
        size, sign = jax.random.split(key)
        # exp of an exponential is Pareto; E(scale e^(X/index))^p = scale^p index / (index - p). float32 ends at X = 16.6.
        scale = self.sigma * (1 - self.p / self.index) ** (1 / self.p)
        draws = scale * jnp.exp(jax.random.exponential(size, shape) / self.index)
        return jnp.where(jax.random.bernoulli(sign, shape=shape), draws, -draws)


def multipliers(shape: Shape, updates: int) -> np.ndarray:
    """Returns float64[updates], the schedule over its step size; positive, 1 at the first update."""
    require(shape in SHAPES, "shape", shape, f"must be one of {', '.join(SHAPES)}")
    if shape == "1/sqrt(t)":
        require(updates >= 1, "updates", updates, "must be at least 1")
        return 1 / np.sqrt(np.arange(1.0, updates + 1))
    return schedules.as_array(schedules.linear(updates) if shape == "linear" else schedules.constant(), updates)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slopes:
    """The losses g |x - D| from x = 0, for `count` slopes g spaced geometrically up to G.

    Attributes:
      lipschitz: G > 0, the largest slope.
      distance: D > 0 from the start to the minimum, whose value is zero.
      least: the smallest slope over the largest, in (0, 1).
      count: number of slopes, >= 2.
    """

    lipschitz: float = 1.0
    distance: float = 1.0
    least: float = 2.0**-8
    count: int = 17

    def __post_init__(self) -> None:
        for name in ("lipschitz", "distance"):
            value = getattr(self, name)
            require(0 < value < np.inf, name, value, "must be positive and finite")
        require(0 < self.least < 1, "least", self.least, "must lie in (0, 1)")
        require(isinstance(self.count, int) and self.count >= 2, "count", self.count, "must be a whole number, >= 2")

    @property
    def slopes(self) -> np.ndarray:
        """float64[count], ascending."""
        return np.geomspace(self.least * self.lipschitz, self.lipschitz, self.count)


@functools.partial(jax.jit, static_argnames=("problem", "noise", "runs"))
def last_gaps(problem: Slopes, rates: jax.Array, *, updates: int, noise: Noise, clip: float, radius: float, runs: int,
              key: jax.Array) -> jax.Array:
    """Returns the gaps f(x_T) - f* of SGD's last iterate, [schedules, slopes, runs].

    Compiled once for all `updates`, clipping levels and radii.

    Args:
      problem: the losses; schedules and slopes share each run's noise.
      rates: [longest, schedules].
      updates: number of rates that are applied, from the first on, <= longest.
      noise: added to every gradient.
      clip: level at which a gradient's size is clipped; may be infinite.
      radius: x stays within [-radius, radius] of the start; may be infinite.
      runs: number of independent runs.
      key: of all the noise.
    """
    g = jnp.asarray(problem.slopes)[:, None]

    def update(t: jax.Array, x: jax.Array) -> jax.Array:
        drawn = noise.sample(jax.random.fold_in(key, t), (runs,))
        gradient = jnp.clip(g * jnp.sign(x - problem.distance) + drawn, -clip, clip)
        return jnp.clip(x - rates[t][:, None, None] * gradient, -radius, radius)

    x = jax.lax.fori_loop(0, updates, update, jnp.zeros((rates.shape[1], problem.count, runs)))
    return g * jnp.abs(x - problem.distance)


def staircase(rates: np.ndarray) -> float:
    """Returns sqrt(T) f(x) after T exact subgradient steps on the staircase that the rates make hard.

    f(x) = max_i h_i.x over T+1 rows in T dimensions, from x = 0 in the unit ball; |h_i| < 1 and min f = 0. Row i
    has a_j = 1/(8 (T-j+1)) before its -b_i at i and zeros after; the oracle gives the first active row, so that
    every update uncovers the next one. Under rates 1/sqrt(t), and under the constant 1/sqrt(T), the last f is
    between log(T)/32 and log(T)/16 over sqrt(T) to leading order; under linear decay from 1/sqrt(T) it is
    (7/128) / sqrt(T).

    Args:
      rates: [T], > 0.

    Source: Harvey et al. 2018, arXiv 1812.05217, whose b_i = sqrt(i/T)/2 is for 1/sqrt(t); here
    b_i = min(1, 1/(sqrt(T) rate_i))/2, which equals it there.
    """
    rates = np.asarray(rates, float)
    require(rates.ndim == 1 and rates.size > 0 and bool((rates > 0).all()), "rates", rates[:3].tolist(),
            "must be positive, one for each update")
    size = rates.size
    h = np.zeros((size + 1, size))
    h[:] = 1 / (8 * (size - np.arange(size)))
    h = np.tril(h, -1)
    h[np.arange(size), np.arange(size)] = -np.minimum(1, 1 / (np.sqrt(size) * rates)) / 2
    x = np.zeros(size)
    for rate in rates:
        values = h @ x
        x = x - rate * h[np.argmax(values >= values.max() - 1e-12)]
        x /= max(1.0, np.linalg.norm(x))
    return float(np.sqrt(size) * np.max(h @ x))


def measure(problem: Slopes, horizons: np.ndarray, *, noise: Noise, clipped: bool, runs: int) -> dict[str, np.ndarray]:
    """Returns what `runs` runs of each of `SHAPES` show at every horizon T, arrays of [horizons, schedules, ...].

    "gap" is the mean at the slope where it is largest, "error" its standard error, "quantiles" the 50, 90 and 99%
    there, "bound" the guarantee. Under heavy tails x stays within `problem.distance` of the start, and the step is
    that of the clipped guarantee whether gradients are clipped or not.
    """
    found: dict[str, list] = {"gap": [], "error": [], "quantiles": [], "bound": []}
    for k, updates in enumerate(map(int, horizons)):
        shapes = [multipliers(shape, updates) for shape in SHAPES]
        given = [bounds.for_class(shape, lipschitz=problem.lipschitz, distance=problem.distance, sigma=noise.sigma,
                                  p=noise.p) for shape in shapes]
        rates = np.zeros((horizons[-1], len(SHAPES)))
        rates[:updates] = np.stack([one.step * shape for one, shape in zip(given, shapes, strict=True)], axis=1)
        # x_T, the T-th point, is what the guarantee is about: the last rate is for leaving it.
        last = np.asarray(last_gaps(
            problem, jnp.asarray(rates), updates=updates - 1, noise=noise, clip=given[0].clip if clipped else np.inf,
            radius=problem.distance if noise.p < 2 else np.inf, runs=runs, key=jax.random.key(k)), float)
        hardest = last[np.arange(len(SHAPES)), last.mean(2).argmax(1)]
        found["gap"].append(hardest.mean(1))
        found["error"].append(hardest.std(1, ddof=1) / np.sqrt(runs))
        found["quantiles"].append(np.quantile(hardest, QUANTILES, axis=1).T)
        found["bound"].append([one.gap for one in given])
    return {name: np.array(values) for name, values in found.items()}


def last_iterate(out: pathlib.Path) -> list[verdicts.Check]:
    """Runs the bed; returns its checks and writes its picture into `out`."""
    problem, horizons = Slopes(), 4 ** np.arange(2, 7)
    cases = {"Gaussian": (Noise(), False)}
    for p in (1.75, 1.5, 1.25):
        cases |= {f"p = {p:g}, clipped": (Noise(p=p), True), f"p = {p:g}, projection only": (Noise(p=p), False)}
    shown = {name: measure(problem, horizons, noise=noise, clipped=clipped, runs=1000)
             for name, (noise, clipped) in cases.items()}
    checks = [check for name, (noise, _) in cases.items() for check in _checks(name, noise, horizons, shown[name])]
    sizes = 2 ** np.arange(4, 11)
    stairs = {shape: np.array([staircase(multipliers(shape, int(t)) * (1 if shape == "1/sqrt(t)" else t**-0.5))
                               for t in sizes]) for shape in SHAPES}
    for shape, values in stairs.items():
        growth = float(np.polyfit(np.log(sizes), values, 1)[0])
        low, high = (-0.005, 0.005) if shape == "linear" else (1 / 32, 1 / 16)
        checks.append(verdicts.Check(quantity=f"staircase: sqrt(T) gap per unit of log T, {shape}", measured=growth,
                                     theory=low if low > 0 else 0.0, low=low, high=high))
    _draw(out / "last_iterate.png", horizons, shown=shown, sizes=sizes, stairs=stairs)
    return checks


def _checks(name: str, noise: Noise, horizons: np.ndarray, shown: dict[str, np.ndarray]) -> list[verdicts.Check]:
    # Pareto noise of index p + tail also has the moments between, so the rate may be as fast as its index allows.
    slowest, fastest = -bounds.exponent(noise.p), -bounds.exponent(min(noise.index, 2.0))
    checks = []
    for s, shape in enumerate(SHAPES):
        fitted, half = verdicts.slope(horizons, shown["gap"][:, s])
        # Without decay bound and best step carry sqrt(1 + log T): its slope over these horizons.
        log = 0.0 if shape == "linear" else verdicts.slope(horizons, np.sqrt(1 + np.log(horizons)))[0]
        checks.append(verdicts.Check(quantity=f"{name}: exponent, {shape}", measured=fitted, half=half,
                                     theory=slowest + log, low=fastest - 0.05, high=slowest + log + 0.05))
    fitted, half = verdicts.slope(horizons, shown["quantiles"][:, 0, -1])
    checks.append(verdicts.Check(quantity=f"{name}: exponent of the 99% quantile, linear", measured=fitted, half=half,
                                 theory=slowest, low=fastest - 0.1, high=slowest + 0.1))
    return [*checks, verdicts.at_most(f"{name}: largest mean gap over its bound",
                                      float((shown["gap"] / shown["bound"]).max()), 1.0)]


def _draw(path: pathlib.Path, horizons: np.ndarray, *, shown: dict[str, dict[str, np.ndarray]], sizes: np.ndarray,
          stairs: dict[str, np.ndarray]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    gaussian = shown["Gaussian"]
    for s, shape in enumerate(SHAPES):
        left.errorbar(horizons, gaussian["gap"][:, s], 2 * gaussian["error"][:, s], fmt="o-", ms=3, label=shape)
    left.loglog(horizons, gaussian["quantiles"][:, 0, -1], "C0:", label="linear, 99% quantile")
    left.loglog(horizons, gaussian["bound"][:, 0], "k--", lw=0.8, label="linear, bound")
    left.set(title="Gaussian noise", ylabel="gap of the last iterate")
    for i, (name, case) in enumerate(list(shown.items())[1:]):
        color, style = f"C{i // 2}", "o-" if i % 2 == 0 else "x:"
        middle.loglog(horizons, case["gap"][:, 0], style, color=color, ms=4, label=name)
    middle.set(title="heavy tails, linear decay")
    for shape, values in stairs.items():
        right.semilogx(sizes, values, "o-", ms=3, label=shape)
    right.set(title="staircase, no noise", ylabel="gap x sqrt(T)")
    for axes in (left, middle, right):
        axes.set_xlabel("updates T")
        axes.legend(fontsize=7)
    figure.savefig(path, dpi=68)


if __name__ == "__main__":
    sys.exit(bool(verdicts.run_bed(__doc__, last_iterate)))
