"""A bare JAX loop that keeps a run record. The lines marked `# record` are all that it takes.

    python experiments/record_examples/bare_jax.py runs/examples/bare-jax
"""

import os
import sys

import jax
import jax.numpy as jnp
import numpy as np

from scaling import record  # record

UPDATES, EVERY, BATCH, TIME, VOCABULARY, WIDTH, HIDDEN, SEED = 60, 20, 16, 32, 32, 16, 32, 0
Params = dict[str, jax.Array]
SCHEDULE = np.linspace(2.0, 0.2, UPDATES)  # [updates] learning rate of every update


def batch(key: int) -> np.ndarray:
    """Returns tokens [B, T + 1] of a random walk; no model can get below ln 4 = 1.386 nats a token."""
    steps = np.random.default_rng([SEED, key]).integers(0, 4, (BATCH, TIME + 1))
    return np.cumsum(steps, axis=1) % VOCABULARY


def init_params(key: jax.Array) -> Params:
    embedding, hidden, head = jax.random.split(key, 3)
    return {"embedding": jax.random.normal(embedding, (VOCABULARY, WIDTH)),
            "hidden": jax.random.normal(hidden, (WIDTH, HIDDEN)) / WIDTH**0.5,
            "head": jax.random.normal(head, (HIDDEN, VOCABULARY)) / HIDDEN**0.5}


@jax.jit
def loss_of(params: Params, tokens: jax.Array) -> jax.Array:
    hidden_BTF = jnp.tanh(params["embedding"][tokens[:, :-1]] @ params["hidden"])
    logs_BTV = jax.nn.log_softmax(hidden_BTF @ params["head"])
    return -jnp.take_along_axis(logs_BTV, tokens[:, 1:, None], axis=-1).mean()


@jax.jit
def update(params: Params, tokens: jax.Array, lr: float) -> tuple[Params, jax.Array]:
    loss, gradients = jax.value_and_grad(loss_of)(params, tokens)
    return jax.tree.map(lambda p, g: p - lr * g, params, gradients), loss


def main(folder: str | os.PathLike[str]) -> None:
    """Trains with plain gradient descent and leaves the record in `folder`."""
    params = init_params(jax.random.key(SEED))
    total = sum(leaf.size for leaf in jax.tree.leaves(params))
    table, head = VOCABULARY * WIDTH, HIDDEN * VOCABULARY

    counts = {"total": total, "non_embedding": total - table - head, "with_head": total - table}  # record
    record.create(folder, {  # record
        "name": "bare-jax", "study": "examples", "seed": SEED, "parent": None,  # record
        "config": {"width": WIDTH, "hidden": HIDDEN}, "config_hash": "1", "params": counts,  # record
        "tokens_per_update": BATCH * TIME, "flops_per_token": {}, "loss_unit": "nats/token",  # record
        "corpus": {"name": "random walk", "digest": "1"}, "bytes_per_token": None,  # record
    }, SCHEDULE, {"source": "linear decay"})  # record
    attempt, rows = record.start_attempt(folder, {"versions": {"jax": jax.__version__}}), []  # record

    for step in range(UPDATES):
        params, loss = update(params, batch(step), SCHEDULE[step])
        lr, tokens = SCHEDULE[step], (step + 1) * BATCH * TIME
        rows.append({"step": step, "tokens": tokens, "lr": lr, "train_loss": float(loss)})  # record
        if len(rows) == EVERY:  # record
            record.write_segment(folder, attempt, rows)  # record
            rows = []  # record

    heldout = float(loss_of(params, batch(UPDATES)))
    record.set_status(folder, "finished", result={  # record
        "updates": UPDATES, "tokens": tokens, "heldout_loss": heldout, "params_digest": None})  # record


if __name__ == "__main__":
    main(sys.argv[1])
