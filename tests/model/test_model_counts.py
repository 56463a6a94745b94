import itertools

import jax
import pytest

from jaxlm.model import ModelConfig, flops_per_token, init, param_infos, parameter_counts
from jaxlm.params import total_count

STANDARD = ModelConfig(vocabulary=4096, sequence=256, layers=4, width=256, heads=4, ff=1024,
                       norm="layernorm", positions="learned", activation="gelu", tied=True)

VARIANTS = [
    ModelConfig(vocabulary=40, sequence=6, layers=layers, width=16, heads=4, kv_heads=kv_heads,
                head_size=head_size, positions=positions, activation=activation, tied=tied, qk_norm=qk_norm)
    for layers, kv_heads, head_size, positions, activation, tied, qk_norm in itertools.product(
        (1, 3), (None, 1), (None, 6), ("rope", "learned"), ("swiglu", "gelu"), (False, True), (False, True))
]


def part_sizes(config: ModelConfig) -> dict[str, int]:
    """Counts the arrays of the tree by part, from their paths."""
    sizes = dict.fromkeys(("embedding", "positions", "attention", "feed_forward", "norms", "head"), 0)
    for path, info in jax.tree_util.tree_leaves_with_path(param_infos(config)):
        names = [entry.key for entry in path]
        part = ("norms" if names[-1] == "scale" else "positions" if names[-1] == "positions"
                else names[1] if names[0] == "blocks" else names[0])
        sizes[part] += info.size
    return sizes


def test_closed_forms_equal_the_tree_part_by_part():
    for config in VARIANTS:
        counts = parameter_counts(config)
        assert {part: getattr(counts, part) for part in part_sizes(config)} == part_sizes(config), config
        assert counts.total == total_count(param_infos(config)), config


def test_total_equals_the_arrays_themselves():
    params = jax.eval_shape(lambda: init(STANDARD, 0))
    assert parameter_counts(STANDARD).total == sum(leaf.size for leaf in jax.tree.leaves(params))


def test_totals_of_the_standard_model():
    counts = parameter_counts(STANDARD)
    # Per block 4 D^2 + 2 D F + 2 D; 4 blocks and the final norm.
    assert counts.non_embedding == 4 * (4 * 256**2 + 2 * 256 * 1024 + 2 * 256) + 256
    assert counts.with_head == counts.non_embedding + 4096 * 256
    assert counts.total == counts.with_head + 256 * 256  # tied: the table is the head


def test_untied_head_is_counted_once_in_with_head():
    config = ModelConfig(vocabulary=40, sequence=6, layers=1, width=16, heads=4)
    counts = parameter_counts(config)
    assert counts.with_head == counts.total - 40 * 16


def test_flops_of_the_standard_model():
    flops = flops_per_token(STANDARD)
    assert flops == {"attention": 9437184, "feed_forward": 12582912, "head": 6291456, "embedding": 0}
    assert sum(flops.values()) / 1e6 == pytest.approx(28.31, abs=0.005)  # two decimals, as stated


def test_flops_follow_6n_plus_scores():
    # 6 per matrix parameter and 12 T per query channel and layer (full attention).
    config = ModelConfig(vocabulary=40, sequence=6, layers=3, width=16, heads=4, kv_heads=2, head_size=6)
    counts = parameter_counts(config)
    matrices = counts.attention + counts.feed_forward + counts.head
    assert sum(flops_per_token(config, 100).values()) == 6 * matrices + 12 * 100 * 24 * 3
