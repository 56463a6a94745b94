import jax
import pytest

from jaxlm.config import ConfigError
from jaxlm.params import ParamInfo, decay_mask, labels, total_count

INFOS = {
    "table": ParamInfo(shape=(8, 4), axes=("vocab", "width"), kind="embedding"),
    "block": {
        "kernel": ParamInfo(shape=(2, 4, 4), axes=("layers", "width", "ff"), kind="matrix", stack_axes=1),
        "scale": ParamInfo(shape=(2, 4), axes=("layers", "width"), kind="vector", stack_axes=1),
    },
    "head": ParamInfo(shape=(4, 8), axes=("width", "vocab"), kind="head"),
}


def test_labels_are_kinds():
    expected = {"table": "embedding", "block": {"kernel": "matrix", "scale": "vector"}, "head": "head"}
    assert labels(INFOS) == expected


def test_everything_but_vectors_decays():
    assert decay_mask(INFOS) == {"table": True, "block": {"kernel": True, "scale": False}, "head": True}


def test_decayed_kinds_may_be_chosen():
    mask = decay_mask(INFOS, kinds=("matrix", "head"))
    assert mask == {"table": False, "block": {"kernel": True, "scale": False}, "head": True}


def test_vectors_never_decay():
    with pytest.raises(ConfigError, match="kinds = .*'vector'"):
        decay_mask(INFOS, kinds=("matrix", "vector"))


def test_total_count_adds_all_arrays():
    assert total_count(INFOS) == 32 + 32 + 8 + 32


def test_infos_are_leaves():
    assert len(jax.tree.leaves(INFOS)) == 4
