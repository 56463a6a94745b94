"""What an update of a run takes on each device, by formula: operations, bytes held, bytes moved.

Letters beyond those of the model: d tokens per device and micro-batch = micro-batch * T / (replica data fsdp
sequence); f = fsdp * sequence parts that parameters and state lie in; t = tensor; A micro-batches per update; c bytes
of the compute dtype; P parameters, P_m those in matrices of the blocks and in the head.

Memory is exact for parameters, state and batch (shapes over shardings); temporaries are those of
`jaxlm.launch.temporaries`. Traffic is the least of the model as it is written, with nothing moved twice: logits go
through memory, and so do attention weights where no kernel keeps them on the chip. Times made from it hold for peak
figures and full overlap: what a run may come near to, no forecast.
"""

import dataclasses
import functools
import math

import jax
from jax.sharding import AbstractMesh

from jaxlm import model
from jaxlm.launch.slices import Chip
from jaxlm.launch.temporaries import Sizes, attention_form, temporaries
from jaxlm.model import ModelConfig
from jaxlm.model.decoder import KEPT
from jaxlm.parallel import AXES, MeshConfig
from jaxlm.train.config import RunConfig
from jaxlm.train.start import step_config
from jaxlm.train.state import TrainState, run_optimizer, state_shardings
from jaxlm.train.step import StepConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldBytes:
    """Bytes on each device while a run trains.

    Attributes:
      parameters, optimizer: the state, float32 or as the optimizer keeps it; exact.
      batch: token ids of one call of the compiled step; exact.
      temporaries: gradients, saved activations and what one layer and the head need at a time; an estimate, made in
        `jaxlm.launch.temporaries`.
    """

    parameters: int
    optimizer: int
    batch: int
    temporaries: int

    @property
    def state(self) -> int:
        """Parameters and optimizer state."""
        return self.parameters + self.optimizer

    @property
    def total(self) -> int:
        """All of it."""
        return self.state + self.batch + self.temporaries


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """What each device does in one update.

    Attributes:
      model_flops: of `jaxlm.model.flops_per_token`: the useful work.
      recomputed_flops: what remat makes again of the blocks' forward pass.
      hbm_bytes: read and written in its own memory.
      ici_bytes: received from devices of the same slice.
      dcn_bytes: received from other slices.
    """

    model_flops: float
    recomputed_flops: float
    hbm_bytes: float
    ici_bytes: float
    dcn_bytes: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Roofline:
    """Seconds of one update if one resource alone were the limit; they are taken to overlap wholly.

    Attributes:
      compute: operations over the chip's peak in bfloat16, in which a TPU multiplies float32 too by default.
      hbm: bytes over the memory's bandwidth.
      ici: bytes received over half the chip's link bandwidth (one direction), all links busy.
      dcn: bytes received over the network between slices; 0 with one slice.
    """

    compute: float
    hbm: float
    ici: float
    dcn: float

    @property
    def seconds(self) -> float:
        """The longest of them."""
        return max(self.compute, self.hbm, self.ici, self.dcn)

    @property
    def limit(self) -> str:
        """Which it is: "compute", "hbm", "ici" or "dcn"."""
        return max(dataclasses.asdict(self).items(), key=lambda item: item[1])[0]


def roofline(work: Work, chip: Chip) -> Roofline:
    """Returns the times of `work` on `chip`; infinite between slices whose network is not stated."""
    dcn = work.dcn_bytes / chip.dcn_bandwidth if chip.dcn_bandwidth else math.inf
    return Roofline(
        compute=(work.model_flops + work.recomputed_flops) / chip.peak_flops,
        hbm=work.hbm_bytes / chip.hbm_bandwidth,
        ici=work.ici_bytes / (chip.ici_bandwidth / 2),
        dcn=dcn if work.dcn_bytes else 0.0,
    )


