"""What a device holds beyond state and batch at the worst moment of an update, by formula.

Letters beyond those of the model: N tokens per device and micro-batch; f = fsdp * sequence parts that parameters and
state lie in; t = tensor; c bytes of the compute dtype; b blocks of queries; P parameters, P_b those of the blocks.
D stands for N D numbers and so on; H, G, F and V are divided by t.

    saved      what the forward pass leaves to the backward pass, L times
    head       logits of a chunk and their gradient, 2 V / chunks * 4; gradient of the head's weights, formed in the
               forward pass, V D * 4 in all; hidden states and their gradient
    block      what the backward pass of one block works on
    gradients  4 P / (f t), twice where they are summed over micro-batches
    update     gradients and updates, for the norms of both are taken before the parameters change
    worst      the largest of saved + head, saved + block + gradients, and update

Parameters are copied when an update begins, for the old ones are read to its end, and the places from which they came
(they are donated) serve as working memory: the two cancel, and neither is counted. Moments are written where they lie.

CPU, as jax 0.10 compiles (0.12 needs 0.2 to 1.15 times as much, the least with remat). All is float32 but for what is
said, whatever the compute dtype: products are taken in float32, and XLA keeps operands so converted. XLA runs what is
ready in order of arrival, so all that depends on the parameters alone is made first and kept: the weights of every
unrolled block, cut out of their stack (4 P_b). So is what the forward pass has ready for the backward pass. A block
saves

    norms      3 D each: input less its mean, and scale, as whole arrays; output, transposed for the gradient of
               weights. Below 4096 rows XLA takes sum and difference apart, and keeps the input too, 4 D
    attention  blocked: queries, output twice (by heads, and rows transposed); keys and values once more for each block
               of queries, (b + 1) G K, of which (b - 1) / 2 G K in c; weights, (b + 1) / 2b T H
               plain: queries, keys twice, values, output; weights, their exponentials and sums as arrays, 3 T H
    gelu       2 F: input, in c, and output; swiglu 4 F: both products and the sigmoid, in c, and output

and its backward pass works on 2 D, of the residual stream, and F, the gradient of the output. XLA drops the barriers
of remat before it orders an unrolled program, so that blocks are computed again in the forward pass and saved as
without. A scan saves what JAX lists: input and output of each norm, 4 D; queries, keys, values, output twice, weights;
2 F, or 3 F of swiglu. With remat it saves the input of the block, D, and what the policy names: attention, 2 H K +
2 G K; projections, F more, or 2 F. In its backward pass it works on one block: 6 D of the norms, attention as above,
2 D of the residual stream, F of gelu (the gradient) or 3 F (the sigmoid and the gradients of output and of one
product), and with remat D of the input and, where it makes them again, F or 2 F of the products.
Without remat in bfloat16 it converts all weights of the blocks before that, 4 P_b. The places of the old parameters
hold one array each at a time, at most F: what a token table or a head has more, V D - F each, is lost to a scan.
The head takes 5 D: the final norm's two arrays and their product, hidden states and their gradient.

GPU and TPU. XLA fuses what is cheap, so that a block saves what its products read and write, E c, with
E = 4 D + 2 H K + 2 G K + 2 F, or 3 F of swiglu; with remat its input and what the policy names, as above, in c. It
works on 2 E c. The kernels keep no scores; the plain form saves T H (4 + c) without remat, works on scores, weights and
the gradient of each, T H * 16, and uncut logits take (4 + c) V. Weights of two blocks are gathered where f > 1,
2 P_b / (L t) c.
"""

import dataclasses

import jax

from jaxlm import losses, model
from jaxlm.model.attention import obstacle
from jaxlm.model.causal import LEAST_QUERIES, MOST_BLOCKS
from jaxlm.model.config import AttentionForm
from jaxlm.model.decoder import KEPT
from jaxlm.train.config import RunConfig

# From so many rows on XLA's library for CPUs takes a mean and what is left without it in one operation.
ROWS_IN_ONE = 4096


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """Counts that the formulas share: numbers per device, not bytes, unless the name says so.

    Attributes:
      tokens: of a micro-batch.
      parts: fsdp * sequence.
      tensor: as in the mesh.
      compute_bytes: of the compute dtype.
      parameters: of the model, all devices together.
      blocks: those in matrices of the blocks.
      head: those of the output projection, tied or not.
      block_io: numbers per token that a block's products read and write.
      scores: numbers per token of attention without a mask.
    """

    tokens: float
    parts: int
    tensor: int
    compute_bytes: int
    parameters: int
    blocks: int
    head: int
    block_io: float
    scores: float

    @classmethod
    def of(cls, run: RunConfig) -> "Sizes":
        """Returns the counts of `run` on its mesh."""
        config, mesh = run.model, run.mesh
        counts = model.parameter_counts(config)
        inner = 2 * config.query_width + 2 * config.kv_width + (_products(run) + 1) * config.ff_width
        return cls(
            tokens=run.microbatch * run.data.sequence / (mesh.batch_shards * mesh.sequence),
            parts=mesh.fsdp * mesh.sequence,
            tensor=mesh.tensor,
            compute_bytes=4 if config.compute.dtype == "float32" else 2,
            parameters=counts.total,
            blocks=counts.attention + counts.feed_forward,
            head=config.vocabulary * config.width,
            block_io=4 * config.width + inner / mesh.tensor,
            scores=run.data.sequence * config.heads / mesh.tensor,
        )


