"""Logistic regression: which schedule takes the last iterate of SGD furthest, in two regimes?

The setting of Defazio et al. 2023 (arXiv 2310.07831): convex, stochastic, judged at the last iterate. Two regimes:

* noisy: the labels are drawn from a logistic model, so the loss stays at f* ~ 0.43 and gradients keep their size.
  Smoothed norms differ by a factor of 2, and refined schedules are linear decay with a short warm-up.
* separable: some direction classifies all examples, so f* = 0 and gradients go to zero with the loss. Smoothed norms
  fall by a factor of 2000 and more, and refined schedules crowd into the few updates where they are smallest.

Every schedule gets the learning rate that is best for it on one grid, strictly inside; the refined ones are made
from the norms of the best linear run of the same seed. The check: linear decay from D/(G sqrt T), D = |x0 - x*|, G^2
>= E|g|^2, must end within the bound D G/sqrt T of f* (their Theorem for the last iterate, constant weights).

    python experiments/testbeds/logistic.py [--out DIR]     # about 30 s on one core
"""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize, special

from jaxlm.cli import table
from jaxlm.schedules import as_array, constant, cosine, linear, wsd
from jaxlm.schedules.refinement import SPAN, Refinement, refine_norms
from scaling.errors import InputError

if TYPE_CHECKING:
    import verdicts

UPDATES, BATCH, SEEDS = 2000, 8, 10
BASELINE = "linear"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """Examples x ~ N(0, diag(scale^2)), scale from 1 down to `smallest`, and a direction of norm `signal`.

    Attributes:
      name: of the regime.
      features: d.
      examples: n, drawn anew for every seed.
      smallest: scale of the last feature; the others lie between in equal ratios.
      signal: norm of the true direction.
      noisy: labels drawn from the logistic model; otherwise they are the signs, so that the data are separable.
      peaks: the grid of learning rates that all schedules share.
    """

    name: str
    features: int
    examples: int
    smallest: float
    signal: float
    noisy: bool
    peaks: tuple[float, ...]

    def draw(self, seed: int) -> np.ndarray:
        """Returns [n, d] the examples times their labels -1 and 1: the loss is the mean of log(1 + exp(-z.w))."""
        rng = np.random.default_rng(seed)
        scale = np.geomspace(1.0, self.smallest, self.features)
        x = rng.standard_normal((self.examples, self.features)) * scale
        direction = rng.standard_normal(self.features)
        logits = x @ (self.signal * direction / np.linalg.norm(direction))
        certain = special.expit(logits) if self.noisy else logits > 0
        return np.where(rng.random(self.examples) < certain, 1.0, -1.0)[:, None] * x


def _grid(low: int, high: int) -> tuple[float, ...]:
    return tuple(2.0 ** (k / 2) for k in range(2 * low, 2 * high + 1))


PROBLEMS = (
    Problem(name="noisy", features=20, examples=1000, smallest=1.0, signal=2.3, noisy=True, peaks=_grid(-7, 4)),
    Problem(name="separable", features=50, examples=1000, smallest=0.01, signal=10.0, noisy=False, peaks=_grid(-3, 11)),
)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Arm:
    """A schedule over the grid.

    Attributes:
      schedules: [S, T] fractions of the peak, by seed.
      excess: [S, R] full loss of the last iterate minus f*, by seed and peak; infinite where it diverged.
      best: index of the peak whose mean over seeds is lowest.
      refinements: by seed, () for a schedule that was not refined.
    """

    schedules: np.ndarray
    excess: np.ndarray
    best: int
    refinements: tuple[Refinement, ...] = ()

    @property
    def final(self) -> np.ndarray:
        """[S] excess at the best peak."""
        return self.excess[:, self.best]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Bed:
    """What was measured on one problem.

    Attributes:
      problem: the problem.
      arms: by name.
      optimum: [S] f*.
      norms: "l2" and "l1", each [S, T], of the linear runs at their best peak.
      bounds: by T, (eta, mean excess of linear decay from eta, bound) of the theory; empty where there is no x*.
    """

    problem: Problem
    arms: dict[str, Arm]
    optimum: np.ndarray
    norms: dict[str, np.ndarray]
    bounds: dict[int, tuple[float, float, float]]

    def to_dict(self) -> dict[str, Any]:
        """Returns the figures as JSON-ready data; infinite excess as None."""
        arms = {name: {
            "peak": self.problem.peaks[arm.best], "final": arm.final.tolist(),
            "grid": [value if np.isfinite(value) else None for value in arm.excess.mean(axis=0).tolist()],
            "refinements": [found.summary() for found in arm.refinements]} for name, arm in self.arms.items()}
        return {"problem": dataclasses.asdict(self.problem), "optimum": self.optimum.tolist(), "arms": arms,
                "bounds": {str(updates): list(row) for updates, row in self.bounds.items()}}


