"""The device mesh and the rules that place parameters, optimizer state, batches and activations on it."""

from jaxlm.parallel.compiler import quick_options, step_options
from jaxlm.parallel.mesh import ACTIVATIONS, AXES, RULES, MeshConfig, batch_spec, make_mesh

__all__ = ["ACTIVATIONS", "AXES", "RULES", "MeshConfig", "batch_spec", "make_mesh", "quick_options", "step_options"]
