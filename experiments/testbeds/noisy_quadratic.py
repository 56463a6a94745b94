"""Noisy quadratic: SGD whose mean and variance are known exactly, at every batch size and schedule.

    python experiments/testbeds/noisy_quadratic.py [--out DIR]     # about 10 s on one core

Loss 1/2 sum_i h_i x_i^2, gradient h_i x_i + noise of variance c_i / B at batch size B. Curvatures h_i = i^-power
and c_i = noise * h_i as in Zhang et al. 2019, "Which Algorithmic Choices Matter at Which Batch Sizes?",
arXiv 1907.04164, section 3. Theirs differ in the size (10 000 coordinates), in the start (random there, the
same value in every coordinate here, so that the variance starts at zero) and in the target.
"""

import dataclasses
import functools
import pathlib
import sys
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import verdicts
from scipy import optimize

from jaxlm import schedules
from jaxlm.config import require

BATCHES = 2 ** np.arange(17)
SCHEDULES = {
    "constant": lambda updates: schedules.constant(),
    "cosine": schedules.cosine,
    "linear": schedules.linear,
    "WSD 20%": lambda updates: schedules.wsd(updates, decay=updates // 5),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoisyQuadratic:
    """The problem; see the module's text.

    Attributes:
      size: number of coordinates, >= 1.
      power: curvatures are h_i = i^-power, i = 1..size; >= 0.
      noise: gradient variance of one example over the curvature, c_i = noise * h_i; >= 0.
      start: value of every coordinate at the first update.
    """

    size: int = 256
    power: float = 1.0
    noise: float = 1.0
    start: float = 1.0

    def __post_init__(self) -> None:
        require(isinstance(self.size, int) and self.size >= 1, "size", self.size, "must be a whole number, >= 1")
        require(self.power >= 0, "power", self.power, "must not be negative")
        require(self.noise >= 0, "noise", self.noise, "must not be negative")

    @property
    def curvature(self) -> np.ndarray:
        """float64[size], h, from 1 downwards."""
        return np.arange(1.0, self.size + 1) ** -self.power

    @property
    def variance(self) -> np.ndarray:
        """float64[size], c, of the gradient of one example."""
        return self.noise * self.curvature


def expected_loss(problem: NoisyQuadratic, rate: float, *, batch: float, steps: float) -> float:
    """Returns the exact expected loss after `steps` updates at a constant rate, by the closed form.

    With r = (1 - rate h)^2: 1/2 sum h (start^2 r^t + v (1 - r^t)), v = rate c / (B h (2 - rate h)).
    `steps` may be a real number. Source: Zhang et al. 2019, appendix; for a constant rate below 2 / h_1.
    """
    _check(problem, rate, batch)
    h = problem.curvature
    kept = np.abs(1 - rate * h) ** (2 * steps)
    return float(0.5 * np.sum(h * (problem.start**2 * kept + _stationary(problem, rate, batch) * (1 - kept))))


def steady_loss(problem: NoisyQuadratic, rate: float, *, batch: float) -> float:
    """Returns the expected loss that a constant rate ends at: 1/2 sum rate c / (B (2 - rate h))."""
    _check(problem, rate, batch)
    return float(0.5 * np.sum(problem.curvature * _stationary(problem, rate, batch)))


def losses(problem: NoisyQuadratic, rates: jax.Array, *, batch: float) -> jax.Array:
    """Returns [updates+1] expected losses under any rates [updates], by the recursion of mean and variance.

    mean <- (1 - rate h) mean, variance <- (1 - rate h)^2 variance + rate^2 c / B.
    """
    h, c = jnp.asarray(problem.curvature), jnp.asarray(problem.variance) / batch

    def update(moments: tuple[jax.Array, jax.Array], rate: jax.Array):
        mean, variance = moments
        moments = (1 - rate * h) * mean, (1 - rate * h) ** 2 * variance + rate**2 * c
        return moments, _loss(h, *moments)

    first = jnp.full(problem.size, problem.start), jnp.zeros(problem.size)
    return jnp.append(_loss(h, *first), jax.lax.scan(update, first, rates)[1])


def simulate(problem: NoisyQuadratic, rates: jax.Array, *, batch: float, key: jax.Array) -> jax.Array:
    """Returns [updates+1] losses of one run of SGD with Gaussian gradient noise; vmap it over keys and rates."""
    h, deviation = jnp.asarray(problem.curvature), jnp.sqrt(jnp.asarray(problem.variance) / batch)

    def update(x: jax.Array, inputs: tuple[jax.Array, jax.Array]):
        rate, key = inputs
        x = x - rate * (h * x + deviation * jax.random.normal(key, x.shape))
        return x, _loss(h, x, 0.0)

    first = jnp.full(problem.size, problem.start)
    keys = jax.random.split(key, rates.size)
    return jnp.append(_loss(h, first, 0.0), jax.lax.scan(update, first, (rates, keys))[1])


def steps_to(problem: NoisyQuadratic, target: float, *, rate: float, batch: float) -> float:
    """Returns the (real) number of updates after which the expected loss is `target`; inf where never."""
    loss = functools.partial(expected_loss, problem, rate, batch=batch)
    if steady_loss(problem, rate, batch=batch) >= target:
        return np.inf
    if loss(steps=0) <= target:
        return 0.0
    longest = 1.0
    while loss(steps=longest) > target:
        longest *= 2
    return float(optimize.brentq(lambda steps: loss(steps=steps) - target, longest / 2 if longest > 1 else 0, longest))


def fewest_steps(problem: NoisyQuadratic, target: float, *, batch: float) -> tuple[float, float]:
    """Returns the constant rate that reaches `target` in the fewest updates, and that number.

    Raises:
      ConfigError: if the target is not positive.
    """
    require(target > 0, "target", target, "must be positive")
    top = 1.999 / problem.curvature[0]
    if steady_loss(problem, top, batch=batch) > target:
        top = optimize.brentq(lambda rate: steady_loss(problem, rate, batch=batch) - target, 1e-12, top)
    found = optimize.minimize_scalar(
        lambda log_rate: np.log(steps_to(problem, target, rate=np.exp(log_rate), batch=batch)),
        bounds=(np.log(top) - 8, np.log(top) - 1e-6), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x)), float(np.exp(found.fun))


def fewest_examples(problem: NoisyQuadratic, target: float) -> float:
    """Returns the least number of examples (updates x batch) to `target` that any batch allows.

    The limit of small batches, where SGD is the diffusion with time s = rate * updates and temperature
    q = rate / B: loss = 1/2 sum h (start^2 e^(-2hs) + q c/(2h) (1 - e^(-2hs))), examples = s / q. Linear in
    1/q, so q follows from s and one minimum over s is left.
    """
    h, c = problem.curvature, problem.variance

    def examples(log_time: float) -> float:
        kept = np.exp(-2 * h * np.exp(log_time))
        room = target - 0.5 * np.sum(h * problem.start**2 * kept)
        return np.exp(log_time) * 0.25 * np.sum(c * (1 - kept)) / room if room > 0 else np.inf

    times = np.linspace(np.log(1 / h[0]) - 3, np.log(1 / h[-1]) + 5, 4000)
    return float(min(map(examples, times)))


def best_decay(problem: NoisyQuadratic, updates: int, *, batch: float) -> float:
    """Returns the least expected loss that any rates reach in `updates`, for a problem of one coordinate.

    The best rate at second moment A is h A / (h^2 A + c/B), which makes 1/A grow by h^2 B / c an update.
    """
    require(problem.size == 1, "size", problem.size, "must be 1: only one coordinate has the closed form")
    h, c = problem.curvature[0], problem.variance[0]
    return float(0.5 * h / (problem.start**-2 + updates * h**2 * batch / c))


def tuned(problem: NoisyQuadratic, rates: Sequence[float], *, updates: int, batch: float) -> dict[str, np.ndarray]:
    """Returns for each of `SCHEDULES` the [rates] exact final losses under it at these peaks."""
    final = {}
    for name, make in SCHEDULES.items():
        shape = jnp.asarray(schedules.as_array(make(updates), updates))
        over = jax.vmap(lambda rate: losses(problem, rate * shape, batch=batch)[-1])
        final[name] = np.asarray(jax.jit(over)(jnp.asarray(rates)))
    return final


def noisy_quadratic(out: pathlib.Path) -> list[verdicts.Check]:
    """Runs the bed; returns its checks and writes its picture into `out`."""
    problem, target = NoisyQuadratic(), 0.02
    rates = 2.0 ** np.arange(-9, 1)
    runs = _simulated(problem, rates, updates=1024, batch=4, seeds=64)
    found = np.array([fewest_steps(problem, target, batch=batch) for batch in BATCHES])
    least = fewest_steps(dataclasses.replace(problem, noise=0.0), target, batch=1)[1]
    examples = fewest_examples(problem, target)
    # Perfect scaling and saturation are claims about the two ends, well off the critical batch.
    critical = examples / least
    small, large = BATCHES <= critical / 16, BATCHES >= critical * 16
    final = tuned(problem, 2.0 ** np.arange(-8, 1, 0.5), updates=1024, batch=4)
    inside = float(np.mean([0 < losses.argmin() < losses.size - 1 for losses in final.values()]))
    checks = [
        *_simulation_checks(problem, rates, runs),
        verdicts.near("steps on batch, small batches", verdicts.slope(BATCHES[small], found[small, 1])[0], -1.0,
                      within=0.05, half=verdicts.slope(BATCHES[small], found[small, 1])[1]),
        verdicts.near("steps on batch, large batches", verdicts.slope(BATCHES[large], found[large, 1])[0], 0.0,
                      within=0.05, half=verdicts.slope(BATCHES[large], found[large, 1])[1]),
        verdicts.near("best rate on batch, small batches", verdicts.slope(BATCHES[small], found[small, 0])[0], 1.0,
                      within=0.05, half=verdicts.slope(BATCHES[small], found[small, 0])[1]),
        verdicts.near("examples at B = 1 over the diffusion's least", found[0, 1] / examples, 1.0, within=0.05),
        verdicts.near("steps at the largest B over the noiseless least", found[-1, 1] / least, 1.0, within=0.05),
        verdicts.near("schedules whose best rate is strictly inside the grid, share", inside, 1.0, within=0.0),
        *(verdicts.at_most(f"{name} over constant, best final loss each", final[name].min() / final["constant"].min(),
                           1.0) for name in final if name != "constant"),
        verdicts.Check(quantity="WSD over cosine, best final loss each",
                       measured=final["WSD 20%"].min() / final["cosine"].min()),
    ]
    _draw(out / "noisy_quadratic.png", problem, runs=runs, rates=rates, found=found, ends=(examples, least))
    return checks


def _simulated(problem: NoisyQuadratic, rates: np.ndarray, *, updates: int, batch: float, seeds: int) -> dict:
    over_seeds = jax.vmap(lambda rate, key: simulate(problem, jnp.full(updates, rate), batch=batch, key=key), (None, 0))
    keys = jax.random.split(jax.random.key(0), seeds)
    paths = np.asarray(jax.jit(lambda rate: jax.lax.map(lambda one: over_seeds(one, keys), rate))(jnp.asarray(rates)))
    times = np.unique(np.geomspace(1, updates, 12).astype(int))
    exact = np.array([[expected_loss(problem, rate, batch=batch, steps=t) for t in times] for rate in rates])
    return {"paths": paths, "times": times, "exact": exact, "batch": batch, "updates": updates}


def _simulation_checks(problem: NoisyQuadratic, rates: np.ndarray, runs: dict) -> list[verdicts.Check]:
    sample = runs["paths"][:, :, runs["times"]]
    error = sample.std(1, ddof=1) / np.sqrt(sample.shape[1])
    scores = (sample.mean(1) - runs["exact"]) / error
    recursion = jax.vmap(lambda rate: losses(problem, jnp.full(runs["updates"], rate), batch=runs["batch"]))
    by_recursion = np.asarray(jax.jit(recursion)(jnp.asarray(rates)))[:, runs["times"]]
    best = optimize.minimize_scalar(
        lambda log_rate: expected_loss(problem, np.exp(log_rate), batch=runs["batch"], steps=runs["updates"]),
        bounds=(np.log(rates[0]), np.log(rates[-1])), method="bounded").x
    grid = rates[np.argmin(runs["paths"][:, :, -1].mean(1))]
    return [
        verdicts.at_most("recursion against closed form, largest relative difference",
                         float(np.max(np.abs(by_recursion / runs["exact"] - 1))), 1e-4),
        verdicts.at_most("simulated against closed form, share beyond two standard errors",
                         float(np.mean(np.abs(scores) > 2)), 0.15),
        verdicts.at_most("simulated against closed form, largest difference in standard errors",
                         float(np.max(np.abs(scores))), 4.5),
        verdicts.near("best rate of the simulated grid over the theory's, in doublings",
                      float(np.log2(grid) - best / np.log(2)), 0.0, within=1.0),
    ]


def _draw(path: pathlib.Path, problem: NoisyQuadratic, *, runs: dict, rates: np.ndarray, found: np.ndarray,
          ends: tuple[float, float]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.1), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for i in range(1, len(rates), 2):
        line, = left.loglog(runs["times"], runs["exact"][i], label=f"rate 2^{int(np.log2(rates[i]))}")
        left.loglog(runs["times"], runs["paths"][i][:, runs["times"]].mean(0), "o", ms=3, color=line.get_color())
    left.set(xlabel="update", ylabel="loss", title=f"batch {runs['batch']}: closed form (lines), SGD (dots)")
    left.legend(fontsize=7)
    examples, least = ends
    middle.loglog(BATCHES, found[:, 1], "o-", ms=3, label="best constant rate")
    middle.loglog(BATCHES, examples / BATCHES, "k--", lw=0.8, label="perfect scaling (diffusion)")
    middle.axhline(least, color="k", ls=":", lw=0.8, label="noiseless")
    middle.set(xlabel="batch size", ylabel="updates to the target", ylim=(least / 3, None),
               title=f"critical batch {examples / least:.0f}")
    middle.legend(fontsize=7)
    right.loglog(BATCHES, found[:, 0], "o-", ms=3)
    right.loglog(BATCHES, found[0, 0] * BATCHES, "k--", lw=0.8, label="proportional to the batch")
    right.set(xlabel="batch size", ylabel="best rate", ylim=(None, 4), title=f"stable below {2 / problem.curvature[0]:g}")
    right.legend(fontsize=7)
    figure.savefig(path, dpi=68)


def _stationary(problem: NoisyQuadratic, rate: float, batch: float) -> np.ndarray:
    h = problem.curvature
    return rate * problem.variance / (batch * h * (2 - rate * h))


def _loss(h: jax.Array, mean: jax.Array, variance: jax.Array | float) -> jax.Array:
    return 0.5 * jnp.sum(h * (mean**2 + variance))


def _check(problem: NoisyQuadratic, rate: float, batch: float) -> None:
    limit = 2 / problem.curvature[0]
    require(0 < rate < limit, "rate", rate, f"must lie between 0 and 2 / h_1 = {limit:g}, else the loss has no limit")
    require(batch > 0, "batch", batch, "must be positive")


if __name__ == "__main__":
    sys.exit(bool(verdicts.run_bed(__doc__, noisy_quadratic)))