def measure(problem: Problem, *, seeds: int = SEEDS, updates: int = UPDATES) -> Bed:
    """Runs every schedule over the grid; raises `InputError` where a best peak is at the edge of the grid."""
    examples = np.stack([problem.draw(seed) for seed in range(seeds)])
    solved = [solve(each) for each in examples]
    optimum = np.array([value for value, _ in solved])
    arms: dict[str, Arm] = {}
    for name, schedule in {"constant": constant(), "linear": linear(updates), "cosine": cosine(updates),
                           "WSD, 20% 1-sqrt": wsd(updates, decay=updates // 5)}.items():
        rates = np.broadcast_to(as_array(schedule, updates), (seeds, updates))
        excess, norms = run(examples, rates, problem.peaks)
        arms[name] = _arm(problem, name, rates, excess=excess - optimum[:, None])
        if name == BASELINE:
            best = {key: values[:, arms[name].best].astype(np.float64) for key, values in norms.items()}
    for name, (key, options) in REFINED.items():
        kind = "sgd" if key == "l2" else "adam"
        found = tuple(refine_norms(best[key][seed], kind=kind, **options) for seed in range(seeds))
        rates = np.stack([each.rates for each in found])
        excess, _ = run(examples, rates, problem.peaks)
        arms[name] = _arm(problem, name, rates, excess=excess - optimum[:, None], refinements=found)
    bounds = {} if solved[0][1] is None else {
        length: check_bound(examples, solved, length) for length in (updates // 4, updates)}
    return Bed(problem=problem, arms=arms, optimum=optimum, norms=best, bounds=bounds)


# By name: whose norms, and further arguments of `refine_norms`.
REFINED: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "refined l2": ("l2", {}), "refined l1": ("l1", {}),
    "refined l2, floor .5": ("l2", {"floor": 0.5}), "refined l2, cap 1.5": ("l2", {"cap": 1.5}),
}


def run(examples: np.ndarray, schedules: np.ndarray,
        peaks: Sequence[float]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Trains from zero at every seed and peak, on the same batches.

    Args:
      examples: [S, n, d], with their labels multiplied in.
      schedules: [S, T] fractions of the peak.
      peaks: [R] learning rates.

    Returns:
      [S, R] full losses of the last iterates, infinite where not finite, and {"l2", "l1"}, each [S, R, T] norms
      of the batch gradients.
    """
    seeds, count = examples.shape[:2]
    batches = np.stack([np.random.default_rng([1, seed]).integers(0, count, (schedules.shape[1], BATCH))
                        for seed in range(seeds)])
    loss, l2, l1 = _train(jnp.asarray(examples, jnp.float32), jnp.asarray(schedules, jnp.float32),
                          jnp.asarray(batches, jnp.int32), jnp.asarray(peaks, jnp.float32))
    loss = np.asarray(loss, np.float64)
    return np.where(np.isfinite(loss), loss, np.inf), {"l2": np.asarray(l2), "l1": np.asarray(l1)}


@jax.jit
def _train(examples: jax.Array, schedules: jax.Array, batches: jax.Array, peaks: jax.Array) -> tuple[jax.Array, ...]:
    def one(z: jax.Array, rates: jax.Array, picks: jax.Array, peak: jax.Array) -> tuple[jax.Array, ...]:
        def update(w: jax.Array, inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            rate, pick = inputs
            batch = z[pick]
            gradient = -jax.nn.sigmoid(-(batch @ w)) @ batch / BATCH
            return w - peak * rate * gradient, (jnp.linalg.norm(gradient), jnp.abs(gradient).sum())

        w, norms = jax.lax.scan(update, jnp.zeros(z.shape[1]), (rates, picks))
        return (jax.nn.softplus(-(z @ w)).mean(), *norms)

    by_peak = jax.vmap(one, in_axes=(None, None, None, 0))
    return jax.vmap(by_peak, in_axes=(0, 0, 0, None))(examples, schedules, batches, peaks)


def solve(z: np.ndarray) -> tuple[float, np.ndarray | None]:
    """Returns f* in float64 and its minimiser; (0, None) where the examples [n, d] are separable.

    Separable is decided by a linear program: some w with z.w >= 1 for all. Raises `InputError` where the
    minimiser is not found.
    """
    feasible = optimize.linprog(np.zeros(z.shape[1]), A_ub=-z, b_ub=-np.ones(len(z)), bounds=(None, None))
    if feasible.status == 0:
        return 0.0, None

    def slack(w: np.ndarray) -> np.ndarray:
        return special.expit(-(z @ w))

    found = optimize.minimize(
        lambda w: np.logaddexp(0, -(z @ w)).mean(), np.zeros(z.shape[1]), jac=lambda w: -slack(w) @ z / len(z),
        hess=lambda w: (z.T * (slack(w) * (1 - slack(w)))) @ z / len(z), method="trust-exact", options={"gtol": 1e-10})
    if np.abs(found.jac).max() > 1e-8:
        raise InputError(f"logistic regression: no minimiser found, gradient {np.abs(found.jac).max():.2g}")
    return float(found.fun), found.x


def check_bound(examples: np.ndarray, solved: Sequence[tuple[float, np.ndarray]],
                updates: int) -> tuple[float, float, float]:
    """Returns (eta, excess, bound), means over seeds, of linear decay from eta = D/(G sqrt T).

    G^2 is the mean of |z|^2, which bounds the second moment of a batch gradient, whose factors lie in [0, 1].
    """
    rates = np.broadcast_to(as_array(linear(updates), updates), (len(examples), updates))
    rows = []
    for z, rate, (value, minimiser) in zip(examples, rates, solved, strict=True):
        distance, size = np.linalg.norm(minimiser), np.sqrt((z**2).sum(axis=1).mean())
        eta, bound = distance / (size * np.sqrt(updates)), distance * size / np.sqrt(updates)
        rows.append((eta, bound, z, rate, value))
    # One call for all: every seed's own eta is multiplied into its schedule.
    loss, _ = run(examples, np.stack([eta * rate for eta, _, _, rate, _ in rows]), (1.0,))
    excess = loss[:, 0] - np.array([value for *_, value in rows])
    return float(np.mean([row[0] for row in rows])), float(excess.mean()), float(np.mean([row[1] for row in rows]))


def _arm(problem: Problem, name: str, rates: np.ndarray, *, excess: np.ndarray,
         refinements: tuple[Refinement, ...] = ()) -> Arm:
    best = int(excess.mean(axis=0).argmin())
    if best in (0, len(problem.peaks) - 1):
        raise InputError(f"{problem.name}, {name}: the best rate {problem.peaks[best]:g} is at the edge of its grid")
    return Arm(schedules=rates, excess=excess, best=best, refinements=refinements)


def lines(bed: Bed) -> list[dict[str, str]]:
    """Returns a line of text for each schedule; +- is one standard error over seeds, paired in the difference."""
    base, rows = bed.arms[BASELINE], []
    for name, arm in bed.arms.items():
        gap = 1e3 * (arm.final - base.final)
        found = arm.refinements
        rows.append({
            "regime": bed.problem.name, "schedule": name, "peak": f"{bed.problem.peaks[arm.best]:.4g}",
            "excess x 1e3": _mean(1e3 * arm.final), f"minus {BASELINE}": "" if arm is base else _mean(gap, signed=True),
            "first rate": _span([each.rates[0] for each in found]),
            "peak at": _span([each.warmup / each.rates.size for each in found]),
            "norms span": _span([each.span for each in found]),
            "warned": f"{sum(bool(each.warnings) for each in found)} of {len(found)}" if found else ""})
    return rows


def _mean(sample: np.ndarray, *, signed: bool = False) -> str:
    error = sample.std(ddof=1) / np.sqrt(sample.size)
    return f"{sample.mean():+.2f} +- {error:.2f}" if signed else f"{sample.mean():.2f} +- {error:.2f}"


def _span(values: Sequence[float]) -> str:
    return f"{min(values):.3g} to {max(values):.3g}" if values else ""


def plot(beds: Sequence[Bed], path: Path) -> None:
    """Draws, for each regime, norms and schedules of the first seed, and excess against the peak."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.9 * len(beds)), layout="constrained")
    for bed, row in zip(beds, figure.subplots(len(beds), 3, squeeze=False), strict=True):
        norms, rates, grid = row
        smoothed = bed.arms["refined l2"].refinements[0].norms
        norms.plot(bed.norms["l2"][0], color="0.8", linewidth=0.6, label="of each update")
        norms.plot(smoothed, color="tab:blue", label="smoothed")
        norms.set(yscale="log", ylim=(smoothed.min() / 30, None), xlabel="update", ylabel="gradient l2 norm",
                  title=f"{bed.problem.name}: best linear run, first seed")
        for i, (name, arm) in enumerate(bed.arms.items()):
            style = {"color": f"C{i}", "label": name, "linewidth": 1.2, "linestyle": "-" if arm.refinements else "--"}
            rates.plot(arm.schedules[0], **style)
            grid.plot(bed.problem.peaks, np.where(np.isfinite(arm.excess), arm.excess, np.nan).mean(axis=0), **style)
            grid.plot(bed.problem.peaks[arm.best], arm.final.mean(), "o", color=f"C{i}", markersize=4)
        best = min(arm.final.mean() for arm in bed.arms.values())
        rates.set(xlabel="update", ylabel="fraction of the peak", title="schedules, first seed")
        grid.set(xscale="log", yscale="log", xlabel="peak rate", ylabel="mean excess of the last iterate",
                 ylim=(0.7 * best, 100 * best), title=f"{bed.optimum.size} seeds, f* = {bed.optimum.mean():.3g}")
        norms.legend(frameon=False, fontsize=8)
    handles = [line for line in grid.get_lines() if not line.get_label().startswith("_")]
    figure.legend(handles, [line.get_label() for line in handles], loc="outside lower center", ncols=8, frameon=False,
                  fontsize=9)
    figure.savefig(path, dpi=110)


def logistic(out: Path) -> "list[verdicts.Check]":
    """Runs the bed; returns its checks, prints the table of schedules and writes its picture into `out`."""
    import verdicts  # its neighbour, which a study that imports this file has no need of

    beds = [measure(problem) for problem in PROBLEMS]
    rows = [line for bed in beds for line in lines(bed)]
    print(table.render(list(rows[0]), [list(row.values()) for row in rows], left=("regime", "schedule")) + "\n")
    plot(beds, out / "logistic.png")
    noisy, separable = beds
    bounds = [verdicts.at_most(f"noisy: excess of linear decay from D/(G sqrt T) = {eta:.3g}, T = {updates}",
                               excess, bound)
              for updates, (eta, excess, bound) in noisy.bounds.items()]
    spans = [[found.span for found in bed.arms["refined l2"].refinements] for bed in beds]
    ratios = {bed.problem.name: bed.arms[BASELINE].final.mean() / bed.arms["constant"].final.mean() for bed in beds}
    return [*bounds,
            *(verdicts.at_most(f"{name}: excess of linear decay over that of a constant rate", ratio, 1.0)
              for name, ratio in ratios.items()),
            verdicts.at_most("noisy: largest span of smoothed norms", max(spans[0]), SPAN),
            verdicts.Check(quantity="separable: smallest span of smoothed norms", measured=min(spans[1]), theory=SPAN,
                           low=SPAN)]


if __name__ == "__main__":
    import verdicts

    sys.exit(bool(verdicts.run_bed(__doc__, logistic)))
