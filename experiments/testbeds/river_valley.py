"""River valley: a bigram model in which decay lowers the loss across the valley and the stable phase along it.

    python experiments/testbeds/river_valley.py [--out DIR]     # about 10 s on one core

Half of the contexts have a uniform next token: noisy, curved, their best logits finite (the hills). The other half
determine it: no noise once learnt, no curvature far out, the loss falling for ever (the river). Contexts have
logits of their own, so the loss splits exactly into the two, without a projection.

Theory. Hills: near their minimum a noisy quadratic whose Hessian and gradient covariance are both
H = diag(p) - p p' by context, so at a constant rate the excess is rate tr(H) / (4 B), and its course under any
schedule is that of `noisy_quadratic.losses`. River: gradient flow, whose loss depends on the sum of the rates alone.

Source: Wen et al. 2024, "Understanding Warmup-Stable-Decay Learning Rates: A River Valley Loss Landscape
Perspective", arXiv 2410.05192, for the picture and the bigram; this model and its two predictions are ours.
"""

import dataclasses
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import verdicts
from scipy import optimize

from jaxlm import schedules
from jaxlm.config import require


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bigram:
    """The problem; see the module's text.

    Attributes:
      tokens: V, even, >= 4; contexts below V/2 are hills. Every context is as frequent.
      batch: examples of an update, >= 1.
      rate: peak rate of SGD, positive and stable: rate < 2 V^2.
    """

    tokens: int = 16
    batch: int = 4
    rate: float = 2.0

    def __post_init__(self) -> None:
        require(isinstance(self.tokens, int) and self.tokens >= 4 and self.tokens % 2 == 0, "tokens", self.tokens,
                "must be an even whole number, >= 4")
        require(isinstance(self.batch, int) and self.batch >= 1, "batch", self.batch, "must be a whole number, >= 1")
        require(0 < self.rate < 2 * self.tokens**2, "rate", self.rate,
                f"must be positive and below 2 V^2 = {2 * self.tokens**2}, where the hills stop being stable")

    @property
    def curvature(self) -> float:
        """The one non-zero eigenvalue of the hills' Hessian, 1/V^2; (V - 1) V/2 of them."""
        return self.tokens**-2.0

    @property
    def floor(self) -> float:
        """The entropy of the text, nats: what the hills' loss cannot go below."""
        return 0.5 * float(np.log(self.tokens))


def simulate(problem: Bigram, rates: jax.Array, *, key: jax.Array) -> jax.Array:
    """Returns [updates, 2], hills' excess and river's loss, nats, after every update of one run from zero logits."""
    v = problem.tokens
    follows = jnp.roll(jnp.arange(v), -1)

    def loss(logits: jax.Array, contexts: jax.Array, following: jax.Array) -> jax.Array:
        return -jnp.mean(jax.nn.log_softmax(logits[contexts])[jnp.arange(problem.batch), following])

    def update(logits: jax.Array, inputs: tuple[jax.Array, jax.Array]):
        rate, key = inputs
        contexts, following = jax.random.randint(key, (2, problem.batch), 0, v)
        following = jnp.where(contexts < v // 2, following, follows[contexts])
        logits = logits - rate * jax.grad(loss)(logits, contexts, following)
        return logits, parts(logits)

    def parts(logits: jax.Array) -> jax.Array:
        every = jax.nn.log_softmax(logits)
        hills, river = -every.mean(1)[:v // 2], -every[jnp.arange(v), follows][v // 2:]
        return jnp.stack([hills.sum() / v - problem.floor, river.sum() / v])

    return jax.lax.scan(update, jnp.zeros((v, v)), (rates, jax.random.split(key, rates.size)))[1]


def hills(problem: Bigram, rates: np.ndarray) -> np.ndarray:
    """Returns [updates], the hills' expected excess by the recursion of the variance from zero."""
    h, each = problem.curvature, (problem.tokens - 1) * problem.tokens / 2
    variance, excess = 0.0, []
    for rate in rates:
        variance = (1 - rate * h) ** 2 * variance + rate**2 * h / problem.batch
        excess.append(0.5 * each * h * variance)
    return np.array(excess)


def river(problem: Bigram, total: float) -> float:
    """Returns the river's loss by gradient flow once the rates sum up to `total`.

    The lead m of the right logit over the others obeys e^m - 1 + (V-1) m = total; loss log(1 + (V-1) e^-m) / 2.
    """
    v = problem.tokens
    lead = optimize.brentq(lambda m: np.exp(m) + (v - 1) * m - 1 - total, 0, np.log1p(total) + 1)
    return 0.5 * float(np.log1p((v - 1) * np.exp(-lead)))


def river_valley(out: pathlib.Path) -> list[verdicts.Check]:
    """Runs the bed; returns its checks and writes its picture into `out`."""
    problem, updates, decay, seeds = Bigram(), 4096, 1024, 64
    rates = problem.rate * schedules.as_array(schedules.wsd(updates, decay=decay, shape="linear"), updates)
    runs = jax.jit(jax.vmap(lambda key: simulate(problem, jnp.asarray(rates), key=key)))
    paths = np.asarray(runs(jax.random.split(jax.random.key(0), seeds)), float)
    expected, mean, start = hills(problem, rates), paths.mean(0), updates - decay
    stable = slice(start - decay, start)
    before, after = paths[:, start - 64:start].mean(1), paths[:, -1]
    # The same number of updates of the stable phase, ending where the decay starts.
    stable_drop = paths[:, start - decay - 64:start - decay].mean(1) - before
    drop = before - after
    error = paths[:, stable, 0].mean(1).std(ddof=1) / np.sqrt(seeds)
    by_flow = river(problem, float(rates.sum()))
    checks = [
        verdicts.near("hills: excess at the constant rate over theory's", mean[stable, 0].mean() / expected[start - 1],
                      1.0, within=0.1, half=1.65 * error / expected[start - 1]),
        verdicts.near("hills: share of the excess left after the decay, over theory's",
                      mean[-1, 0] / mean[stable, 0].mean() / (expected[-1] / expected[start - 1]), 1.0, within=0.15),
        verdicts.near("river: final loss over gradient flow of the same sum of rates", mean[-1, 1] / by_flow, 1.0,
                      within=0.1),
        verdicts.Check(quantity="decay: share of the drop that is the hills'", theory=1.0, low=0.9, high=1.0,
                       measured=float(drop[:, 0].mean() / drop.sum(1).mean())),
        verdicts.near("stable phase of that length: the hills' drop over the decay's",
                      float(stable_drop[:, 0].mean() / drop[:, 0].mean()), 0.0, within=0.05),
        verdicts.at_most("river: drop of the decay over that of a stable phase of that length",
                         float(drop[:, 1].mean() / stable_drop[:, 1].mean()), 1.0),
    ]
    flow = np.array([river(problem, total) for total in np.cumsum(rates)])
    _draw(out / "river_valley.png", mean, expected=expected, flow=flow)
    return checks


def _draw(path: pathlib.Path, mean: np.ndarray, *, expected: np.ndarray, flow: np.ndarray) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 3.1), layout="constrained")
    axes = figure.subplots()
    for column, theory, name in ((0, expected, "across: hills"), (1, flow, "along: river")):
        axes.semilogy(mean[:, column], f"C{column}", lw=0.8, label=f"{name}, SGD")
        axes.semilogy(theory, "k--", lw=0.8, label="theory" if column else None)
    axes.set(xlabel="update", ylabel="loss above the floor (nats)", title="WSD: mean of 64 runs")
    axes.legend(fontsize=7)
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    sys.exit(bool(verdicts.run_bed(__doc__, river_valley)))
