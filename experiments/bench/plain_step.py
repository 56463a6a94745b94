"""The baseline of the step benchmark: one training step in plain JAX and optax, nothing of jaxlm.

Decoder-only: pre-norm LayerNorm with scale only, final norm, no biases, learned positions, tied head,
tanh-GELU, full causal attention by einsum with a mask, AdamW (lr 1e-3, betas .9 and .95, eps 1e-8, decay .1
on every parameter), no clipping, float32; or activations and products in bfloat16 with all else (parameters, norms,
softmax, logits) in float32. It is plain but not slow by carelessness: layers are unrolled, the state is donated, and
the loss is the only number that a step returns. Activations outside attention are matrices (tokens, width), or
with `flat=False` (batch, time, width), as most code has them, which costs a quarter more on a CPU. At the default
sizes a token costs 28.31 MFLOP, full attention counted.

    python -m experiments.bench.plain_step --steps 20

Letters in names: B batch, T time, D width, H heads, K head size, F feed-forward, V vocabulary;
N = B*T tokens, one axis, or the two where not flat.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

Params = dict[str, Any]
State = tuple[Params, optax.OptState]
Batch = tuple[jax.Array, jax.Array]
Step = Callable[[State, Batch], tuple[State, jax.Array]]

NORM_EPS = 1e-5


def make(*, layers: int = 4, width: int = 256, heads: int = 4, feed_forward: int = 1024,
         vocabulary: int = 4096, sequence: int = 256, batch: int = 16,
         dtype: str = "float32", flat: bool = True) -> tuple[Step, State, Batch]:
    """Returns `(step, state, batch)`; `step(state, batch) -> (state, loss)` is jitted and donates its state.

    The batch is (inputs int32[B, T], targets int32[B, T]), tokens uniform from numpy's default_rng(0); the
    loss is the mean cross-entropy in nats per token, before the update. Sizes count layers, channels,
    heads, tokens and sequences; `width` must be divisible by `heads`. `dtype` is that of activations and products.
    """
    if width % heads:
        raise ValueError(f"heads = {heads}: must divide width = {width}")
    tx = optax.adamw(1e-3, b1=0.9, b2=0.95, eps=1e-8, weight_decay=0.1)
    params = init(jax.random.key(0), layers=layers, width=width, feed_forward=feed_forward,
                  vocabulary=vocabulary, sequence=sequence)
    tokens = np.random.default_rng(0).integers(0, vocabulary, (batch, sequence + 1), dtype=np.int32)
    pair = (jnp.asarray(tokens[:, :-1]), jnp.asarray(tokens[:, 1:]))

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: State, batch: Batch) -> tuple[State, jax.Array]:
        params, opt_state = state
        loss, grads = jax.value_and_grad(loss_fn)(params, batch, heads, dtype=dtype, flat=flat)
        updates, opt_state = tx.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), loss

    return step, (params, tx.init(params)), pair


def init(key: jax.Array, *, layers: int, width: int, feed_forward: int, vocabulary: int,
         sequence: int) -> Params:
    """Returns the parameters: normal matrices of std fan_in^-1/2, tables of std .02, gains of 1."""
    keys = iter(jax.random.split(key, 2 + 6 * layers))

    def matrix(rows: int, columns: int, std: float) -> jax.Array:
        return std * jax.random.normal(next(keys), (rows, columns))

    def block() -> Params:
        fan_in = width**-0.5
        return {
            "attention_norm": jnp.ones(width), "query": matrix(width, width, fan_in),
            "key": matrix(width, width, fan_in), "value": matrix(width, width, fan_in),
            # Writes to the residual stream are scaled down by the number of writes, as in GPT-2.
            "out": matrix(width, width, fan_in * (2 * layers)**-0.5),
            "feed_norm": jnp.ones(width), "up": matrix(width, feed_forward, fan_in),
            "down": matrix(feed_forward, width, (2 * layers * feed_forward)**-0.5),
        }

    return {"embedding": matrix(vocabulary, width, 0.02), "positions": matrix(sequence, width, 0.02),
            "blocks": [block() for _ in range(layers)], "final_norm": jnp.ones(width)}


def loss_fn(params: Params, batch: Batch, heads: int, *, dtype: str = "float32", flat: bool = True) -> jax.Array:
    """Returns the mean cross-entropy of the batch in nats per token."""
    inputs_BT, targets_BT = batch
    x_BTD = (params["embedding"][inputs_BT] + params["positions"]).astype(dtype)
    x_ND = x_BTD.reshape(-1, x_BTD.shape[-1]) if flat else x_BTD
    matrices = jax.tree.map(lambda leaf: leaf.astype(dtype) if leaf.ndim == 2 else leaf, params)
    for block in matrices["blocks"]:
        x_ND += attention(layer_norm(x_ND, block["attention_norm"]), block, inputs_BT.shape, heads)
        hidden_NF = jax.nn.gelu(layer_norm(x_ND, block["feed_norm"]) @ block["up"], approximate=True)
        x_ND += hidden_NF @ block["down"]
    logits_NV = jnp.matmul(layer_norm(x_ND, params["final_norm"]), matrices["embedding"].T,
                           preferred_element_type=jnp.float32)
    losses_N = optax.softmax_cross_entropy_with_integer_labels(logits_NV, targets_BT.reshape(logits_NV.shape[:-1]))
    return losses_N.mean()


def attention(x_ND: jax.Array, block: Params, shape: tuple[int, int], heads: int) -> jax.Array:
    """Returns causal self-attention of the normed input, [N, D], with the whole T x T matrix computed."""
    split = (*shape, heads, x_ND.shape[-1] // heads)
    q_BTHK, k_BTHK, v_BTHK = ((x_ND @ block[name]).reshape(split) for name in ("query", "key", "value"))
    scores_BHTT = jnp.einsum("bthk,bshk->bhts", q_BTHK, k_BTHK, preferred_element_type=jnp.float32) * split[-1]**-0.5
    causal_TT = jnp.tril(jnp.ones((shape[1], shape[1]), bool))
    weights_BHTT = jax.nn.softmax(jnp.where(causal_TT, scores_BHTT, jnp.finfo(scores_BHTT.dtype).min))
    mixed_BTHK = jnp.einsum("bhts,bshk->bthk", weights_BHTT.astype(v_BTHK.dtype), v_BTHK)
    return mixed_BTHK.reshape(x_ND.shape) @ block["out"]


def layer_norm(x_ND: jax.Array, scale_D: jax.Array) -> jax.Array:
    """Returns the rows of `x_ND` brought to mean 0 and variance 1 in float32, times a gain for each channel."""
    centred_ND = x_ND.astype(jnp.float32) - x_ND.mean(-1, keepdims=True, dtype=jnp.float32)
    variance_N1 = jnp.square(centred_ND).mean(-1, keepdims=True)
    return (centred_ND * jax.lax.rsqrt(variance_N1 + NORM_EPS) * scale_D).astype(x_ND.dtype)


def main() -> None:
    """Times `--steps` steps, one at a time, and prints the median in tokens per second."""
    parser = argparse.ArgumentParser(description="Time the plain JAX training step.")
    parser.add_argument("--steps", type=int, default=10, help="number of timed steps (default 10)")
    count = max(1, parser.parse_args().steps)
    step, state, batch = make()
    seconds = []
    for _ in range(count + 2):
        start = time.perf_counter()
        state, loss = step(state, batch)
        loss.block_until_ready()
        seconds.append(time.perf_counter() - start)
    # The first call compiles and the second still grows the heap.
    median, best = statistics.median(seconds[2:]), min(seconds[2:])
    print(f"{batch[0].size / median:.0f} tokens/s (median of {count} steps, {1e3 * median:.0f} ms; "
          f"fastest {1e3 * best:.0f} ms), loss {float(loss):.4f} nats per token, jax {jax.__version__}, "
          f"{jax.devices()[0].device_kind}")


if __name__ == "__main__":
    main()
