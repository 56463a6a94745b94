import dataclasses
import functools

import jax
import numpy as np
import pytest

from jaxlm.model import ModelConfig, init, param_infos, parameter
from jaxlm.params import ParamInfo

SMALL = ModelConfig(vocabulary=32, sequence=8, layers=3, width=16, heads=4, kv_heads=2, ff=24, qk_norm=True)
LEARNED = dataclasses.replace(SMALL, norm="layernorm", positions="learned", activation="gelu", tied=True)


@pytest.mark.parametrize("config", [SMALL, LEARNED], ids=["rope", "learned"])
def test_parameters_have_the_structure_and_shapes_of_the_infos(config):
    params = jax.eval_shape(lambda: init(config, 0))
    infos = param_infos(config)
    assert jax.tree.structure(params) == jax.tree.structure(infos)
    assert jax.tree.map(lambda leaf: leaf.shape, params) == jax.tree.map(lambda info: info.shape, infos)


def test_parameters_are_a_plain_nested_dict_of_float32():
    def check(node):
        assert type(node) is dict and all(type(name) is str for name in node)
        for child in node.values():
            check(child) if isinstance(child, dict) else None

    params = jax.eval_shape(lambda: init(SMALL, 0))
    check(params)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"float32"}


def test_infos_describe_each_axis():
    infos = param_infos(SMALL)
    attention, ff = infos["blocks"]["attention"], infos["blocks"]["feed_forward"]
    assert attention["query"] == ParamInfo(
        shape=(3, 16, 16), axes=("layers", "width", "heads"), kind="matrix", stack_axes=1, fan_in=16)
    assert attention["key"] == ParamInfo(
        shape=(3, 16, 8), axes=("layers", "width", "kv"), kind="matrix", stack_axes=1, fan_in=16)
    assert attention["output"].axes == ("layers", "heads", "width")
    assert attention["query_norm"]["scale"].axes == ("layers", None)
    assert ff["down"] == ParamInfo(
        shape=(3, 24, 16), axes=("layers", "ff", "width"), kind="matrix", stack_axes=1, fan_in=24)
    assert infos["head"]["kernel"] == ParamInfo(
        shape=(16, 32), axes=("width", "vocab"), kind="head", fan_in=16)
    assert infos["embedding"]["tokens"] == ParamInfo(
        shape=(32, 16), axes=("vocab", "width"), kind="embedding")
    assert infos["final_norm"]["scale"] == ParamInfo(shape=(16,), axes=("width",), kind="vector")
    assert param_infos(LEARNED)["embedding"]["positions"].axes == ("time", "width")


def test_multipliers_are_ratios_to_the_base_model():
    base = dataclasses.replace(SMALL, width=8, layers=2)
    leaves = jax.tree.leaves(param_infos(SMALL, base=base))
    assert {(info.width_multiplier, info.depth_multiplier) for info in leaves} == {(2.0, 1.5)}


# One set of shapes for the tests that draw numbers, so that each is compiled once.
DRAWN = ModelConfig(vocabulary=512, sequence=8, layers=8, width=64, heads=4, ff=128)


@functools.cache
def drawn(seed):
    return init(DRAWN, seed)


def test_another_seed_gives_other_parameters():
    assert not np.array_equal(drawn(7)["embedding"]["tokens"], drawn(8)["embedding"]["tokens"])


def test_a_key_gives_the_parameters_of_its_seed():
    by_key = init(DRAWN, jax.random.key(7, impl="threefry2x32"))
    jax.tree.map(np.testing.assert_array_equal, drawn(7), by_key)


def test_a_matrix_has_the_same_bits_under_jit():
    # A deviation that is no power of two: merged with another factor it rounds differently.
    def make(key):
        return parameter.matrix(key, (64, 64), ("width", "heads"), layers=8, gain=0.3)[...]

    key = jax.random.key(0)
    np.testing.assert_array_equal(make(key), jax.jit(make)(key))


def test_an_option_leaves_the_start_of_other_parameters_alone():
    config = dataclasses.replace(DRAWN, qk_norm=True, tied=True, norm="layernorm", activation="gelu")
    changed = init(config, 7)
    for branch, name in (("attention", "output"), ("feed_forward", "down")):
        np.testing.assert_array_equal(drawn(7)["blocks"][branch][name], changed["blocks"][branch][name])


def test_initial_standard_deviations():
    params = drawn(7)
    blocks = params["blocks"]
    expected = {
        "tokens": (params["embedding"]["tokens"], 64**-0.5),
        "head": (params["head"]["kernel"], 64**-0.5),
        "query": (blocks["attention"]["query"], 64**-0.5),
        "output": (blocks["attention"]["output"], 64**-0.5 / 4),
        "gate": (blocks["feed_forward"]["gate"], 64**-0.5),
        "down": (blocks["feed_forward"]["down"], 128**-0.5 / 4),
    }
    for name, (array, deviation) in expected.items():
        # 32768 or more entries: the sample deviation has a relative error of 0.4 %; 5 of them.
        np.testing.assert_allclose(np.std(array), deviation, rtol=0.02, err_msg=name)


def test_layers_start_differently():
    query = drawn(7)["blocks"]["attention"]["query"]
    assert not np.array_equal(query[0], query[1])