def temporaries(run: RunConfig, platform: str) -> int:
    """Returns the bytes per device beyond state and batch at the worst moment of an update, as above.

    Within a tenth on one CPU with AdamW (experiments/bench/memory.py), a factor of two on TPU slices
    (experiments/pods.md).

    Args:
      run: the run, on its mesh.
      platform: what the step is compiled for, "cpu", "gpu" or "tpu".
    """
    size, layers, compute = Sizes.of(run), run.model.layers, run.model.compute
    saved, block = (_on_cpu if platform == "cpu" else _on_accelerator)(run, size, attention_form(run, platform))
    gradients = 4 * size.parameters / (size.parts * size.tensor)
    summed = gradients if run.accumulation > 1 else 0
    head_gradient = 4 * size.head / size.tensor
    kept = size.tokens * saved * layers
    cpu, unrolled = platform == "cpu", not compute.scan_layers
    if cpu and (unrolled or compute.dtype == "bfloat16" and not compute.remat):
        kept += 4 * size.blocks / (size.parts * size.tensor)
    at_block = kept + (head_gradient if cpu and unrolled else gradients) + size.tokens * block
    if cpu and not unrolled:
        at_block += _lost(run, size)
    at_head = kept + head_gradient + size.tokens * _head(run, size, platform)
    return int(max(at_block, at_head, 2 * gradients) + summed)


def attention_form(run: RunConfig, platform: str) -> AttentionForm:
    """Returns the form of attention that the step takes on `platform`, as `jaxlm.model.attention.attend` does."""
    form = run.model.compute.attention
    if form != "auto":
        return form
    form = {"cpu": "blocked", "gpu": "cudnn"}.get(platform, "splash")
    with jax.default_device(platform):  # what is traced for, as far as the rules ask
        ruled_out = obstacle(form, run.model, run.data.sequence)
    return "plain" if ruled_out or run.model.dropout > 0 or run.mesh.sequence > 1 else form


def _on_cpu(run: RunConfig, size: Sizes, form: AttentionForm) -> tuple[float, float]:
    """Bytes per token that a block saves, and that its backward pass works on."""
    compute = run.model.compute
    width, inner, kv, ff = _widths(run)
    products = _products(run)
    blocks = max(1, min(MOST_BLOCKS, run.data.sequence // LEAST_QUERIES))
    weights = size.scores * ((blocks + 1) / (2 * blocks) if form == "blocked" else 3)
    attention = weights + (3 * inner + (blocks + 1) * kv if form == "blocked" else 2 * inner + 3 * kv)
    norms, through = 6 * width, 2 * width
    if not compute.scan_layers:
        if size.tokens < ROWS_IN_ONE:
            norms += 2 * width
        in_dtype = (2 * products - 1) * ff + ((blocks - 1) / 2 * kv if form == "blocked" else 0)
        whole = norms + attention + 2 * products * ff
        return 4 * (whole - in_dtype) + size.compute_bytes * in_dtype, 4 * (through + ff)
    block = norms + attention + (2 * products - 1) * ff + through
    if not compute.remat:
        return 4 * (4 * width + 3 * inner + 2 * kv + weights + (products + 1) * ff), 4 * block
    again = 0 if "up" in KEPT[compute.remat_policy] else products * ff
    return 4 * (width + _kept(run)), 4 * (block + width + again)


def _lost(run: RunConfig, size: Sizes) -> float:
    """Bytes of the places of token table and head that no array of a block fills."""
    place = size.head / (size.parts * size.tensor)
    return 4 * (1 if run.model.tied else 2) * max(0, place - size.tokens * _widths(run)[3])


def _on_accelerator(run: RunConfig, size: Sizes, form: AttentionForm) -> tuple[float, float]:
    """Bytes per token that a block saves, and that its backward pass works on, gathered weights among them."""
    products, scores = size.block_io * size.compute_bytes, size.scores if form == "plain" else 0
    saved = products + scores * (4 + size.compute_bytes)
    if run.model.compute.remat:
        saved = (run.model.width + _kept(run)) * size.compute_bytes
    gathered = 2 * size.blocks / run.model.layers / size.tensor * size.compute_bytes if size.parts > 1 else 0
    return saved, 2 * products + 16 * scores + gathered / size.tokens


def _widths(run: RunConfig) -> tuple[float, float, float, float]:
    """D, H K, G K and F of one device."""
    config, tensor = run.model, run.mesh.tensor
    return config.width, config.query_width / tensor, config.kv_width / tensor, config.ff_width / tensor


def _products(run: RunConfig) -> int:
    """How many products of width F a block has."""
    return 2 if run.model.activation == "swiglu" else 1


def _kept(run: RunConfig) -> float:
    """Numbers per token that the policy of remat keeps of a block, beside its input."""
    _, inner, kv, ff = _widths(run)
    lengths = {"query": inner, "key": kv, "value": kv, "attention": inner, "up": ff, "gate": (_products(run) - 1) * ff}
    return sum(lengths[name] for name in KEPT[run.model.compute.remat_policy])


def _head(run: RunConfig, size: Sizes, platform: str) -> float:
    """Bytes per token at the head, without the gradient of its weights."""
    columns, width = run.model.vocabulary / size.tensor, run.model.width
    chunks = run.model.compute.loss_chunks or losses.default_chunks(int(size.tokens), int(columns))
    if platform == "cpu":
        return 8 * columns / chunks + 4 * 5 * width
    if run.model.compute.loss_chunks == 1:
        return (4 + size.compute_bytes) * columns
    return 8 * columns / chunks + (4 + size.compute_bytes) * width
