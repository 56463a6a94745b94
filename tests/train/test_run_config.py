"""The rules of a run's configuration, and the frozen list of its options."""

import dataclasses
import math
import typing
from collections.abc import Iterator
from typing import Any

import pytest
from tiny_run import MODEL, RUN

from jaxlm.config import ConfigError, to_dict
from jaxlm.model import ComputeConfig, ModelConfig
from jaxlm.optim import AdamW
from jaxlm.parallel import MeshConfig
from jaxlm.schedules import WSD, Constant
from jaxlm.train import CheckpointConfig, EvalConfig, Initial, Parent, RunConfig

UPDATES = 20
BASE = RunConfig(name="base", updates=UPDATES, batch=4, model=MODEL, data=RUN.data)

# The rules of a run.

def rules() -> Iterator[tuple[dict[str, Any], str, Any, str]]:
    """(changes to BASE, field, value, words of the rule)."""
    for name in ("", ".hidden", "a/b", "a b", "a\nb"):
        yield {"name": name}, "name", name, "must be letters, digits"
    yield {"seed": -1}, "seed", -1, "must lie in [0, 2^32)"
    yield {"seed": 2**32}, "seed", 2**32, "must lie in [0, 2^32)"
    for name in ("updates", "batch", "accumulation", "chunk"):
        yield {name: 0}, name, 0, "must be at least 1"
    yield {"z_loss": -1e-4}, "z_loss", -1e-4, "must not be negative"
    yield {"z_loss": math.nan}, "z_loss", math.nan, "must not be negative"
    yield {"clip_norm": 0.0}, "clip_norm", 0.0, "must be positive, or null"
    yield {"accumulation": 3}, "batch", 4, "must be divisible by accumulation = 3"
    yield {"mesh": MeshConfig(data=3)}, "batch", 4, "divisible by mesh.replica * mesh.data * mesh.fsdp = 3"
    yield ({"accumulation": 2, "mesh": MeshConfig(data=2, fsdp=2)}, "batch", 4,
           "each of the 2 micro-batches must be divisible by mesh.replica * mesh.data * mesh.fsdp = 4")
    yield ({"mesh": MeshConfig(fsdp=4), "evaluation": EvalConfig(sequences=6)}, "evaluation.sequences", 6,
           "must be divisible by mesh.replica * mesh.data * mesh.fsdp = 4")
    yield {"mesh": MeshConfig(sequence=3)}, "data.sequence", 8, "must be divisible by mesh.sequence = 3"
    yield {"model": dataclasses.replace(MODEL, sequence=7)}, "data.sequence", 8, "must not exceed model.sequence = 7"
    for keep in ((0,), (3, UPDATES + 1)):
        yield ({"checkpoint": CheckpointConfig(keep=keep)}, "checkpoint.keep", keep,
               f"each step must lie in 1..updates = {UPDATES}")
    yield {"parent": Parent(run="trunk", step=UPDATES)}, "parent.step", UPDATES, f"must be below updates = {UPDATES}"
    initial = Initial(run="first", step=1)
    yield ({"parent": Parent(run="trunk", step=1), "initial": initial}, "initial", initial,
           "must be null for a run with a parent")
    longer = f"must not be longer than the run, updates = {UPDATES}"
    yield {"schedule": WSD(peak_lr=1.0, decay=21)}, "decay", 21, longer
    yield {"schedule": Constant(peak_lr=1.0, warmup=21)}, "warmup", 21, longer
    yield {"schedule": WSD(peak_lr=1.0, warmup=11, decay=10)}, "warmup + decay", 21, longer


@pytest.mark.parametrize(("changes", "field", "value", "rule"), list(rules()))
def test_rule_of_a_run(changes, field, value, rule):
    with pytest.raises(ConfigError) as error:
        BASE.replace(**changes)
    message = str(error.value)
    assert message.startswith(f"{field} = {value!r}: ") and rule in message and "\n" not in message


