"""A Flax NNX loop that keeps a run record. The lines marked `# record` are all that it takes.

    python experiments/record_examples/flax_loop.py runs/examples/flax-loop
"""

import os
import sys

import jax
import numpy as np
import optax
from flax import nnx

from scaling import record  # record

UPDATES, EVERY, BATCH, TIME, VOCABULARY, WIDTH, HIDDEN, SEED = 60, 20, 16, 32, 32, 16, 32, 0
SCHEDULE = np.linspace(2e-2, 2e-3, UPDATES)  # [updates] learning rate of every update
TX = optax.adam(lambda t: jax.numpy.asarray(SCHEDULE)[t])


def batch(key: int) -> np.ndarray:
    """Returns tokens [B, T + 1] of a random walk; no model can get below ln 4 = 1.386 nats a token."""
    steps = np.random.default_rng([SEED, key]).integers(0, 4, (BATCH, TIME + 1))
    return np.cumsum(steps, axis=1) % VOCABULARY


class Model(nnx.Module):
    """Predicts the next token from the present one."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.embedding = nnx.Embed(VOCABULARY, WIDTH, rngs=rngs)
        self.hidden = nnx.Linear(WIDTH, HIDDEN, use_bias=False, rngs=rngs)
        self.head = nnx.Linear(HIDDEN, VOCABULARY, use_bias=False, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        return self.head(nnx.tanh(self.hidden(self.embedding(tokens))))


@nnx.jit
def loss_of(model: Model, tokens: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(model(tokens[:, :-1]), tokens[:, 1:]).mean()


@nnx.jit
def update(model: Model, optimizer: nnx.Optimizer, tokens: jax.Array) -> jax.Array:
    loss, gradients = nnx.value_and_grad(loss_of)(model, tokens)
    optimizer.update(model, gradients)
    return loss


def main(folder: str | os.PathLike[str]) -> None:
    """Trains with Adam and leaves the record in `folder`."""
    model = Model(nnx.Rngs(SEED))
    optimizer = nnx.Optimizer(model, TX, wrt=nnx.Param)
    total = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    table, head = VOCABULARY * WIDTH, HIDDEN * VOCABULARY

    counts = {"total": total, "non_embedding": total - table - head, "with_head": total - table}  # record
    record.create(folder, {  # record
        "name": "flax-loop", "study": "examples", "seed": SEED, "parent": None,  # record
        "config": {"width": WIDTH, "hidden": HIDDEN}, "config_hash": "1", "params": counts,  # record
        "tokens_per_update": BATCH * TIME, "flops_per_token": {}, "loss_unit": "nats/token",  # record
        "corpus": {"name": "random walk", "digest": "1"}, "bytes_per_token": None,  # record
    }, SCHEDULE, {"source": "linear decay"})  # record
    attempt, rows = record.start_attempt(folder, {"versions": {"jax": jax.__version__}}), []  # record

    for step in range(UPDATES):
        loss = update(model, optimizer, batch(step))
        lr, tokens = SCHEDULE[step], (step + 1) * BATCH * TIME
        rows.append({"step": step, "tokens": tokens, "lr": lr, "train_loss": float(loss)})  # record
        if len(rows) == EVERY:  # record
            record.write_segment(folder, attempt, rows)  # record
            rows = []  # record

    heldout = float(loss_of(model, batch(UPDATES)))
    record.set_status(folder, "finished", result={  # record
        "updates": UPDATES, "tokens": tokens, "heldout_loss": heldout, "params_digest": None})  # record


if __name__ == "__main__":
    main(sys.argv[1])
