"""Rectangular matrix factorisation from an unbalanced start: gradient descent and Nesterov's method.

    python experiments/testbeds/matrix_factorization.py [--out DIR]     # about 20 s on one core

f(X, Y) = |X Y^T - A|_F^2 / 2 with A of rank r and condition number kappa, from X = c A Phi, Phi Gaussian with
variance 1/d, and Y = 0. With c large X hardly moves, the problem is near a linear one in Y of condition number
(sigma_1/sigma_r)^2 of X, and the updates to a relative error grow like kappa^2 under gradient descent and like
kappa under Nesterov's method.

Source: Xu et al. 2024, "Provable Acceleration of Nesterov's Accelerated Gradient for Rectangular Matrix
Factorization and Linear Neural Networks", arXiv 2410.09640. Differences: sizes and c are ours, gradient descent
takes the step 1/L and not one that needs the smallest singular value too.
"""

import dataclasses
import functools
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import verdicts
from scipy import stats

from jaxlm.config import require

KAPPAS = (4, 8, 16, 32, 64)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Factorization:
    """The problem; see the module's text.

    Attributes:
      kappa: largest over smallest non-zero singular value of A, >= 1; they are spaced geometrically from 1 down.
      rows, columns: the shape of A.
      rank: r of A, 1 to the smaller of its sides; 1 only with kappa = 1.
      width: d >= r, the inner size of X [rows, d] and Y [columns, d].
      scale: c > 0 of the start.
    """

    kappa: float
    rows: int = 12
    columns: int = 8
    rank: int = 3
    width: int = 24
    scale: float = 50.0

    def __post_init__(self) -> None:
        require(1 <= self.kappa < np.inf, "kappa", self.kappa, "must be finite and at least 1")
        for name in ("rows", "columns", "rank", "width"):
            value = getattr(self, name)
            require(isinstance(value, int) and value >= 1, name, value, "must be a whole number, >= 1")
        require(self.rank <= min(self.rows, self.columns), "rank", self.rank,
                f"must not exceed the sides of A, {self.rows} x {self.columns}")
        require(self.rank > 1 or self.kappa == 1, "kappa", self.kappa, "must be 1 for a matrix of rank 1")
        require(self.width >= self.rank, "width", self.width, f"must be at least rank = {self.rank}")
        require(0 < self.scale < np.inf, "scale", self.scale, "must be positive and finite")

    @property
    def singular_values(self) -> np.ndarray:
        """float64[rank], of A, from 1 down to 1/kappa."""
        return np.geomspace(1, 1 / self.kappa, self.rank)

    def draw(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns A [rows, columns] and the start X [rows, width]; seeds share both but for the spectrum."""
        rng = np.random.default_rng(seed)
        left, right = (np.linalg.qr(rng.normal(size=(side, self.rank)))[0] for side in (self.rows, self.columns))
        a = (left * self.singular_values) @ right.T
        return a, self.scale * a @ rng.normal(size=(self.columns, self.width)) / np.sqrt(self.width)


def step_and_momentum(start: np.ndarray, rank: int) -> tuple[float, float]:
    """Returns 1/L and (sqrt L - sqrt mu)/(sqrt L + sqrt mu), L and mu the squares of X's sigma_1 and sigma_r."""
    sizes = np.linalg.svd(start, compute_uv=False)
    return float(sizes[0] ** -2), float((sizes[0] - sizes[rank - 1]) / (sizes[0] + sizes[rank - 1]))


def updates_needed(a: jax.Array, start: jax.Array, *, step: jax.Array, momentum: jax.Array, accuracy: float,
                   limit: int) -> jax.Array:
    """Returns the number of updates until |X Y^T - A|_F <= accuracy |A|_F, or `limit`; momentum 0 is plain descent.

    W <- V - step grad f(V), V <- W + momentum (W - W before), both factors at once; the error is that of V.
    """
    target = accuracy * jnp.linalg.norm(a)

    def residual(v: tuple[jax.Array, jax.Array]) -> jax.Array:
        return v[0] @ v[1].T - a

    def unfinished(state) -> jax.Array:
        count, _, _, error = state
        return (jnp.linalg.norm(error) > target) & (count < limit)

    def update(state):
        count, w, v, error = state
        new = v[0] - step * error @ v[1], v[1] - step * error.T @ v[0]
        v = jax.tree.map(lambda now, before: now + momentum * (now - before), new, w)
        return count + 1, new, v, residual(v)

    first = start, jnp.zeros((a.shape[1], start.shape[1]), start.dtype)
    return jax.lax.while_loop(unfinished, update, (0, first, first, residual(first)))[0]


def updates_if_frozen(a: np.ndarray, start: np.ndarray, *, accuracy: float) -> float:
    """Returns the (real) number of updates of gradient descent at step 1/L if X stayed at its start.

    Then the error is (I - X X^T / L)^t A: in the eigenvectors of X X^T every row of A decays by itself.
    """
    values, vectors = np.linalg.eigh(start @ start.T)
    rows = np.linalg.norm(vectors.T @ a, axis=1)
    kept = np.clip(1 - values / values[-1], 0, 1)
    low, high = 0.0, 1.0

    def error(t: float) -> float:
        return float(np.linalg.norm(rows * kept**t) / np.linalg.norm(a))

    while error(high) > accuracy:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if error(middle) > accuracy else (low, middle)
    return high


def count_updates(problem: Factorization, *, seeds: int, accuracy: float, limit: int = 2**22) -> dict[str, np.ndarray]:
    """Returns for "GD", "NAG" and "frozen" (theory's GD, X fixed) the [seeds] updates to the accuracy, in float64.

    Raises:
      ConfigError: if seeds < 1 or accuracy is not in (0, 1).
    """
    require(seeds >= 1, "seeds", seeds, "must be at least 1")
    require(0 < accuracy < 1, "accuracy", accuracy, "must lie in (0, 1)")
    drawn = [problem.draw(seed) for seed in range(seeds)]
    a, start = (np.stack(arrays) for arrays in zip(*drawn))
    step, momentum = np.array([step_and_momentum(x, problem.rank) for x in start]).T
    with jax.enable_x64(True):
        run = jax.jit(jax.vmap(functools.partial(_counted, accuracy=accuracy, limit=limit)))
        descent, nesterov = (np.asarray(run(a, start, step, beta)) for beta in (0 * momentum, momentum))
    frozen = np.array([updates_if_frozen(*one, accuracy=accuracy) for one in drawn])
    return {"GD": descent, "NAG": nesterov, "frozen": frozen}


def matrix_factorization(out: pathlib.Path) -> list[verdicts.Check]:
    """Runs the bed; returns its checks and writes its picture into `out`."""
    counts = [count_updates(Factorization(kappa=kappa), seeds=5, accuracy=1e-8) for kappa in KAPPAS]
    by_method = {name: np.stack([count[name] for count in counts]) for name in counts[0]}
    checks = []
    for name, power in (("GD", 2), ("NAG", 1)):
        slopes = np.array([verdicts.slope(np.array(KAPPAS), of_seed)[0] for of_seed in by_method[name].T])
        half = stats.t.ppf(0.5 + verdicts.LEVEL / 2, slopes.size - 1) * slopes.std(ddof=1) / np.sqrt(slopes.size)
        checks.append(verdicts.near(f"{name}: exponent of the updates in kappa", float(slopes.mean()), power,
                                    within=0.15, half=float(half)))
    ratio = by_method["GD"] / by_method["frozen"]
    checks.append(verdicts.near("GD over the prediction with X frozen, the farthest from 1",
                                float(ratio.flat[np.argmax(np.abs(np.log(ratio)))]), 1.0, within=0.05))
    _draw(out / "matrix_factorization.png", by_method)
    return checks


def _counted(a, start, step, momentum, *, accuracy: float, limit: int) -> jax.Array:
    return updates_needed(a, start, step=step, momentum=momentum, accuracy=accuracy, limit=limit)


def _draw(path: pathlib.Path, by_method: dict[str, np.ndarray]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 3.1), layout="constrained")
    axes = figure.subplots()
    kappas = np.array(KAPPAS, float)
    for i, (name, power) in enumerate((("GD", 2), ("NAG", 1))):
        axes.loglog(kappas, by_method[name], f"C{i}o", ms=3)
        mean = np.exp(np.log(by_method[name]).mean(1))
        axes.loglog(kappas, mean[0] * (kappas / kappas[0]) ** power, f"C{i}--", lw=0.8, label=f"{name}, kappa^{power}")
    axes.loglog(kappas, np.exp(np.log(by_method["frozen"]).mean(1)), "k:", label="GD with X frozen")
    axes.set(xlabel="condition number kappa", ylabel="updates to 1e-8", title="five seeds")
    axes.set_xticks(kappas, [f"{kappa:g}" for kappa in kappas])
    axes.set_xticks([], minor=True)
    axes.legend(fontsize=7)
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    sys.exit(bool(verdicts.run_bed(__doc__, matrix_factorization)))
