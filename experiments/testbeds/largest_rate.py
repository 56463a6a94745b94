"""Largest rate: how large a learning rate still trains, against the batch, for SGD and for Adam.

    python experiments/testbeds/largest_rate.py [--out DIR]     # 71 CPU-seconds

Granziol et al. 2022, "Learning Rates as a Function of Batch Size", JMLR, arXiv 2006.09092: the largest stable rate
grows linearly with the batch for SGD and as its square root for Adam, because the outlying eigenvalues of a batch's
Hessian grow as the batch shrinks; where those of the full Hessian are as large, it stops growing. Here a predictor of
the next byte with one hidden layer trains on text, each update on other bytes, and the rate is found by bisection: it
diverges if a loss is not finite or the mean over the last quarter of the updates exceeds the first loss. The model, the
text and this criterion are ours; theirs are image classifiers.
"""

import dataclasses
import functools
import itertools
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import verdicts

from jaxlm.config import require
from jaxlm.data import corpus_or_stdlib

BATCHES = 2 ** np.arange(3, 10)
RULES = {"SGD": (optax.identity, 1.0), "Adam": (optax.scale_by_adam, 0.5)}
WITHIN = 0.15  # of the slope over all batches
PART = 4  # batches at either end whose slopes are fitted apart: saturation is a lower one at the large end


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bed:
    """The problem.

    Attributes:
      context: bytes that a prediction sees.
      width: of the hidden layer; the embedding of a byte has a quarter of it.
      updates: of a run.
      seeds: runs at each batch.
      rounds: halvings, in logarithms, of the interval from `low` to `high` in which the rate is sought.
      size: bytes of text.
    """

    context: int = 4
    width: int = 32
    updates: int = 96
    seeds: int = 3
    rounds: int = 10
    low: float = 1e-4
    high: float = 1e3
    size: int = 2**20

    def __post_init__(self) -> None:
        require(self.updates >= 4, "updates", self.updates, "must be at least 4")
        require(0 < self.low < self.high, "low", self.low, f"must be positive and below high = {self.high}")


def text(size: int) -> np.ndarray:
    """Returns uint8[size], the first bytes of the corpus packages' text, else of the standard library's."""
    source, line = corpus_or_stdlib()
    print(line, file=sys.stderr)
    taken: list[bytes] = []
    for document in itertools.takewhile(lambda _: sum(map(len, taken)) < size, source.documents()):
        taken.append(document.text.encode())
    return np.frombuffer(b"".join(taken), np.uint8)[:size]


def largest_rates(data: np.ndarray, batch: int, *, rule: str, bed: Bed) -> np.ndarray:
    """Returns [seeds] the largest rates that do not diverge, from below by at most the last interval.

    Args:
      data: uint8[bytes].
      batch: predictions in an update.
      rule: one of `RULES`.
      bed: the problem.

    Raises:
      ConfigError: if the interval of the bed does not hold the rate of every seed.
    """
    low, high = (np.full(bed.seeds, np.log(end)) for end in (bed.low, bed.high))
    for _ in range(bed.rounds):
        middle = (low + high) / 2
        losses = np.asarray(train(data, np.exp(middle).astype(np.float32), batch=batch, rule=rule, bed=bed))
        trains = losses[:, -(bed.updates // 4):].mean(axis=1) <= losses[:, 0]  # no for NaN
        low, high = np.where(trains, middle, low), np.where(trains, high, middle)
    found = bool((low > np.log(bed.low)).all() and (high < np.log(bed.high)).all())
    require(found, "low, high", (bed.low, bed.high), f"must hold the largest rate of {rule} at batch {batch}")
    return np.exp(low)


@functools.partial(jax.jit, static_argnames=("batch", "rule", "bed"))
def train(data: jax.Array, rates: jax.Array, *, batch: int, rule: str, bed: Bed) -> jax.Array:
    """Returns [seeds, updates] the losses of runs at `rates` [seeds]."""
    optimizer = RULES[rule][0]()

    def run(rate: jax.Array, seed: jax.Array) -> jax.Array:
        start, order = jax.random.split(jax.random.key(seed))
        weights = init(start, bed)
        firsts = jax.random.randint(order, (bed.updates, batch), 0, data.size - bed.context)

        def update(carry: tuple, first: jax.Array) -> tuple[tuple, jax.Array]:
            weights, state = carry
            windows = data[first[:, None] + jnp.arange(bed.context + 1)]
            loss, gradient = jax.value_and_grad(loss_of)(weights, windows)
            step, state = optimizer.update(gradient, state, weights)
            return (jax.tree.map(lambda weight, s: weight - rate * s, weights, step), state), loss

        return jax.lax.scan(update, (weights, optimizer.init(weights)), firsts)[1]

    return jax.vmap(run)(rates, jnp.arange(bed.seeds))


def init(key: jax.Array, bed: Bed) -> dict[str, jax.Array]:
    """Returns weights of variance one over fan-in, the output's zero."""
    keys, each = jax.random.split(key), bed.width // 4
    fan_in = bed.context * each
    return {"embedding": jax.random.normal(keys[0], (256, each)),
            "hidden": jax.random.normal(keys[1], (fan_in, bed.width)) / np.sqrt(fan_in),
            "output": jnp.zeros((bed.width, 256))}


def loss_of(weights: dict[str, jax.Array], windows: jax.Array) -> jax.Array:
    """Returns the mean loss in nats per byte of windows uint8[batch, context + 1]."""
    seen = weights["embedding"][windows[:, :-1]].reshape(len(windows), -1)
    logits = jnp.tanh(seen @ weights["hidden"]) @ weights["output"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, windows[:, -1].astype(jnp.int32)).mean()


def largest_rate(out: pathlib.Path, bed: Bed = Bed()) -> list[verdicts.Check]:
    """Runs the bed; returns its checks and writes its picture into `out`."""
    data = text(bed.size)
    checks, found = [], {}
    for rule, (_, theory) in RULES.items():
        rates = np.array([largest_rates(data, int(batch), rule=rule, bed=bed) for batch in BATCHES])
        found[rule] = rates
        parts = {"all batches": slice(None), f"the {PART} smallest": slice(PART),
                 f"the {PART} largest": slice(-PART, None)}
        for name, part in parts.items():
            batches = np.repeat(BATCHES[part], bed.seeds)
            slope, half = verdicts.slope(batches, rates[part].ravel())
            checks.append(verdicts.near(f"{rule}: slope of the largest rate in the batch, {name}", slope, theory,
                                        within=WITHIN, half=half))
    _draw(out / "largest_rate.png", found)
    return checks


def _draw(path: pathlib.Path, found: dict[str, np.ndarray]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4.2), layout="constrained")
    axes = figure.subplots()
    for i, (rule, rates) in enumerate(found.items()):
        theory, middle = RULES[rule][1], len(BATCHES) // 2
        axes.plot(BATCHES, rates, "o", color=f"C{i}", markersize=4)
        axes.plot(BATCHES, np.exp(np.log(rates).mean(axis=1)), color=f"C{i}", label=rule)
        claim = np.exp(np.log(rates[middle]).mean()) * (BATCHES / BATCHES[middle]) ** theory
        axes.plot(BATCHES, claim, "--", color=f"C{i}", linewidth=1, label=f"slope {theory:g}")
    axes.set(xscale="log", yscale="log", xlabel="batch (predicted bytes)", ylabel="largest rate that trains")
    axes.set_xticks(BATCHES, [str(batch) for batch in BATCHES])
    axes.minorticks_off()
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    # No theorem covers the claim on a network: what it finds is no failure.
    verdicts.run_bed(__doc__, largest_rate)
