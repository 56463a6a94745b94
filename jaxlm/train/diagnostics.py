"""Diagnostics of a run: what is measured inside the step and what beside it, every `diagnostics.every` updates.

This table is the one place for formulas, units, sources and costs. A row follows update k; "next batch" is
batch k + 1, which the parameters have not seen (within an epoch). Costs are in % of a step of the standard
model (4 layers, width 256, batch 16 x 256, two CPU cores; `experiments/bench/diagnostics.py`): "a row"
is paid once every `every` updates, "a step" at each of them. Each row also ends a chunk of updates.

small_grad_sq         mean of |g|^2 over the A micro-batches of update k; without accumulation over the
                      gradients of single sequences of the next batch, z-loss and dropout included
                      unit: squared gradient   source: McCandlish et al. 2018, 1812.06162, appendix A.1
                      cost: 0.1 to 0.2 a micro-batch and step; single sequences 18 to 22 a row (4 of 16)
big_grad_sq           |g|^2 of update k, before clipping; unit and source as above; cost: none
noise scale           tr(Sigma) / |G|^2, B_simple of the same source; `scaling.diagnostics.noise_scale`
                      unit: sequences, and tokens   cost: none, from the record
block_update_rms      rms of the change of the parameters of a block (embedding, each layer, the rest)
                      unit: parameter   cost: 0.1 to 0.2 a step
block_param_rms       rms of the parameters of a block after update k; unit: parameter   cost: in the next four
update ratio          block_update_rms / block_param_rms; `scaling.diagnostics.update_ratio`   unit: 1
attention_logit_max   max of |q_i . k_j| / sqrt(K) over heads, sequences and j <= i, by layer   unit: nats
                      source: Wortsman et al. 2023, 2309.14322, whose runs above 1e4 all diverged
attention_entropy     min over heads of the mean of -sum_j p_ij log p_ij / log i over the queries i >= 2 (i keys)
                      unit: share of the most possible, 0 to 1   source: Zhai et al. 2023, 2303.06296
residual_rms          rms of the residual stream after the block, by layer   unit: activation
residual_kurtosis     mean over tokens of E[(x - mu)^4] / E[(x - mu)^2]^2 - 3 over the D channels, by layer: 0 for
                      Gaussian channels, about D for one outlier   unit: 1   source: the measure of Outlier-Safe
                      Pre-Training's code; deviations: centred, and no relu
                      cost of these four and block_param_rms: 30 to 37 a row
spikes                losses 7 standard deviations off the mean of the 1000 before; `scaling.diagnostics.spikes`
                      unit: update index   source: OLMo 2, 2501.00656, section 3.2   cost: below 0.01 a step,
                      always on as a note while training

All of it with every = 100: 0.7 a step, 1.2 with 4 micro-batches. Attention and residual stream are of the first
micro-batch of the next batch, without dropout; a maximum grows with the number of sequences, so compare runs of
equal micro-batch.
Training itself is the same with and without, bit for bit on a CPU (tested).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxlm.params import ParamInfo
from jaxlm.params.activations import whole_batch

if TYPE_CHECKING:
    from jaxlm.model import Probe


class StepDiagnostics(NamedTuple):
    """What the step itself measures of one update, float32.

    Attributes:
      block_update_rms: [L + 2] root mean square of the change of the parameters, by block.
      small_grad_sq: mean squared l2 norm of the micro-batches' gradients; None without accumulation.
    """

    block_update_rms: jax.Array
    small_grad_sq: jax.Array | None


class StateDiagnostics(NamedTuple):
    """What is measured of parameters and the next batch, beside the step.

    Attributes:
      block_param_rms: [L + 2] root mean square of the parameters, by block.
      probe: attention and residual stream, [L] each.
      small_grad_sq: mean squared l2 norm of gradients of single sequences; None where not asked for.
    """

    block_param_rms: jax.Array
    probe: "Probe"
    small_grad_sq: jax.Array | None


def block_rms(tree: Any, infos: Any) -> jax.Array:
    """Returns the root mean square of each block of a tree like the parameters, [L + 2] float32.

    Blocks: the tables at the input, each layer, the rest (final norm and output projection). What a tied
    table does as output projection counts to the first.
    """
    squares, sizes = [jnp.zeros(()), jnp.zeros(()), jnp.zeros(())], [0, 0, 0]
    for leaf, info in zip(jax.tree.leaves(tree), jax.tree.leaves(infos), strict=True):
        block = _block(info)
        axes = tuple(range(1, leaf.ndim)) if block == 1 else None
        squares[block] += jnp.sum(jnp.square(leaf.astype(jnp.float32)), axis=axes)
        sizes[block] += info.size // (info.shape[0] if block == 1 else 1)
    means = [jnp.atleast_1d(square / size) for square, size in zip(squares, sizes, strict=True)]
    return jnp.sqrt(jnp.concatenate(means))


def squared_norm(tree: Any) -> jax.Array:
    """Returns the squared l2 norm of all leaves together."""
    return sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree))


def sequence_grad_sq(
    gradient: Callable[[jax.Array, jax.Array], Any], sequences_CxPxS: jax.Array, key: jax.Array
) -> jax.Array:
    """Returns the mean squared l2 norm of the gradients of C * P sequences, each taken alone.

    The P sequences of a turn go side by side, one on each data shard of a mesh, and hold a whole gradient
    each; the C turns one after the other.

    Args:
      gradient: (batch of one sequence [1, S], dropout key) -> tree.
      sequences_CxPxS: token ids.
      key: folded with the index of the sequence.
    """
    turns, side = sequences_CxPxS.shape[:2]

    def one(sequence_S: jax.Array, index: jax.Array) -> jax.Array:
        return squared_norm(gradient(sequence_S[None], jax.random.fold_in(key, index)))

    indices_CxP = jnp.arange(turns * side).reshape(turns, side)
    with whole_batch() as shards:
        side_by_side = jax.vmap(one, spmd_axis_name=shards)
        return jnp.mean(jax.lax.map(lambda turn: side_by_side(*turn), (sequences_CxPxS, indices_CxP)))


def _block(info: ParamInfo) -> int:
    if info.stack_axes:
        return 1
    return 0 if info.kind == "embedding" else 2