@pytest.mark.parametrize(("cls", "fields", "field", "rule"), [
    (ModelConfig, to_dict(MODEL) | {"width": 9, "compute": ComputeConfig()}, "model.width", "divisible by heads = 2"),
    (Parent, {"run": "trunk", "step": 0}, "parent.step", "must be at least 1"),
    (Initial, {"run": "first", "step": 0}, "initial.step", "must be at least 1"),
    (Initial, {"run": "first", "step": 1, "optimizer": "half"}, "initial.optimizer", "must be 'reset' or 'keep'"),
    (EvalConfig, {"sources": 2 * RUN.data.sources[:1]}, "evaluation.sources", "must not repeat a source"),
    (EvalConfig, {"every": -1}, "evaluation.every", "must not be negative"),
    (EvalConfig, {"sequences": 0}, "evaluation.sequences", "must be at least 1"),
    (CheckpointConfig, {"every": -1}, "checkpoint.every", "must not be negative"),
    (CheckpointConfig, {"latest": 0}, "checkpoint.latest", "must be at least 1"),
    (MeshConfig, {"tensor": 0}, "mesh.tensor", "must be at least 1"),
    (AdamW, {"b1": 1.0}, "optimizer.b1", "must lie in [0, 1)"),
    (AdamW, {"b2": -0.1}, "optimizer.b2", "must lie in [0, 1)"),
    (AdamW, {"eps": 0.0}, "optimizer.eps", "must be positive"),
    (AdamW, {"weight_decay": -0.1}, "optimizer.weight_decay", "must not be negative"),
    (AdamW, {"weight_decay": math.nan}, "optimizer.weight_decay", "must not be negative"),
])
def test_rule_of_a_part(cls, fields, field, rule):
    with pytest.raises(ConfigError) as error:
        cls(**fields)
    value = fields[field.rpartition(".")[2]]
    assert str(error.value).startswith(f"{field} = {value!r}: ") and rule in str(error.value)


def test_boundaries_are_allowed():
    edge = BASE.replace(seed=2**32 - 1, schedule=WSD(peak_lr=1.0, warmup=10, decay=10), accumulation=4, batch=4,
                        parent=Parent(run="trunk", step=UPDATES - 1), checkpoint=CheckpointConfig(keep=(1, UPDATES)),
                        mesh=MeshConfig(tensor=8))
    assert (edge.microbatch, edge.tokens_per_update) == (1, 32)


@pytest.mark.parametrize(("name", "value"), [("loss_chunks", 1), ("attention", "plain"), ("remat_policy", "attention")])
def test_what_came_later_is_named_only_where_it_was_chosen(name, value):
    remat = BASE.replace(model=dataclasses.replace(MODEL, compute=ComputeConfig(remat=True)))
    chosen = BASE.replace(model=dataclasses.replace(MODEL, compute=ComputeConfig(remat=True, **{name: value})))
    assert name not in remat.identity["model"]["compute"]
    assert chosen.identity["model"]["compute"][name] == value and chosen.folder != remat.folder


# Every option of a run, alternatives by their kind. A new option is a new promise to test and to
# document: extend this list when adding one.
OPTIONS = """
name seed updates batch accumulation z_loss clip_norm chunk
model.vocabulary model.sequence model.layers model.width model.heads model.kv_heads model.head_size model.ff
model.norm model.positions model.activation model.tied model.qk_norm model.dropout
model.compute.scan_layers model.compute.remat model.compute.dtype model.compute.attention model.compute.loss_chunks
model.compute.remat_policy
data.sources.corpus.parts data.sources.standard_library
data.sources.files.paths data.sources.files.format data.sources.files.text_field
data.sources.synthetic.vocabulary data.sources.synthetic.order data.sources.synthetic.sharpness
data.sources.synthetic.seed data.sources.synthetic.tokens
data.weights data.tokenizer.bytes data.tokenizer.huggingface.path data.tokenizer.huggingface.separator
data.sequence data.seed data.heldout_fraction
evaluation.every evaluation.sequences
evaluation.sources.corpus.parts evaluation.sources.standard_library
evaluation.sources.files.paths evaluation.sources.files.format evaluation.sources.files.text_field
evaluation.sources.synthetic.vocabulary evaluation.sources.synthetic.order evaluation.sources.synthetic.sharpness
evaluation.sources.synthetic.seed evaluation.sources.synthetic.tokens
checkpoint.every checkpoint.latest checkpoint.keep
checkpoint.keep_every checkpoint.best diagnostics.every diagnostics.sequences
mesh.replica mesh.data mesh.fsdp mesh.tensor mesh.sequence mesh.overlap parent.run parent.step initial.run initial.step initial.optimizer
""".split()

