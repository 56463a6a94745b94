"""A (data, fsdp, tensor) mesh and the mapping from logical to mesh axes.

Mesh axes: "data" holds copies of the model and splits the batch; "fsdp" splits the batch and the
parameters; "tensor" splits the inner axis of each pair of matrices.
"""

import dataclasses
import math
from collections.abc import Mapping

import jax
from jax.sharding import AxisType, Mesh, PartitionSpec

from jaxlm import config

# Logical axis of a parameter -> mesh axis. Axes that are not named here are never split.
RULES: Mapping[str, str] = {
    "width": "fsdp",
    "heads": "tensor",
    "kv": "tensor",
    "ff": "tensor",
    "vocab": "tensor",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """The number of devices along each mesh axis; their product is the number of devices used."""

    data: int = 1
    fsdp: int = 1
    tensor: int = 1

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            length = getattr(self, field.name)
            config.require(length >= 1, f"mesh.{field.name}", length, "must be at least 1")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Devices along (data, fsdp, tensor)."""
        return (self.data, self.fsdp, self.tensor)

    @property
    def batch_shards(self) -> int:
        """The number of pieces into which a batch is split."""
        return self.data * self.fsdp


def make_mesh(mesh_config: MeshConfig) -> Mesh:
    """Returns the mesh over the first devices; raises `ConfigError` if there are too few."""
    needed, devices = math.prod(mesh_config.shape), jax.devices()
    config.require(needed <= len(devices), "mesh", mesh_config.shape,
                   f"needs {needed} devices, {len(devices)} are here")
    return jax.make_mesh(mesh_config.shape, ("data", "fsdp", "tensor"),
                         axis_types=(AxisType.Auto,) * 3, devices=devices[:needed])


def batch_spec(leading: int = 0) -> PartitionSpec:
    """Returns the spec of an array whose axis `leading` counts sequences."""
    return PartitionSpec(*(None,) * leading, ("data", "fsdp"))
