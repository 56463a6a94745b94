"""The feed-forward branch of a block."""

import jax
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from jaxlm.model import parameter
from jaxlm.model.config import ModelConfig
from jaxlm.model.dropout import dropout
from jaxlm.model.matmul import matmul
from jaxlm.params.activations import constrain_rows


class FeedForward(nnx.Module):
    """gelu(x up) down, or (silu(x gate) * (x up)) down for swiglu; no biases.

    Sources: Hendrycks & Gimpel 2016, arXiv 1606.08415, the tanh form; Shazeer 2020, arXiv
    2002.05202, equation 6 with beta = 1.
    """

    def __init__(self, config: ModelConfig, key: jax.Array, *, layers: int | None = None):
        self.config = config
        width, inner = config.width, config.ff_width
        gate_key, up_key, down_key = jax.random.split(key, 3)
        self.up = parameter.matrix(up_key, (width, inner), ("width", "ff"), layers=layers)
        self.down = parameter.matrix(down_key, (inner, width), ("ff", "width"), layers=layers,
                                     gain=parameter.residual_gain(config.layers))
        if config.activation == "swiglu":
            self.gate = parameter.matrix(gate_key, (width, inner), ("width", "ff"), layers=layers)

    def __call__(self, x_NxD: jax.Array, *, dropout_key: jax.Array | None) -> jax.Array:
        """Returns the branch's output (N, D)."""
        up_NxF = checkpoint_name(matmul(x_NxD, self.up[...]), "up")
        if self.config.activation == "swiglu":
            gate_NxF = checkpoint_name(matmul(x_NxD, self.gate[...]), "gate")
            h_NxF = _swiglu(gate_NxF, up_NxF)
        else:
            h_NxF = _gelu(up_NxF)
        h_NxF = constrain_rows(h_NxF, "ff")
        return dropout(matmul(h_NxF, self.down[...]), self.config.dropout, dropout_key)


@jax.checkpoint  # the gradient then needs the input only, and not the tanh
def _gelu(x_NxF: jax.Array) -> jax.Array:
    return jax.nn.gelu(x_NxF, approximate=True)


@jax.checkpoint
def _swiglu(gate_NxF: jax.Array, up_NxF: jax.Array) -> jax.Array:
    return jax.nn.silu(gate_NxF) * up_NxF
