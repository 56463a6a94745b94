import dataclasses

import pytest

from jaxlm import config as jaxlm_config
from jaxlm.config import ConfigError
from jaxlm.model import ComputeConfig, ModelConfig

SMALL = {"vocabulary": 32, "sequence": 8, "layers": 2, "width": 16, "heads": 4}


def test_dict_round_trip():
    config = ModelConfig(**SMALL, kv_heads=2, dropout=0.1, compute=ComputeConfig(remat=True))
    assert jaxlm_config.from_dict(ModelConfig, jaxlm_config.to_dict(config)) == config


def test_derived_widths_follow_the_heads():
    config = ModelConfig(**SMALL, kv_heads=2, head_size=6)
    assert (config.kv_groups, config.size_per_head, config.query_width, config.kv_width) == (2, 6, 24, 12)


@pytest.mark.parametrize(("activation", "width", "expected"),
                         [("gelu", 16, 64), ("swiglu", 48, 128), ("swiglu", 16, 48), ("swiglu", 64, 176)])
def test_default_feed_forward_width(activation, width, expected):
    # 8/3 * 16 = 42.7 and 8/3 * 64 = 170.7 are rounded up to multiples of 8.
    config = ModelConfig(**{**SMALL, "width": width}, activation=activation)
    assert config.ff_width == expected


@pytest.mark.parametrize(("changes", "words"), [
    ({"width": 18}, ["model.width = 18", "divisible by heads = 4"]),
    ({"kv_heads": 3}, ["model.heads = 4", "divisible by kv_heads = 3"]),
    ({"head_size": 5}, ["model.head_size = 5", "even"]),
    ({"dropout": 1.0}, ["model.dropout = 1.0", "[0, 1)"]),
    ({"dropout": -0.1}, ["model.dropout = -0.1", "[0, 1)"]),
    ({"layers": 0}, ["model.layers = 0", "at least 1"]),
    ({"ff": 2.5}, ["model.ff = 2.5", "whole number"]),
    ({"norm": "batchnorm"}, ["model.norm = 'batchnorm'", "'rmsnorm', 'layernorm'"]),
    ({"tied": 1}, ["model.tied = 1", "true or false"]),
    ({"compute": None}, ["model.compute = None", "ComputeConfig"]),
    ({"dropout": 0.1, "compute": ComputeConfig(attention="blocked")},
     ["model.compute.attention = 'blocked'", "'auto' or 'plain' with dropout = 0.1"]),
])
def test_mistake_is_named_with_field_value_and_rule(changes, words):
    with pytest.raises(ConfigError) as error:
        ModelConfig(**(SMALL | changes))
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)


def test_odd_head_size_is_fine_with_learned_positions():
    assert ModelConfig(**SMALL, head_size=5, positions="learned").query_width == 20


def test_unknown_compute_choices_are_refused():
    with pytest.raises(ConfigError, match="model.compute.dtype = 'float16'"):
        ComputeConfig(dtype="float16")
    with pytest.raises(ConfigError, match="model.compute.attention = 'flash': must be one of 'auto', 'plain'"):
        ComputeConfig(attention="flash")
    with pytest.raises(ConfigError, match="model.compute.remat_policy = 'dots': must be one of 'block', 'attention'"):
        ComputeConfig(remat=True, remat_policy="dots")
    with pytest.raises(ConfigError, match="model.compute.remat_policy = 'attention': must be 'block'.* remat = False"):
        ComputeConfig(remat_policy="attention")


def test_loss_chunks_are_counted_from_one():
    with pytest.raises(ConfigError, match="model.compute.loss_chunks = 0: must be a whole number of at least 1"):
        ComputeConfig(loss_chunks=0)


def test_every_option_is_a_deliberate_act():
    # A new option is a new promise to test and document: extend this list when adding one.
    assert [f.name for f in dataclasses.fields(ModelConfig)] == [
        "vocabulary", "sequence", "layers", "width", "heads", "kv_heads", "head_size", "ff", "norm",
        "positions", "activation", "tied", "qk_norm", "dropout", "compute"]
    assert [f.name for f in dataclasses.fields(ComputeConfig)] == [
        "scan_layers", "remat", "dtype", "attention", "loss_chunks", "remat_policy"]
