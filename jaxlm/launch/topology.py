"""The devices of a slice that is not here, as libtpu describes them to the compiler."""

import os
from typing import Any

import jax
from jax.experimental import topologies

from jaxlm.config import require
from jaxlm.data.extras import load_extra
from jaxlm.launch.libtpu import prepare_libtpu
from jaxlm.launch.slices import Slice


def slice_devices(where: Slice, slices: int = 1) -> list[jax.Device]:
    """Returns the devices of `slices` slices, to compile for; nothing can run on them.

    Where JAX has not started yet it is kept on the CPU, for it would look for a TPU here.

    Raises:
      ConfigError: a GPU node, for which there is no such compiler.
      ModuleNotFoundError: the extra `tpu` is not installed; with the pip command.
      ImportError: libtpu does not go with this version of JAX.
    """
    require(where.compiler_name is not None, "slice", where.name, "no compiler for devices that are not here")
    load_extra("libtpu", "tpu")
    prepare_libtpu()
    if not os.environ.get("JAX_PLATFORMS"):
        jax.config.update("jax_platforms", "cpu")
    options: dict[str, Any] = {} if slices == 1 else {"num_slices": slices}
    if where.hosts == 1:
        bounds = [int(length) for length in where.topology.split("x")]
        options["chips_per_host_bounds"] = tuple(bounds + [1] * (3 - len(bounds)))
    if where.chip.generation == "v4":
        options["chip_config_name"] = "megacore"  # one device per chip, as on a real host
    try:
        return list(topologies.get_topology_desc(where.compiler_name, "tpu", **options).devices)
    except (RuntimeError, ValueError) as error:
        raise ImportError(f"libtpu cannot describe {where.name}: {str(error).splitlines()[0]}") from None
