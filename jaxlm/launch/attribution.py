"""Where the time and the memory of a run's training step go, by part of the model.

On devices that are here the run's own compiled step is traced; each moment of the call belongs to the instructions
that ran in it, and the rest is dispatch, so that parts sum to the wall time. For a slice that is not here the compiled
program says what each part has to compute and to move, and peak figures of the chip how long that takes at least.
"""

import dataclasses
import math
import resource
import sys
import time
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxlm.config import ConfigError, require
from jaxlm.launch import ceiling, hlo, parts, trace
from jaxlm.launch.collectives import collectives
from jaxlm.launch.estimate import held_bytes
from jaxlm.launch.plan import lower_step, refusal, spanned
from jaxlm.launch.slices import Slice
from jaxlm.launch.topology import slice_devices
from jaxlm.parallel import batch_spec
from jaxlm.train.config import RunConfig
from jaxlm.train.start import step_config
from jaxlm.train.state import init_state
from jaxlm.train.step import make_step

# Of a traced call; no result is kept, and nothing can diverge at this rate.
RATE = 1e-6
# Calls until what is kept of freed memory has its place: up to the third may still take new pages.
WARM_UP = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A part of the step, or an instruction of it, on one device and for one update.

    Attributes:
      part: one of `parts.PARTS`, or `parts.DISPATCH`.
      seconds: measured, or the least by peak figures.
      flops: of its products of matrices as they are compiled.
      moved: bytes that its instructions read and write, from the program; a cache may save some.
      buffer: bytes of its largest result.
      name: of an instruction; of a part the one with that result.
      op_name: the path of the JAX operation that an instruction was made from.
    """

    part: str
    seconds: float
    flops: float
    moved: float
    buffer: int
    name: str
    op_name: str = ""


class Usage(NamedTuple):
    """What the operating system counts for the process, an update: seconds, and pages it had to be given."""

    wall: float
    user: float
    system: float
    faults: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attribution:
    """Time and memory of an update on one device.

    Attributes:
      run: the run.
      device: what it is for.
      source: "trace", or "program" for devices that are not here, whose times are the least and not measured.
      updates: how many were made in the traced call.
      rows: the parts, which sum to `seconds`.
      operations: every instruction, the longest first.
      ceiling: operations per second of the best product of matrices, measured beside it or the chip's peak.
      usage: of the same call without the trace; None from a program.
      memory: bytes by name, of the compiled program and of what was in use.
    """

    run: RunConfig
    device: str
    source: Literal["trace", "program"]
    updates: int
    rows: tuple[Row, ...]
    operations: tuple[Row, ...]
    ceiling: ceiling.Ceiling
    usage: Usage | None
    memory: dict[str, int]

    @property
    def seconds(self) -> float:
        """Of an update."""
        return sum(row.seconds for row in self.rows)

    @property
    def total(self) -> Row:
        """All parts together."""
        return Row(part="together", seconds=self.seconds, flops=sum(row.flops for row in self.rows),
                   moved=sum(row.moved for row in self.rows), buffer=max(row.buffer for row in self.rows), name="")

    def of_ceiling(self, row: Row) -> float | None:
        """Returns the rate of the row's products, in all its time, over the ceiling; None for none."""
        return row.flops / row.seconds / self.ceiling.flops_per_second if row.flops and row.seconds else None


def measure(run: RunConfig, *, updates: int) -> Attribution:
    """Returns the attribution of `updates` updates of `run` in one call on the devices here; its data is random.

    Raises `ConfigError` for a mesh of several devices on a CPU and for a run that does not fit, `OSError` where the
    trace names no instruction.
    """
    devices = jax.devices()
    require(updates >= 1, "updates", updates, "must be at least 1")
    require(devices[0].platform != "cpu" or math.prod(run.mesh.shape) == 1, "mesh", run.mesh.shape,
            "must be one device on a CPU, where all devices share the threads that are traced")
    run = run.replace(chunk=updates)
    executable = _compiled(run, devices)
    rows = instructions(hlo.parse(executable.as_text()))
    call = _Call(run, devices, executable)
    for _ in range(WARM_UP):
        call()
    usage = _used(call, updates)
    walls: list[float] = []
    traced = trace.record(lambda: walls.append(_used(call, updates).wall))
    spent = trace.shared_seconds(trace.intervals(traced, {row.name for row in rows}))
    if not spent:
        raise OSError("profile: the trace of this device names no instruction; --slice reads the program alone")
    memory = _memory(executable) | _resident(devices[0])  # before the ceiling takes some
    operations = [dataclasses.replace(row, seconds=spent.get(row.name, 0.0) / updates) for row in rows]
    dispatch = Row(part=parts.DISPATCH, seconds=max(0.0, walls[0] - sum(spent.values()) / updates), flops=0.0,
                   moved=0.0, buffer=0, name="")
    return Attribution(
        run=run, device=devices[0].device_kind, source="trace", updates=updates,
        rows=(*_by_part(operations), dispatch), operations=_sorted(operations), ceiling=ceiling.matmul_ceiling(run),
        usage=usage, memory=memory)


