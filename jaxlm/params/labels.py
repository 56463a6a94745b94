"""Labels, decay masks and totals, read off the tree of `ParamInfo`."""

from collections.abc import Collection
from typing import Any, get_args

import jax

from jaxlm.config import require
from jaxlm.params.info import Kind, ParamInfo

# GPT-3 decays all weights by 0.1 (Brown et al. 2020, arXiv 2005.14165, appendix B). Gains and
# biases never decay (He et al. 2019, arXiv 1812.01187, section 3.1).
DECAYED: tuple[Kind, ...] = ("embedding", "matrix", "head")


def labels(infos: Any) -> Any:
    """Returns the tree of kinds, such as `optax.partition` takes: "embedding", "matrix", "vector", "head"."""
    return jax.tree.map(lambda info: info.kind, infos)


def decay_mask(infos: Any, kinds: Collection[Kind] = DECAYED) -> Any:
    """Returns the tree of booleans that is True where weight decay applies.

    Args:
      infos: the tree of `ParamInfo`.
      kinds: the kinds that decay; leave "embedding" out to follow OLMo 2 (arXiv 2501.00656), which
        exempts the embeddings. Raises `ConfigError` if "vector" is among them: those never decay.
    """
    decayed = tuple(kinds)
    allowed = tuple(kind for kind in get_args(Kind) if kind != "vector")
    require(set(decayed) <= set(allowed), "kinds", decayed, f"must be among {', '.join(map(repr, allowed))}")
    return jax.tree.map(lambda info: info.kind in decayed, infos)


def total_count(infos: Any) -> int:
    """Returns the number of scalars in all arrays."""
    leaves: list[ParamInfo] = jax.tree.leaves(infos)
    return sum(info.size for info in leaves)
