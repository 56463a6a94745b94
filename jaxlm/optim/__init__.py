"""Optimizers: the typed configurations that runs name, each building an optax chain."""

from jaxlm.optim.adamw import AdamW
from jaxlm.optim.chain import OptimizerConfig, make_optimizer, set_rates
from jaxlm.optim.muon import Muon

__all__ = ["AdamW", "Muon", "OptimizerConfig", "make_optimizer", "set_rates"]
