"""The optimizer of a run: gradient clipping, then the configured rule, with rates set at run time."""

from typing import Any

import jax
import optax

from jaxlm.optim.adamw import AdamW
from jaxlm.optim.muon import Muon

# The registry: a further optimizer joins this union with its own dataclass and `kind`.
OptimizerConfig = AdamW | Muon


def make_optimizer(
    config: OptimizerConfig, infos: Any, *, clip_norm: float | None
) -> optax.GradientTransformation:
    """Returns `config`'s chain behind clipping by the global gradient norm.

    Args:
      config: the optimizer's configuration.
      infos: the tree of `ParamInfo` of the parameters.
      clip_norm: the largest l2 norm of the whole gradient that passes unscaled; None for no
        clipping.
    """
    clip = optax.identity() if clip_norm is None else optax.clip_by_global_norm(clip_norm)
    return optax.chain(clip, config.build(infos))


def set_rates(opt_state: Any, *, lr: jax.Array, weight_decay: jax.Array) -> Any:
    """Returns `opt_state` with the learning rate and weight decay that the next update uses.

    Both are runtime values of the compiled step, so runs that differ in them share one compilation.
    """
    return optax.tree.set(opt_state, learning_rate=lr, weight_decay=weight_decay)
