"""Decoder-only transformers: configuration, pure functions over parameters, closed-form counts."""

from typing import TYPE_CHECKING, Any

from jaxlm.model.config import ComputeConfig, ModelConfig
from jaxlm.model.counts import ParameterCounts, flops_per_token, parameter_counts

if TYPE_CHECKING:
    from jaxlm.model.functional import Probe, apply, hidden, init, param_infos, probe, unembed, unembedding

__all__ = [
    "ComputeConfig",
    "ModelConfig",
    "ParameterCounts",
    "Probe",
    "apply",
    "flops_per_token",
    "hidden",
    "init",
    "param_infos",
    "parameter_counts",
    "probe",
    "unembed",
    "unembedding",
]


def __getattr__(name: str) -> Any:
    """Imports what runs a model when it is asked for: Flax takes longer to import than a study to be read."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from jaxlm.model import functional

    return getattr(functional, name)
