"""The device mesh and the rules that place parameters, optimizer state and batches on it."""

from jaxlm.parallel.mesh import RULES, MeshConfig, batch_spec, make_mesh

__all__ = ["RULES", "MeshConfig", "batch_spec", "make_mesh"]