# The same for each schedule and each optimizer.
SCHEDULE_OPTIONS = """
constant: peak_lr warmup
linear: peak_lr warmup final
cosine: peak_lr warmup final
wsd: peak_lr warmup decay final shape.inverse_sqrt.timescale shape.power.inner shape.power.outer
array: path
cosine_tail: final peak_lr tail warmup
cyclic_cosine: cycles final peak_lr peaks rewarmup warmup
half_life: decay half_life peak_lr warmup
infinite: anneal constant cooldown final peak_lr shape.inverse_sqrt.timescale shape.power.inner
shape.power.outer warmup
inverse_sqrt: decay final floor peak_lr shape.inverse_sqrt.timescale shape.power.inner shape.power.outer start
timescale warmup
power: decay exponent final peak_lr shape.inverse_sqrt.timescale shape.power.inner shape.power.outer start
warmup
rewarm_redecay: decay final peak_lr running shape.inverse_sqrt.timescale shape.power.inner shape.power.outer
start warmup
step_decay: at factor peak_lr warmup
wsd_s: decay ends final peak_lr peaks rewarmup shape.inverse_sqrt.timescale shape.power.inner
shape.power.outer warmup
"""
OPTIMIZER_OPTIONS = """
adafactor: decay_rate clip scale_parameter momentum weight_decay
adamw: b1 b2 eps weight_decay
apollo: rank scale scaling refresh seed b1 b2 eps weight_decay
apollo_mini: scale refresh seed b1 b2 eps weight_decay
cosmos: b1 b2 eps rank gamma lr_ratio momentum weight_decay
dct_adamw: rank refresh rotate error_feedback norm b1 b2 eps weight_decay
dion: rank mu scale qr rest_scale b1 b2 weight_decay
fira: rank alpha refresh threshold b1 b2 eps weight_decay
frugal: density projection refresh state_free inactive_scale inner b1 b2 eps weight_decay
galore: rank scale refresh b1 b2 eps stagger weight_decay
lion: b1 b2 weight_decay
mars: form b1 b2 eps gamma weight_decay
muon: beta ns_steps coefficients ns_dtype scale rest_scale b1 b2 weight_decay
natural_galore: rank scale refresh history damping b1 b2 eps weight_decay
schedule_free: b1 b2 eps r lr_power weight_decay
sgd: momentum nesterov normalize weight_decay
soap: b1 b2 eps refresh sides max_precond_dim weight_decay
spam: threshold every warmup wait density b1 b2 eps weight_decay
trion: rank mu ns_steps scale rest_scale b1 b2 weight_decay
"""


def options_by_kind(field: str, table: str) -> Iterator[str]:
    """Yields the dotted names of a table of kinds and their options."""
    for word in table.split():
        if word.endswith(":"):
            kind = word[:-1]
        else:
            yield f"{field}.{kind}.{word}"


def options(hint: Any, name: str, above: tuple[Any, ...] = ()) -> Iterator[str]:
    """Yields the dotted names of all leaves below a type hint; one that nests itself is a leaf there."""
    alternatives = [hint, *typing.get_args(hint)]
    classes = [cls for cls in alternatives if dataclasses.is_dataclass(cls)]
    if typing.get_origin(hint) is tuple:
        yield from options(typing.get_args(hint)[0], name, above)
    elif not classes or hint in above:
        yield name
    for cls in classes if hint not in above else ():
        inner, hints = f"{name}.{cls.kind}" if hasattr(cls, "kind") else name, typing.get_type_hints(cls)
        if not dataclasses.fields(cls):
            yield inner
        for field in dataclasses.fields(cls):
            yield from options(hints[field.name], f"{inner}.{field.name}" if inner else field.name, (*above, hint))


def test_every_option_is_a_deliberate_act():
    assert sorted(options(RunConfig, "")) == sorted(
        [*OPTIONS, *options_by_kind("schedule", SCHEDULE_OPTIONS), *options_by_kind("optimizer", OPTIMIZER_OPTIONS)])
