"""The mesh of devices, and the mapping from logical axes to mesh axes.

Mesh axes, from the slowest network to the fastest neighbours but one:
  replica: copies of the model on separate slices, joined by the data-centre network; splits the batch.
  data: copies of the model within a slice; splits the batch.
  fsdp: splits the batch, and the parameters with their optimizer state.
  tensor: splits the inner axis of each pair of matrices, attention heads and the logits.
  sequence: splits the tokens of each sequence, and the parameters with their state like fsdp.

So a copy of the parameters and of their state lies over fsdp * tensor * sequence devices, each holding one part.

Where sequences are split, attention gathers the keys and values of one layer at a time: 2 T G K numbers of a
sequence, against T / sequence times T scores for each head that a device holds anyway. A ring would hold one shard of
keys and values only, for a loop with a softmax of its own; all else (queries, positions, mask, targets, dropout) is
written for whole sequences either way and split by the compiler, so that one definition serves every mesh.
"""

import dataclasses
import math
import typing
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, PartitionSpec

from jaxlm import config
from jaxlm.parallel.compiler import Overlap

AXES = ("replica", "data", "fsdp", "tensor", "sequence")

# Logical axis of a parameter -> mesh axes. Axes that are not named here are never split.
RULES: Mapping[str, tuple[str, ...]] = {
    "width": ("fsdp", "sequence"),
    "heads": ("tensor",),
    "kv": ("tensor",),
    "ff": ("tensor",),
    "vocab": ("tensor",),
}

# Axis of an activation -> mesh axes. The width of the residual stream is whole on every device. "table" is the
# width of a token table while rows are looked up: it lies over `tensor` only, as whatever is used is gathered over
# fsdp and sequence first.
ACTIVATIONS: Mapping[str, tuple[str, ...]] = {
    "batch": ("replica", "data", "fsdp"),
    "time": ("sequence",),
    "heads": ("tensor",),
    "ff": ("tensor",),
    "vocab": ("tensor",),
    "table": ("tensor",),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """The number of devices along each mesh axis; their product is the number of devices used.

    `overlap` turns the compiler options of `jaxlm.parallel.compiler` on or off that let collectives run beside
    computation, or leaves them to XLA; on a CPU there are none. Each attempt of a run records what it compiled with.
    """

    replica: int = 1
    data: int = 1
    fsdp: int = 1
    tensor: int = 1
    sequence: int = 1
    overlap: Overlap = "default"

    def __post_init__(self) -> None:
        for axis in AXES:
            length = getattr(self, axis)
            config.require(length >= 1, f"mesh.{axis}", length, "must be at least 1")
        config.require(self.overlap in typing.get_args(Overlap), "mesh.overlap", self.overlap,
                       f"must be one of {', '.join(map(repr, typing.get_args(Overlap)))}")

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Devices along (replica, data, fsdp, tensor, sequence)."""
        return (self.replica, self.data, self.fsdp, self.tensor, self.sequence)

    @property
    def batch_shards(self) -> int:
        """The number of pieces into which a batch is split."""
        return self.replica * self.data * self.fsdp


def make_mesh(mesh_config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Returns the mesh over the first of `devices`, arranged after their network where all are used.

    Args:
      mesh_config: devices along each axis.
      devices: those of this process group by default; may be those of a compiler's topology description, which
        are not here.

    Raises `ConfigError` if there are too few devices, or if they lie on several slices among which `replica`
    cannot be divided.
    """
    devices = list(jax.devices() if devices is None else devices)
    shape, needed = mesh_config.shape, math.prod(mesh_config.shape)
    config.require(needed <= len(devices), "mesh", shape, f"needs {needed} devices, {len(devices)} are here")
    # A GPU bears the number of its node there.
    slices = len({getattr(device, "slice_index", 0) for device in devices[:needed] if device.platform == "tpu"}) or 1
    config.require(mesh_config.replica % slices == 0, "mesh.replica", mesh_config.replica,
                   f"must be a multiple of the {slices} slices that the devices lie on")
    if needed < len(devices):
        arranged = np.array(devices[:needed]).reshape(shape)
    elif slices > 1:
        arranged = mesh_utils.create_hybrid_device_mesh(
            (mesh_config.replica // slices, *shape[1:]), (slices, 1, 1, 1, 1), devices, allow_split_physical_axes=True)
    else:
        arranged = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    return Mesh(arranged, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def batch_spec(leading: int = 0) -> PartitionSpec:
    """Returns the spec of an array whose axis `leading` counts sequences.

    Their T + 1 tokens are whole on every device; inputs and targets of T tokens are what `sequence` splits.
    """
    return PartitionSpec(*(None,) * leading, ACTIVATIONS["batch"])