def from_program(run: RunConfig, where: Slice) -> Attribution:
    """Returns the attribution of an update on a device of `where`, from the program compiled for it.

    An instruction takes the longer of its operations at the chip's peak and its bytes at the memory's; collectives
    take what their bytes take over the links; nothing overlaps. Kernels state no operations.

    Raises as `jaxlm.launch.topology.slice_devices`, and `ConfigError` for a mesh that does not cover the slice and for
    a run that does not fit.
    """
    slices, chip = spanned(run, where), where.chip
    executable = _compiled(run, slice_devices(where, slices))
    text = executable.as_text()
    operations = [
        dataclasses.replace(row, seconds=max(row.flops / chip.peak_flops, row.moved / chip.hbm_bandwidth))
        for row in instructions(hlo.parse(text))]
    # Between slices whose network nobody states it is taken to be as fast as within them.
    network = chip.dcn_bandwidth or chip.ici_bandwidth / 2
    links = sum(each.bytes / (network if each.crosses else chip.ici_bandwidth / 2)
                for each in collectives(text, slices))
    rows = [dataclasses.replace(row, seconds=max(row.seconds, links)) if row.part == parts.COLLECTIVES else row
            for row in _by_part(operations)]
    return Attribution(
        run=run, device=where.name, source="program", updates=1, rows=tuple(rows),
        operations=_sorted(operations), ceiling=ceiling.Ceiling(chip.peak_flops, f"peak of {chip.generation}"),
        usage=None, memory=_memory(executable))


def instructions(program: hlo.Program) -> list[Row]:
    """Returns everything that the program runs in an update, each name once, without times."""
    rows: dict[str, Row] = {}
    for each, inside, times in program.executed:
        before = rows.get(each.name)
        rows[each.name] = Row(
            part=parts.part_of(program, each, inside), seconds=0.0,
            flops=times * program.flops(each, inside) + (before.flops if before else 0),
            moved=times * program.traffic(each, inside) + (before.moved if before else 0),
            buffer=each.bytes, name=each.name, op_name=each.op_name)
    return list(rows.values())


def _compiled(run: RunConfig, devices: list[jax.Device]) -> jax.stages.Compiled:
    try:
        return lower_step(run, devices).compile()
    except jax.errors.JaxRuntimeError as error:
        needed = refusal(str(error), held_bytes(run))
        if needed is None:
            raise
        raise ConfigError(f"{run.name} does not fit: it needs {needed} bytes on each device; see jaxlm plan") from None


class _Call:
    """The compiled step with a state and tokens drawn at random; each call goes on from the state of the last."""

    def __init__(self, run: RunConfig, devices: list[jax.Device], executable: jax.stages.Compiled):
        step = make_step(step_config(run), devices)
        shape = (run.chunk, run.accumulation, run.microbatch, run.data.sequence + 1)
        tokens = np.random.default_rng(run.seed).integers(0, run.model.vocabulary, shape, dtype=np.int32)
        self.executable = executable
        self.state = init_state(run.model, step.tx, mesh=step.mesh, seed=run.seed)
        self.healthy = jax.device_put(True, NamedSharding(step.mesh, PartitionSpec()))
        self.rest = (jax.device_put(tokens, NamedSharding(step.mesh, batch_spec(2))),
                     np.full(run.chunk, RATE, np.float32), np.int32(run.chunk),
                     np.float32(run.optimizer.weight_decay), np.uint32(run.seed))

    def __call__(self) -> None:
        self.state, self.healthy, *results = self.executable(self.state, self.healthy, *self.rest)
        jax.block_until_ready((self.state, results))


def _used(call: _Call, updates: int) -> Usage:
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    call()
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    return Usage(wall / updates, (after.ru_utime - before.ru_utime) / updates,
                 (after.ru_stime - before.ru_stime) / updates, (after.ru_minflt - before.ru_minflt) / updates)


def _by_part(operations: Iterable[Row]) -> list[Row]:
    rows = []
    for part in parts.PARTS:
        own = [row for row in operations if row.part == part]
        largest = max(own, key=lambda row: row.buffer, default=None)
        rows.append(Row(part=part, seconds=sum(row.seconds for row in own), flops=sum(row.flops for row in own),
                        moved=sum(row.moved for row in own), buffer=largest.buffer if largest else 0,
                        name=largest.name if largest else ""))
    return rows


def _sorted(operations: Iterable[Row]) -> tuple[Row, ...]:
    return tuple(sorted(operations, key=lambda row: -row.seconds))


def _memory(executable: jax.stages.Compiled) -> dict[str, int]:
    analysis = executable.memory_analysis()
    return {"arguments": analysis.argument_size_in_bytes, "outputs": analysis.output_size_in_bytes,
            "aliased": analysis.alias_size_in_bytes, "temporaries": analysis.temp_size_in_bytes}


def _resident(device: jax.Device) -> dict[str, int]:
    """The most bytes that the process and the device have held so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    found = {"peak_resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    stats: dict[str, Any] = device.memory_stats() or {}
    return found | ({"peak_device": stats["peak_bytes_in_use"]} if "peak_bytes_in_use" in stats else {})
