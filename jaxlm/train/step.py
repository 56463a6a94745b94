"""The training step: one update as a pure function, and many updates in one compiled call.

`update` maps (state, batch) to (state, metrics). `run_chunk` repeats it inside one call. Its loop
has a length that is known only at run time, so one compiled program serves every chunk: where a run
is cut into calls, stopped or branched cannot change a bit of the result.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxlm import losses, model
from jaxlm.model.config import ModelConfig
from jaxlm.optim import OptimizerConfig, set_rates
from jaxlm.parallel import ACTIVATIONS, RULES, MeshConfig, batch_spec, make_mesh, step_options
from jaxlm.params import partition_specs
from jaxlm.params.activations import constrain_like, on_mesh, rows
from jaxlm.train.diagnostics import StateDiagnostics, StepDiagnostics, block_rms, sequence_grad_sq, squared_norm
from jaxlm.train.state import TrainState, run_optimizer, state_shardings

# Purposes that random keys are folded with.
DROPOUT, DIAGNOSTICS = 1, 2


class Metrics(NamedTuple):
    """What one update reports, float32 scalars (with a leading axis for a chunk).

    Attributes:
      train_loss: cross-entropy of the batch before the update, nats per token, without z-loss.
      grad_l2: l2 norm of the whole gradient before clipping.
      grad_l1: l1 norm of the whole gradient before clipping.
      update_rms: root mean square of the change of the parameters, learning rate included.
      param_rms: root mean square of the parameters after the update.
      diagnostics: norms by block and of micro-batches; None where diagnostics are off.
    """

    train_loss: jax.Array
    grad_l2: jax.Array
    grad_l1: jax.Array
    update_rms: jax.Array
    param_rms: jax.Array
    diagnostics: StepDiagnostics | None = None


# Every metric that is always there.
SCALARS = Metrics._fields[:-1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepConfig:
    """What the compiled step depends on; runs that agree in it share one compilation."""

    model: ModelConfig
    optimizer: OptimizerConfig
    clip_norm: float | None
    z_loss: float
    accumulation: int
    mesh: MeshConfig
    diagnostics: bool = False


def loss_fn(
    params: Any, batch_BxS: jax.Array, dropout_key: jax.Array | None, config: StepConfig
) -> tuple[jax.Array, jax.Array]:
    """Returns (cross-entropy plus z-loss, cross-entropy) of sequences of S = T + 1 tokens."""
    x_NxD = model.hidden(config.model, params, batch_BxS[:, :-1], dropout_key=dropout_key)
    targets_N, chunks = rows(batch_BxS[:, 1:]), config.model.compute.loss_chunks
    if chunks == 1:
        logits_NxV = model.unembed(config.model, params, x_NxD)
        loss, z_term = losses.cross_entropy(logits_NxV, targets_N, z_loss=config.z_loss)
    else:
        weights = model.unembedding(config.model, params)
        loss, z_term = losses.cut_cross_entropy(x_NxD, weights, targets_N, z_loss=config.z_loss, chunks=chunks,
                                                transposed=not config.model.tied)
    return loss + z_term, loss


def update(
    state: TrainState,
    batch_AxBxS: jax.Array,
    *,
    lr: jax.Array,
    weight_decay: jax.Array,
    key: jax.Array,
    config: StepConfig,
    tx: optax.GradientTransformation,
) -> tuple[TrainState, Metrics]:
    """Makes one update from A accumulated micro-batches of B sequences.

    Args:
      state: parameters, optimizer state and step.
      batch_AxBxS: token ids, S = T + 1.
      lr: the learning rate of this update.
      weight_decay: the weight decay of this update.
      key: the run's key; folded with purpose, step and micro-batch, never stored.
      config: the static part.
      tx: the optimizer chain.
    """
    step_key = jax.random.fold_in(jax.random.fold_in(key, DROPOUT), state.step)
    specs = partition_specs(model.param_infos(config.model), RULES)

    def microbatch(index: jax.Array, batch_BxS: jax.Array) -> tuple[jax.Array, Any]:
        dropout_key = jax.random.fold_in(step_key, index) if config.model.dropout > 0 else None
        (_, loss), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params, batch_BxS, dropout_key, config)
        return loss, constrain_like(grads, specs)

    if config.accumulation == 1:
        loss, grads = microbatch(jnp.int32(0), batch_AxBxS[0])
        small_grad_sq = None
    else:
        def accumulate(total: Any, item: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
            after = jax.tree.map(jnp.add, total, microbatch(*item))
            if not config.diagnostics:
                return after, None
            # From the sums and not from the gradients, whose second use would change how XLA adds them up
            # and with it the last bits of the run.
            return after, squared_norm(jax.tree.map(jnp.subtract, jax.lax.optimization_barrier(after[1]), total[1]))

        zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, state.params))
        total, squares = jax.lax.scan(accumulate, zero, (jnp.arange(config.accumulation), batch_AxBxS))
        loss, grads = jax.tree.map(lambda x: x / config.accumulation, total)
        small_grad_sq = squares.mean() if config.diagnostics else None

    opt_state = set_rates(state.opt_state, lr=lr, weight_decay=weight_decay)
    updates, opt_state = tx.update(grads, opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    diagnostics = None
    if config.diagnostics:
        diagnostics = StepDiagnostics(block_rms(updates, model.param_infos(config.model)), small_grad_sq)
    metrics = Metrics(
        train_loss=loss,
        grad_l2=optax.global_norm(grads),
        grad_l1=sum(jnp.sum(jnp.abs(g)) for g in jax.tree.leaves(grads)),
        update_rms=optax.global_norm(updates) / size**0.5,
        param_rms=optax.global_norm(params) / size**0.5,
        diagnostics=diagnostics,
    )
    return TrainState(params=params, opt_state=opt_state, step=state.step + 1), metrics


def run_chunk(
    state: TrainState,
    healthy: jax.Array,
    batches_KxAxBxS: jax.Array,
    lrs_K: jax.Array,
    count: jax.Array,
    weight_decay: jax.Array,
    seed: jax.Array,
    *,
    config: StepConfig,
    tx: optax.GradientTransformation,
) -> tuple[TrainState, jax.Array, jax.Array, Metrics]:
    """Makes `count` <= K updates, stopping after the first with a non-finite loss, gradient or parameter.

    Returns (state, healthy, updates made, metrics of K entries of which the first `made` are set).
    With `healthy` false on entry nothing is done, so a call that was dispatched before the one ahead
    of it was known to be bad changes nothing.
    """
    key = jax.random.key(seed)
    length = lrs_K.shape[0]

    def go_on(carry: tuple) -> jax.Array:
        index, _, healthy, _ = carry
        return (index < count) & healthy

    def body(carry: tuple) -> tuple:
        index, state, _, metrics = carry
        state, new = update(state, batches_KxAxBxS[index], lr=lrs_K[index], weight_decay=weight_decay,
                            key=key, config=config, tx=tx)
        metrics = jax.tree.map(lambda buffer, value: buffer.at[index].set(value), metrics, new)
        # The parameters too, so that no checkpoint is ever saved of a state that has diverged.
        healthy = jnp.isfinite(jnp.stack([new.train_loss, new.grad_l2, new.param_rms])).all()
        return index + 1, state, healthy, metrics

    empty = Metrics(*(jnp.zeros(length) for _ in SCALARS))
    if config.diagnostics:
        blocks_KxB = jnp.zeros((length, config.model.layers + 2))
        small_K = jnp.zeros(length) if config.accumulation > 1 else None
        empty = empty._replace(diagnostics=StepDiagnostics(blocks_KxB, small_K))
    made, state, healthy, metrics = jax.lax.while_loop(go_on, body, (jnp.int32(0), state, healthy, empty))
    return state, healthy, made, metrics


def heldout_loss(params: Any, batches_MxBxS: jax.Array, *, config: StepConfig) -> jax.Array:
    """Returns the mean cross-entropy in nats per token over M batches, without dropout."""
    def one(total: jax.Array, batch_BxS: jax.Array) -> tuple[jax.Array, None]:
        return total + loss_fn(params, batch_BxS, None, config)[1], None

    total, _ = jax.lax.scan(one, jnp.zeros(()), batches_MxBxS)
    return total / batches_MxBxS.shape[0]


def diagnose(
    params: Any, batch_BxS: jax.Array, sequences_CxPxS: jax.Array | None, step: jax.Array, seed: jax.Array, *,
    config: StepConfig,
) -> StateDiagnostics:
    """Returns what the table in `jaxlm.train.diagnostics` says of the state after `step` updates.

    Args:
      params: the parameters.
      batch_BxS: a micro-batch for attention and residual stream.
      sequences_CxPxS: C * P sequences whose gradients are taken one by one; None for none.
      step: updates made; folded into the key of dropout.
      seed: the run's.
      config: the static part.
    """
    found = StateDiagnostics(
        block_param_rms=block_rms(params, model.param_infos(config.model)),
        probe=model.probe(config.model, params, batch_BxS[:, :-1]), small_grad_sq=None)
    if sequences_CxPxS is None:
        return found
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), DIAGNOSTICS), step)
    # One sequence has few logits, and a mesh lays whole sequences side by side, not parts of their rows.
    compute = dataclasses.replace(config.model.compute, loss_chunks=1)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, compute=compute))

    def gradient(batch_BxS: jax.Array, dropout_key: jax.Array) -> Any:
        return jax.grad(loss_fn, has_aux=True)(params, batch_BxS, dropout_key, config)[0]

    return found._replace(small_grad_sq=sequence_grad_sq(gradient, sequences_CxPxS, key))


class CompiledStep(NamedTuple):
    """The jitted functions of one `StepConfig`, on its mesh; `options` are those that `run_chunk` is compiled with."""

    mesh: Mesh
    options: dict[str, Any]
    tx: optax.GradientTransformation
    run_chunk: Callable[..., tuple[TrainState, jax.Array, jax.Array, Metrics]]
    heldout_loss: Callable[[Any, jax.Array], jax.Array]
    diagnose: Callable[..., StateDiagnostics]


def make_step(config: StepConfig, devices: Sequence[jax.Device] | None = None) -> CompiledStep:
    """Returns the jitted step for `config`; the state that goes in is donated.

    `devices` may be those of a compiler's topology description, to compile for what is not here; None for those of
    this process group. Raises `ConfigError` where they are too few or the mesh does not divide the model.
    """
    return _make_step(config, None if devices is None else tuple(devices))


@functools.lru_cache(maxsize=8)
def _make_step(config: StepConfig, devices: tuple[jax.Device, ...] | None) -> CompiledStep:
    mesh = make_mesh(config.mesh, devices)
    placed = functools.partial(on_mesh, mesh=mesh, rules=ACTIVATIONS)
    tx = run_optimizer(config.model, config.optimizer, config.clip_norm)
    shardings = state_shardings(config.model, tx, mesh)
    whole = NamedSharding(mesh, PartitionSpec())
    options = step_options(mesh.devices.flat[0].platform, config.mesh.overlap)
    chunk = jax.jit(
        placed(functools.partial(run_chunk, config=config, tx=tx)),
        in_shardings=(shardings, whole, NamedSharding(mesh, batch_spec(2)), whole, whole, whole, whole),
        out_shardings=(shardings, whole, whole, whole),
        donate_argnums=0,
        compiler_options=options,
    )
    evaluate = jax.jit(
        placed(functools.partial(heldout_loss, config=config)),
        in_shardings=(shardings.params, NamedSharding(mesh, batch_spec(1))),
        out_shardings=whole,
    )
    observe = jax.jit(
        placed(functools.partial(diagnose, config=config)),
        in_shardings=(shardings.params, NamedSharding(mesh, batch_spec()), NamedSharding(mesh, batch_spec(1)),
                      whole, whole),
        out_shardings=whole,
    )
    return CompiledStep(mesh=mesh, options=options, tx=tx, run_chunk=chunk, heldout_loss=evaluate, diagnose=observe)