def held_bytes(run: RunConfig, *, platform: str = "tpu", even: bool = False) -> HeldBytes:
    """Returns the bytes per device of `run` on its mesh; nothing is allocated and no device is needed.

    With `even`, parameters and state are taken to lie in equal parts, which leaves out gains and counters that every
    device holds and asks nothing of the mesh; a hundred times as fast. Temporaries are those of `platform`.

    Raises `ConfigError` where the mesh does not divide the model.
    """
    shapes = _state_shapes(step_config(run.replace(mesh=MeshConfig())))
    sizes = [[math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(part)] for part in shapes]
    if even:
        parts = run.mesh.fsdp * run.mesh.sequence * run.mesh.tensor
        parameters, optimizer = (sum(part) // parts for part in sizes[:2])
    else:
        tx = run_optimizer(run.model, step_config(run).optimizer, run.clip_norm)
        shardings = state_shardings(run.model, tx, AbstractMesh(run.mesh.shape, AXES))
        parameters, optimizer = (
            sum(math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf, sharding in zip(
                jax.tree.leaves(part), jax.tree.leaves(placed), strict=True))
            for part, placed in zip(shapes[:2], shardings[:2], strict=True))
    batch = 4 * run.chunk * run.batch * (run.data.sequence + 1) // run.mesh.batch_shards
    return HeldBytes(parameters=parameters, optimizer=optimizer, batch=batch, temporaries=temporaries(run, platform))


def work(run: RunConfig, *, platform: str = "tpu") -> Work:
    """Returns what each device does in an update of `run`, with p = 3 passes over a block, 4 with remat:

        operations   flops_per_token * tokens per update / devices; remat: a third of those of the blocks once more,
                     without the last one and those that its policy keeps
        hbm_bytes    2 (parameters + state) + 2 A * 4 P / (f t)            the optimizer; gradients
                     + A (2 or 3) P_m / t * c                              weights, in each pass that reads them
                     + A L d (p E c + p T H/t * 2 (4 + c))                 products of a block; weights without a kernel
                     + A d V/t * 20                                        logits, five times
        ici_bytes    A (f-1)/f P_m/t (2 c + 4)                             weights twice, gradients once
                     + A 2 (data-1)/data * 4 P / (f t)                     gradients between copies
                     + A L d D c * 2 (t-1)/t * (4, or 6 with remat)        sums over tensor
                     + A L d 2 G K/t c (sequence-1) * (p)                  keys and values of the other tokens
        dcn_bytes    A 2 (replica-1)/replica * 4 P / (f t)
    """
    size, config, mesh = Sizes.of(run), run.model, run.mesh
    per_token = model.flops_per_token(config, run.data.sequence)
    devices = math.prod(mesh.shape)
    share = run.tokens_per_update / devices
    remat = config.compute.remat
    again = _recomputed(config, run.data.sequence) if remat else 0
    parts, tensor, compute_bytes, passes = size.parts, size.tensor, size.compute_bytes, 4 if remat else 3
    gradients = 4 * size.parameters / (parts * tensor)
    matrices = (size.blocks + size.head) / tensor
    scores = 0 if attention_form(run, platform) in ("cudnn", "splash") else size.scores
    block = passes * (size.block_io * compute_bytes + 2 * (4 + compute_bytes) * scores)
    each = (2 * gradients + (passes - 1) * matrices * compute_bytes
            + size.tokens * (config.layers * block + 20 * config.vocabulary / tensor))
    state = held_bytes(run, even=True).state
    residual = size.tokens * config.width * compute_bytes * config.layers
    keys = size.tokens * 2 * config.kv_width / tensor * compute_bytes * config.layers
    ici = (_others(parts) * matrices * (2 * compute_bytes + 4) + 2 * _others(mesh.data) * gradients
           + residual * 2 * _others(tensor) * (6 if remat else 4) + keys * (mesh.sequence - 1) * passes)
    return Work(
        model_flops=share * sum(per_token.values()),
        recomputed_flops=share * again,
        hbm_bytes=2 * state + run.accumulation * each,
        ici_bytes=run.accumulation * ici,
        dcn_bytes=run.accumulation * 2 * _others(mesh.replica) * gradients,
    )


def _recomputed(config: ModelConfig, sequence: int) -> float:
    """Returns the operations per token of the blocks' forward pass that remat makes again.

    Attention itself is, whatever the policy, for the weights are not kept, and so is its output projection. The last
    product of the feed-forward is not: no gradient needs what it gives.
    """
    per_token, kept = model.flops_per_token(config, sequence), KEPT[config.compute.remat_policy]
    inputs = 2 * config.layers * config.width * (config.query_width + 2 * config.kv_width)
    last = 2 * config.layers * config.width * config.ff_width
    return (per_token["attention"] / 3 - (inputs if "query" in kept else 0)
            + (0 if "up" in kept else per_token["feed_forward"] / 3 - last))


def _others(members: int) -> float:
    """The share of an array that a member of a group does not hold itself."""
    return (members - 1) / members


@functools.lru_cache(maxsize=32)
def _state_shapes(config: StepConfig) -> TrainState:
    """Shapes of the state, which no mesh changes."""
    tx = run_optimizer(config.model, config.optimizer, config.clip_norm)
    params = jax.tree.map(lambda info: jax.ShapeDtypeStruct(info.shape, "float32"), model.param_infos(config.model))
    return TrainState(params=params, opt_state=jax.eval_shape(tx.init, params), step=jax.ShapeDtypeStruct((), "int32"))
