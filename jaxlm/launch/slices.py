"""The slices that can be asked for: what a TPU slice or GPU node is called, holds and can do at most.

Names count what Google Cloud counts: TensorCores on v4 and v5p, whose chips have two (v5p-128 is 64 chips), chips
elsewhere. jax sees one device per chip on all of them. Hosts are those of TPU VMs, which hold v5e-8 and v6e-8 as one
machine of eight chips; on GKE these are two machines of four, and so two processes (`jaxlm.launch.xpk`).
"""

import dataclasses
import math
from collections.abc import Mapping

from jaxlm import config
from jaxlm.config import ConfigError

GIB = 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
    """What one chip can do by its maker's figures.

    Attributes:
      generation: "v4", "v5e", "v5p", "v6e", or a GPU such as "h100".
      cores: TensorCores per chip; 1 for a GPU.
      hbm_bytes: memory capacity as stated, to the GiB (TPU) or GB (GPU).
      usable_bytes: what the compiler (libtpu 0.0.42) gives to one program, as it says when it refuses one; the
        capacity where there is no such compiler.
      peak_flops: bfloat16 operations per second, dense.
      hbm_bandwidth: bytes/s.
      ici_bandwidth: bytes/s over all links inside a slice (ICI, NVLink), both directions together.
      dcn_bandwidth: bytes/s of the data-centre network between slices, one direction; None where it is not stated.
      source: where the figures stand.
    """

    generation: str
    cores: int
    hbm_bytes: int
    usable_bytes: int
    peak_flops: float
    hbm_bandwidth: float
    ici_bandwidth: float
    dcn_bandwidth: float | None
    source: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slice:
    """Chips that are lent as one and joined by fast links.

    Attributes:
      name: as in commands, "v5e-256".
      chip: what it consists of.
      chips: how many; also the number of jax devices.
      hosts: virtual machines, each of which runs one process.
      topology: chips along each axis of the network, "16x16"; for a GPU node their number.
      accelerator_type: what gcloud calls it: "v5litepod-256"; a machine type for a GPU node.
      compiler_name: what `jax.experimental.topologies.get_topology_desc` takes, "v5e:16x16"; None for a GPU.
    """

    name: str
    chip: Chip
    chips: int
    hosts: int
    topology: str
    accelerator_type: str
    compiler_name: str | None

    @property
    def chips_per_host(self) -> int:
        """Chips that one process holds."""
        return self.chips // self.hosts


_DOCS = "docs.cloud.google.com/tpu/docs"

# Memory and rates as those pages state them in 2026. What they call 16 and 32 GB is GiB, or the compiler could not
# give 15.75 and 31.25 GiB of it to a program. Network between slices: a pod's figure over its chips.
V4 = Chip(generation="v4", cores=2, hbm_bytes=32 * GIB, usable_bytes=int(30.75 * GIB), peak_flops=275e12,
          hbm_bandwidth=1200e9, ici_bandwidth=600e9, dcn_bandwidth=None,
          source=f"{_DOCS}/v4; links (6 of 50 GB/s each way): Jouppi et al. 2023, arXiv 2304.01433, table 4")
V5E = Chip(generation="v5e", cores=1, hbm_bytes=16 * GIB, usable_bytes=int(15.75 * GIB), peak_flops=197e12,
           hbm_bandwidth=819e9, ici_bandwidth=400e9, dcn_bandwidth=6.4e12 / 8 / 256, source=f"{_DOCS}/v5e")
V5P = Chip(generation="v5p", cores=2, hbm_bytes=95 * GIB, usable_bytes=int(95.74 * GIB), peak_flops=459e12,
           hbm_bandwidth=2765e9, ici_bandwidth=1200e9, dcn_bandwidth=50e9 / 8, source=f"{_DOCS}/v5p")
V6E = Chip(generation="v6e", cores=1, hbm_bytes=32 * GIB, usable_bytes=int(31.25 * GIB), peak_flops=918e12,
           hbm_bandwidth=1638e9, ici_bandwidth=800e9, dcn_bandwidth=25.6e12 / 8 / 256, source=f"{_DOCS}/v6e")
H100 = Chip(generation="h100", cores=1, hbm_bytes=80 * 10**9, usable_bytes=80 * 10**9, peak_flops=989e12,
            hbm_bandwidth=3.35e12, ici_bandwidth=900e9, dcn_bandwidth=None, source="NVIDIA H100 SXM data sheet")
H200 = Chip(generation="h200", cores=1, hbm_bytes=141 * 10**9, usable_bytes=141 * 10**9, peak_flops=989e12,
            hbm_bandwidth=4.8e12, ici_bandwidth=900e9, dcn_bandwidth=None, source="NVIDIA H200 SXM data sheet")
CHIPS = (V4, V5E, V5P, V6E, H100, H200)

# Chips per virtual machine are 4, but for the slices below that a single machine of 1 or 8 chips holds.
_TOPOLOGIES: Mapping[str, tuple[str, ...]] = {
    "v4": ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x12", "8x8x16", "8x16x16"),
    "v5e": ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
    "v5p": ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16", "16x16x16",
            "16x16x24"),
    "v6e": ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
}
_ONE_HOST = ("1x1", "2x2", "2x4")


def _tpu(chip: Chip, topology: str) -> Slice:
    chips = math.prod(int(length) for length in topology.split("x"))
    count = chips * chip.cores
    kind = "v5litepod" if chip.generation == "v5e" else chip.generation
    return Slice(name=f"{chip.generation}-{count}", chip=chip, chips=chips,
                 hosts=1 if topology in _ONE_HOST else chips // 4, topology=topology,
                 accelerator_type=f"{kind}-{count}", compiler_name=f"{chip.generation}:{topology}")


def _node(chip: Chip, machine: str) -> Slice:
    return Slice(name=f"{chip.generation}-8", chip=chip, chips=8, hosts=1, topology="8", accelerator_type=machine,
                 compiler_name=None)


_ALL = (*(_tpu(chip, topology) for chip in (V4, V5E, V5P, V6E) for topology in _TOPOLOGIES[chip.generation]),
        _node(H100, "a3-highgpu-8g"), _node(H200, "a3-ultragpu-8g"))

SLICES: Mapping[str, Slice] = {where.name: where for where in _ALL}


def find_slice(name: str) -> Slice:
    """Returns the slice of that name ("v5e-256"), or of that accelerator type ("v5litepod-256").

    Raises `ConfigError` naming the nearest slices: those of the same generation by size, else the closest name.
    """
    for where in SLICES.values():
        if name in (where.name, where.accelerator_type):
            return where
    raise ConfigError(f"slice {name!r}: no such slice{_near(name)}")


def _near(name: str) -> str:
    generation, _, count = name.partition("-")
    family = [where for where in SLICES.values()
              if generation in (where.chip.generation, where.accelerator_type.partition("-")[0])]
    if not family or not count.isdigit():
        return config.nearest(name, list(SLICES))
    near = sorted(family, key=lambda where: abs(math.log(int(where.name.partition("-")[2]) / max(int(count), 1))))[:2]
    unit = "cores" if near[0].chip.cores > 1 else "chips"
    return f"; nearest: {', '.join(where.name for where in near)} (the number counts {unit})"
