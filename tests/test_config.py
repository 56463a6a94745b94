"""Configurations: round trip through dicts, mistakes by name, overrides from text, hashes."""

import dataclasses
import json
import typing
from typing import Any, Literal

import numpy as np
import pytest

from jaxlm import config as configs
from jaxlm.config import ConfigError, config_hash, from_dict, override, to_dict
from jaxlm.data import Bytes, Corpus, DataConfig, Files, HuggingFace, StandardLibrary, Synthetic
from jaxlm.data.config import Source
from jaxlm.data.tokenizer import Tokenizer
from jaxlm.model import ComputeConfig, ModelConfig
from jaxlm.optim import AdamW, OptimizerConfig
from jaxlm.optim import registry as optimizer_registry
from jaxlm.parallel import MeshConfig
from jaxlm.schedules import (
    WSD, WSDS, Constant, Cosine, CosineTail, CyclicCosine, FromArray, HalfLife, Infinite, InverseSqrt, Linear, Power,
    PowerShape, RewarmRedecay, ScheduleConfig, StepDecay,
)
from jaxlm.train import CheckpointConfig, DiagnosticsConfig, EvalConfig, Initial, Parent, RunConfig

UPDATES = 20
MODEL = ModelConfig(vocabulary=16, sequence=8, layers=1, width=8, heads=2)
SYNTHETIC = DataConfig(sources=(Synthetic(vocabulary=16, order=1, tokens=4000),), sequence=8)
BASE = RunConfig(name="base", updates=UPDATES, batch=4, model=MODEL, data=SYNTHETIC)

SCHEDULES = (Constant(peak_lr=0.1, warmup=3), Linear(peak_lr=0.1, final=0.1), Cosine(peak_lr=0.1, warmup=2),
             WSD(peak_lr=0.1, warmup=2, decay=5, shape="linear", final=0.1), FromArray(path="set by the test"),
             WSDS(peak_lr=0.1, ends=(8, UPDATES), decay=(2, 3)), CyclicCosine(peak_lr=0.1, cycles=(8, UPDATES)),
             CyclicCosine(peak_lr=0.1, cycles=2), CosineTail(peak_lr=0.1, tail=3),
             HalfLife(peak_lr=0.1, decay=4, half_life=2.0), Infinite(peak_lr=0.1, cooldown=4, constant=0.5, anneal=3),
             InverseSqrt(peak_lr=0.1, warmup=3, decay=2), Power(peak_lr=0.1, start=4.0, shape=PowerShape(outer=1.5)),
             RewarmRedecay(running=Linear(peak_lr=0.1), start=9, peak_lr=0.05, warmup=2), StepDecay(peak_lr=0.1))
SOURCES = (Corpus(parts=("plays", "bible_asv")), StandardLibrary(), Files(paths=("a.txt", "b.jsonl")), Synthetic())
SCHEDULE_KINDS = ", ".join(repr(cls.kind) for cls in typing.get_args(ScheduleConfig))
TOKENIZERS = (Bytes(), HuggingFace(path="t.json"), HuggingFace(path="t.json", separator="</s>"))


def varied(cls):
    """Returns a configuration none of whose fields is at its default."""
    def other(field, hint):
        if typing.get_origin(hint) is Literal:
            return next(choice for choice in typing.get_args(hint) if choice != field.default)
        if isinstance(field.default, bool):
            return not field.default
        if isinstance(field.default, int):
            return field.default + 1
        tries = (0.25, 0.5, 2.0) if field.default is None else (field.default / 2, field.default * 2, 0.25)
        return next(value for value in tries if value != field.default and field.metadata["rule"].holds(value))

    hints = typing.get_type_hints(cls)
    return cls(**{field.name: other(field, hints[field.name]) for field in dataclasses.fields(cls)})


OPTIMIZERS = tuple(map(varied, optimizer_registry.OPTIMIZERS.values()))

