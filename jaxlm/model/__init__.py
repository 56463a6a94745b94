"""Decoder-only transformers: configuration, pure functions over parameters, closed-form counts."""

from jaxlm.model.config import ComputeConfig, ModelConfig
from jaxlm.model.counts import ParameterCounts, flops_per_token, parameter_counts
from jaxlm.model.functional import apply, hidden, init, param_infos, probe, unembed
from jaxlm.model.layer_statistics import Probe

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
]
