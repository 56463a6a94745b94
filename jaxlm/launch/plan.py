"""What a run would do on devices that are not here: whether it fits, how fast it can be at most, what it costs.

The training step itself is compiled for the slice; memory and collectives are the compiler's. What no compiler says
comes from `jaxlm.launch.estimate`, and every figure says which it is.
"""

import dataclasses
import math
import os
import re
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxlm.config import require
from jaxlm.launch import estimate
from jaxlm.launch.collectives import Collective, collectives, donated
from jaxlm.launch.estimate import HeldBytes, Roofline, Work
from jaxlm.launch.slices import CHIPS, GIB, Chip, Slice
from jaxlm.launch.topology import slice_devices
from jaxlm.train.config import RunConfig
from jaxlm.train.start import step_config
from jaxlm.train.state import abstract_state
from jaxlm.train.step import make_step

SECONDS_PER_DAY = 86400


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """What the compiler says of the compiled step, in bytes per device.

    Attributes:
      arguments: the state, the batch and the rest, as laid out on the device.
      outputs: the state and the metrics.
      aliased: outputs that lie in the place of arguments.
      temporaries: the rest at the worst moment.
      donated: whether every array of the state is written where it was read.
      collectives: per update, by kind and group.
    """

    arguments: int
    outputs: int
    aliased: int
    temporaries: int
    donated: bool
    collectives: tuple[Collective, ...]

    @property
    def total(self) -> int:
        """Bytes that the program needs."""
        return self.arguments + self.outputs - self.aliased + self.temporaries


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """A run on a slice, or on the devices here.

    Attributes:
      run: the run, with the mesh that was planned.
      where: the slice; None for the devices of this machine.
      slices: how many of them the mesh spans.
      chip: what a device can do; None for devices without stated figures, which then have no times.
      capacity: bytes that a program may use on a device; None where it is not known.
      held: bytes by part, by formula.
      work: per device and update, by formula but for the bytes of collectives of a compiled program.
      program: the compiler's figures; None without a compiler or for a program that it refused.
      refused: what the compiler needed, in bytes per device, where it refused the program.
      note: why there is no compiled program, or None.
    """

    run: RunConfig
    where: Slice | None
    slices: int
    chip: Chip | None
    capacity: int | None
    held: HeldBytes
    work: Work
    program: Program | None = None
    refused: int | None = None
    note: str | None = None

    @property
    def source(self) -> Literal["compiler", "formula"]:
        """Where the memory comes from."""
        return "compiler" if self.program or self.refused is not None else "formula"

    @property
    def devices(self) -> int:
        """Devices that the mesh covers."""
        return math.prod(self.run.mesh.shape)

    @property
    def needed(self) -> int:
        """Bytes per device that the run needs."""
        if self.refused is not None:
            return self.refused
        return self.program.total if self.program else self.held.total

    @property
    def over(self) -> int:
        """Bytes per device that are missing; 0 where it fits or nothing is known of the device."""
        return max(0, self.needed - self.capacity) if self.capacity else 0

    @property
    def fits(self) -> bool:
        """Whether a device holds it."""
        return self.over == 0 and self.refused is None

    @property
    def roofline(self) -> Roofline | None:
        """The times of an update; None for devices without stated figures."""
        return estimate.roofline(self.work, self.chip) if self.chip else None

    @property
    def seconds(self) -> float | None:
        """The least time of an update; None where figures of the devices or of the network are not stated."""
        return self.roofline.seconds if self.roofline and math.isfinite(self.roofline.seconds) else None

    @property
    def mfu_ceiling(self) -> float | None:
        """Model FLOPs over what the chips could do in the least time."""
        return self.seconds and self.work.model_flops / self.chip.peak_flops / self.seconds

    @property
    def tokens_per_day(self) -> float | None:
        """Predicted tokens in 24 hours at the least time."""
        return self.seconds and self.run.tokens_per_update / self.seconds * SECONDS_PER_DAY

    @property
    def updates(self) -> int:
        """Updates that the run makes itself: a branch begins at its parent's."""
        return self.run.updates - (self.run.parent.step if self.run.parent else 0)

    @property
    def chip_hours(self) -> float | None:
        """Chip-hours of the run's own updates at the least time, without evaluation, checkpoints and starts."""
        return self.seconds and self.updates * self.seconds * self.devices / 3600

    def cost(self, price: float) -> float | None:
        """Returns what the run costs at least, at `price` per chip-hour."""
        return None if self.chip_hours is None else self.chip_hours * price