# Every field that has a default holds another value than its default.
FULL = RunConfig(
    name="full-1_b+c.d", seed=7, updates=UPDATES, batch=24, accumulation=3, z_loss=1e-4, clip_norm=None, chunk=5,
    model=ModelConfig(vocabulary=256, sequence=16, layers=2, width=16, heads=4, kv_heads=2, head_size=6, ff=24,
                      norm="layernorm", positions="learned", activation="gelu", tied=True, qk_norm=True, dropout=0.1,
                      compute=ComputeConfig(scan_layers=True, remat=True, dtype="bfloat16", attention="plain",
                                            loss_chunks=4, remat_policy="projections")),
    data=DataConfig(sources=(StandardLibrary(), Files(paths=("a", "b"), format="jsonl", text_field="body")),
                    weights=(0.75, 0.25), tokenizer=HuggingFace(path="t.json", separator="</s>"), sequence=12, seed=3,
                    heldout_fraction=0.2),
    optimizer=AdamW(b1=0.8, b2=0.99, eps=1e-10, weight_decay=0.2),
    schedule=WSD(peak_lr=0.1, warmup=2, decay=5, shape="cosine", final=0.1),
    evaluation=EvalConfig(every=2, sequences=64, sources=(StandardLibrary(),)),
    checkpoint=CheckpointConfig(every=4, latest=3, keep_every=8, best=2, keep=(1, UPDATES)),
    diagnostics=DiagnosticsConfig(every=10, sequences=8),
    mesh=MeshConfig(replica=2, data=2, fsdp=2, tensor=2, sequence=2, overlap="off"),
    parent=Parent(run="trunk-01234567", step=12))


def through_json(config):
    return from_dict(type(config), json.loads(json.dumps(to_dict(config))))


def test_full_run_round_trips():
    assert through_json(FULL) == FULL


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.kind)
def test_every_schedule_round_trips(schedule, tmp_path):
    if isinstance(schedule, FromArray):
        np.save(tmp_path / "schedule.npy", np.full(UPDATES, 0.1))
        schedule = FromArray(path=str(tmp_path))
    config = BASE.replace(schedule=schedule)
    assert through_json(config) == config


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.kind)
def test_every_source_round_trips(source):
    config = BASE.replace(data=DataConfig(sources=(source,), sequence=8))
    assert through_json(config) == config


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=lambda t: t.kind)
def test_every_tokenizer_round_trips(tokenizer):
    config = BASE.replace(data=DataConfig(sources=(StandardLibrary(),), tokenizer=tokenizer, sequence=8))
    assert through_json(config) == config


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: o.kind)
def test_every_optimizer_round_trips(optimizer):
    assert through_json(BASE.replace(optimizer=optimizer)) == BASE.replace(optimizer=optimizer)


@pytest.mark.parametrize(("union", "tested"), [
    (ScheduleConfig, SCHEDULES), (Source, SOURCES), (Tokenizer, TOKENIZERS), (OptimizerConfig, OPTIMIZERS),
], ids=["schedule", "source", "tokenizer", "optimizer"])
def test_no_alternative_is_left_untested(union, tested):
    alternatives = set(typing.get_args(union)) or {union}
    assert {type(config) for config in tested} == alternatives


def test_no_field_of_the_full_run_is_at_its_default():
    # Else a field that is dropped on the way would go unseen in the round trip.
    def defaults(config, path):
        for field in dataclasses.fields(config):
            value, name = getattr(config, field.name), f"{path}{field.name}"
            if dataclasses.is_dataclass(value):
                yield from defaults(value, f"{name}.")
            elif field.default is not dataclasses.MISSING and value == field.default:
                yield name
    initial = FULL.replace(parent=None, initial=Initial(run="first-01234567", step=3, optimizer="keep"))
    assert through_json(initial) == initial
    assert [*defaults(FULL, ""), *defaults(initial, "")] == ["initial", "parent"]  # a run has one of the two


# Mistakes in data.

BAD_DATA = [
    ({"updaets": 3}, "updaets: no such option; did you mean 'updates'?"),
    ({"model": to_dict(MODEL) | {"widht": 8}}, "model.widht: no such option; did you mean 'width'?"),
    ({"optimizer": {"kind": "adamw", "beta2": 0.9}}, "optimizer.beta2: no such option; did you mean 'b2'?"),
    ({"schedule": {"kind": "wsd", "peak_lr": 1.0, "decays": 3}},
     "schedule.decays: no such option; did you mean 'decay'?"),
    ({"mesh": {"zzz": 1}}, "mesh.zzz: no such option; known: data, fsdp, overlap, replica, sequence, tensor"),
    ({"updates": "20"}, "updates = '20': must be of type int, not str"),
    ({"updates": 20.0}, "updates = 20.0: must be of type int, not float"),
    ({"updates": True}, "updates = True: must be of type int, not bool"),
    ({"updates": None}, "updates = None: must be of type int, not NoneType"),
    ({"z_loss": False}, "z_loss = False: must be of type float, not bool"),
    ({"clip_norm": "1"}, "clip_norm = '1': must be of type float, not str"),
    ({"name": 3}, "name = 3: must be of type str, not int"),
    ({"checkpoint": {"keep": 3}}, "checkpoint.keep = 3: must be a list"),
    ({"checkpoint": {"keep": [3, 1.5]}}, "checkpoint.keep[1] = 1.5: must be of type int, not float"),
    ({"mesh": 8}, "mesh = 8: must be a table of fields"),
    ({"model": to_dict(MODEL) | {"norm": "batchnorm"}},
     "model.norm = 'batchnorm': must be one of 'rmsnorm', 'layernorm'"),
    ({"schedule": {"kind": "zzz"}},
     "schedule.kind = 'zzz': must be one of " + SCHEDULE_KINDS),
    ({"schedule": {"peak_lr": 1.0}},
     "schedule.kind = None: must be one of " + SCHEDULE_KINDS),
    ({"schedule": {"kind": "wsds"}},
     "schedule.kind = 'wsds': must be one of " + SCHEDULE_KINDS + "; did you mean 'wsd_s'?"),
    ({"optimizer": {"kind": "adamm"}}, "optimizer.kind = 'adamm': must be one of " + ", ".join(map(repr, optimizer_registry.OPTIMIZERS))
     + "; did you mean 'adamw'?"),
    ({"parent": {"run": "trunk"}}, "parent.step = None: must be given"),
    ({"data": {"sources": [{"kind": "synthetic", "order": "two"}], "sequence": 8}},
     "data.sources[0].order = 'two': must be of type int, not str"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_DATA, ids=[message.split(":")[0] for _, message in BAD_DATA])
def test_mistake_in_data_is_named(changes, message):
    with pytest.raises(ConfigError) as error:
        from_dict(RunConfig, to_dict(BASE) | changes)
    assert str(error.value) == message


def test_missing_fields_are_named_together():
    with pytest.raises(ConfigError, match="^updates, batch, model, data = None: must be given$"):
        from_dict(RunConfig, {"name": "x"})


def test_a_whole_number_serves_as_a_float():
    config = from_dict(RunConfig, to_dict(BASE) | {"clip_norm": 2})
    assert type(config.clip_norm) is float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """One field of each kind of hint that a run does not have in this form."""

    level: Literal[1, 2, "auto"] = 1
    note: str | None = None
    anything: Any = None


@pytest.mark.parametrize("value", [1, 2, "auto"])
def test_literal_takes_each_of_its_values(value):
    assert from_dict(Choice, {"level": value}).level == value


def test_literal_refuses_any_other():
    with pytest.raises(ConfigError, match="^level = 3: must be one of 1, 2, 'auto'$"):
        from_dict(Choice, {"level": 3})


def test_null_is_taken_where_the_hint_allows_it():
    assert from_dict(Choice, {"note": None, "anything": None}) == Choice()


# Overrides.

@pytest.mark.parametrize(("dotted", "text", "value"), [
    ("updates", "30", 30), ("z_loss", "1e-4", 1e-4), ("z_loss", "1", 1.0), ("name", "other", "other"),
    ("name", '"7"', "7"), ("clip_norm", "null", None), ("model.width", "16", 16), ("model.tied", "true", True),
    ("model.norm", "layernorm", "layernorm"), ("model.compute.dtype", "bfloat16", "bfloat16"),
    ("checkpoint.keep", "[3, 5]", (3, 5)), ("schedule.peak_lr", "0.5", 0.5),
    ("schedule", '{"kind": "wsd", "peak_lr": 1, "decay": 4}', WSD(peak_lr=1.0, decay=4)),
    ("parent", '{"run": "trunk", "step": 3}', Parent(run="trunk", step=3)),
])
def test_override_from_text(dotted, text, value):
    found = override(BASE, {dotted: text})
    for name in dotted.split("."):
        found = getattr(found, name)
    assert found == value and type(found) is type(value)


def test_overrides_are_taken_together_and_change_nothing_else():
    changed = override(BASE, {"updates": "4", "schedule.warmup": "4"})
    assert changed == BASE.replace(updates=4, schedule=Constant(peak_lr=1e-3, warmup=4))


@pytest.mark.parametrize(("dotted", "text", "message"), [
    ("model.widht", "8", "model.widht: no such option; did you mean 'width'?"),
    ("modle.width", "8", "modle: no such option; did you mean 'model'?"),
    ("seed.low", "8", "seed.low: seed has no fields"),
    ("parent.run", "x", "parent.run: parent has no fields"),
    ("updates", "many", "updates = 'many': must be of type int, not str"),
    ("updates", "1e3", "updates = 1000.0: must be of type int, not float"),
    ("model.tied", "yes", "model.tied = 'yes': must be of type bool, not str"),
])
def test_mistake_in_an_override_is_named(dotted, text, message):
    with pytest.raises(ConfigError) as error:
        override(BASE, {dotted: text})
    assert str(error.value) == message


# Hashes.

def test_hash_is_stable():
    # Fixed: a change of this value moves every run that people have on disk.
    assert config_hash(Choice(level="auto", note="x")) == "58b134ce"


def test_hash_survives_the_round_trip():
    assert config_hash(through_json(FULL)) == config_hash(FULL)


def test_equal_configurations_have_one_hash():
    # A study may write clip_norm=1; a worker reads its configuration back from JSON as 1.0.
    whole, fractional = BASE.replace(clip_norm=1), BASE.replace(clip_norm=1.0)
    assert whole == fractional and config_hash(whole) == config_hash(fractional)


@pytest.mark.parametrize(("dotted", "text"), [
    ("seed", "1"), ("updates", "21"), ("chunk", "8"), ("model.dropout", "0.1"), ("data.seed", "1"),
    ("optimizer.weight_decay", "0.2"), ("schedule.peak_lr", "0.002"),
    ("schedule", '{"kind": "linear", "peak_lr": 1e-3}'),
    ("mesh.data", "2"), ("evaluation.every", "1"), ("checkpoint.latest", "1"), ("clip_norm", "null"),
    ("parent", '{"run": "trunk", "step": 3}'),
])
def test_hash_changes_with_every_field(dotted, text):
    assert config_hash(override(BASE, {dotted: text})) != config_hash(BASE)


def test_folder_is_the_name_with_the_hash():
    assert BASE.folder == f"base-{config_hash(BASE.identity)}"


def test_the_mesh_is_no_part_of_a_run():
    assert BASE.folder == override(BASE, {"mesh.data": "2"}).folder
    assert BASE.folder != override(BASE, {"chunk": "8"}).folder


def test_nearest_lists_what_is_known_where_nothing_is_near():
    assert configs.nearest("zzz", ["beta", "alpha"]) == "; known: alpha, beta"


# Another kind.

def test_another_kind_starts_from_its_own_defaults():
    changed = override(BASE, {"optimizer.rank": "3", "optimizer.kind": "galore"}).optimizer
    assert changed == optimizer_registry.OPTIMIZERS["galore"](rank=3)


def test_another_kind_keeps_what_was_set_and_both_have():
    base = BASE.replace(optimizer=AdamW(b1=0.7, eps=1e-3, weight_decay=0.1))
    assert override(base, {"optimizer.kind": "lion"}).optimizer == optimizer_registry.OPTIMIZERS["lion"](b1=0.7)
    schedule = override(BASE.replace(schedule=WSD(peak_lr=0.3, warmup=4, decay=5)), {"schedule.kind": "cosine"}).schedule
    assert schedule == Cosine(peak_lr=0.3, warmup=4)


def test_a_field_of_another_kind_is_named():
    with pytest.raises(ConfigError, match="optimizer.rnk: no such option; did you mean 'rank'"):
        override(BASE, {"optimizer.kind": "galore", "optimizer.rnk": "3"})