def plan(run: RunConfig, where: Slice | None, *, compiled: bool = True) -> Plan:
    """Returns the plan of `run`, on the mesh that it names, for `where` or for the devices here.

    Args:
      run: the run; its mesh covers the slice, or several of them by `mesh.replica`.
      where: the slice; None compiles for the devices of this process with the local backend.
      compiled: whether to compile the step (a minute of CPU time and 2 GiB for a slice); else all is by formula.

    Raises `ConfigError` where the mesh does not cover whole slices or does not divide the run. A missing compiler is
    no error: the plan is then by formula, and its `note` says why.
    """
    slices = spanned(run, where)
    chip = where.chip if where else _local_chip()
    platform = ("tpu" if where.compiler_name else "gpu") if where else jax.devices()[0].platform
    made = Plan(run=run, where=where, slices=slices, chip=chip, held=estimate.held_bytes(run, platform=platform),
                work=estimate.work(run, platform=platform),
                capacity=where.chip.usable_bytes if where else _local_capacity())
    if not compiled:
        return dataclasses.replace(made, note="not compiled, as asked")
    if where is not None and where.compiler_name is None:
        return dataclasses.replace(made, note=f"there is no compiler here for {where.name}")
    try:
        devices = slice_devices(where, slices) if where else jax.devices()
    except ImportError as error:
        return dataclasses.replace(made, note=f"no compiler: {error}")
    return compile_plan(made, devices)


def spanned(run: RunConfig, where: Slice | None) -> int:
    """Returns how many slices the run's mesh spans; raises `ConfigError` where they are not whole."""
    if where is None:
        return 1
    devices = math.prod(run.mesh.shape)
    slices = devices // where.chips
    require(devices % where.chips == 0 and run.mesh.replica % max(slices, 1) == 0, "mesh", run.mesh.shape,
            f"covers {devices} devices; {where.name} has {where.chips}, and mesh.replica counts several of them")
    return slices


def compile_plan(made: Plan, devices: list[jax.Device]) -> Plan:
    """Returns `made` with what the compiler says of the step on `devices`."""
    try:
        executable = lower_step(made.run, devices).compile()
    except jax.errors.JaxRuntimeError as error:
        needed = refusal(str(error), made.held)
        if needed is None:
            raise
        return dataclasses.replace(made, refused=needed)
    analysis, text = executable.memory_analysis(), executable.as_text()
    found = collectives(text, made.slices)
    leaves = len(jax.tree.leaves(executable.args_info[0][0]))
    program = Program(
        arguments=analysis.argument_size_in_bytes, outputs=analysis.output_size_in_bytes,
        aliased=analysis.alias_size_in_bytes, temporaries=analysis.temp_size_in_bytes,
        donated=donated(text) >= leaves and analysis.alias_size_in_bytes >= made.held.state, collectives=found)
    moved = dataclasses.replace(
        made.work, ici_bytes=sum(each.bytes for each in found if not each.crosses),
        dcn_bytes=sum(each.bytes for each in found if each.crosses))
    return dataclasses.replace(made, program=program, work=moved)


def lower_step(run: RunConfig, devices: list[jax.Device]) -> jax.stages.Lowered:
    """Returns the run's own step, lowered for `devices`, as the training loop calls it."""
    config = step_config(run)
    step = make_step(config, devices)
    state = abstract_state(config.model, step.tx, step.mesh)
    batches = (run.chunk, run.accumulation, run.microbatch, run.data.sequence + 1)

    def shape(dtype: Any, *lengths: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(lengths, dtype)

    return step.run_chunk.lower(state, shape(jnp.bool_), shape(jnp.int32, *batches), shape(jnp.float32, run.chunk),
                                shape(jnp.int32), shape(jnp.float32), shape(jnp.uint32))


def plan_runs(runs: Sequence[RunConfig], where: Slice | None, *, compiled: bool = True) -> list[Plan]:
    """Returns the plan of each run; runs of one program share its compilation. Arguments and errors as in `plan`."""
    known: dict[tuple, Plan] = {}
    made = []
    for run in runs:
        key = (step_config(run), run.batch, run.chunk, run.data.sequence)
        if key not in known:
            known[key] = plan(run, where, compiled=compiled)
        made.append(dataclasses.replace(known[key], run=run))
    return made


def refusal(message: str, held: HeldBytes) -> int | None:
    """Returns the bytes per device that a refused program needed, read from the error; None for another error.

    libtpu states them as "HLO temporaries", arguments and results included.
    """
    if "RESOURCE_EXHAUSTED" not in message and "Ran out of memory" not in message:
        return None
    found = re.search(r"temporaries \(([\d.]+)([KMGT])\)", message)
    found = found or re.search(r"Used ([\d.]+)([KMGT]) of", message)
    units = {"K": 2**10, "M": 2**20, "G": GIB, "T": 2**40}
    return int(float(found.group(1)) * units[found.group(2)]) if found else held.total


def _local_chip() -> Chip | None:
    """What the first device of this machine can do, by its name."""
    kind = jax.devices()[0].device_kind.lower()
    names = {"tpu v4": "v4", "tpu v5 lite": "v5e", "tpu v5": "v5p", "tpu v6 lite": "v6e"}
    generation = names.get(kind) or next((name for name in ("h100", "h200") if name in kind), None)
    return next((chip for chip in CHIPS if chip.generation == generation), None)


def _local_capacity() -> int | None:
    """Bytes that a program may use on the first device here; a CPU's memory is the machine's."""
    device = jax.devices()[0]
    limit = (device.memory_stats() or {}).get("bytes_limit")
    if limit is None and device.platform == "cpu" and hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return limit
