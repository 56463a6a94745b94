"""Seconds of each instruction of a program, from a trace of its run."""

import bisect
import collections
import math
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

END = "end: "


class Interval(NamedTuple):
    """One run of an instruction, in nanoseconds of the trace's clock."""

    name: str
    start: float
    end: float


def record(run: Callable[[], None]) -> Any:
    """Returns the `jax.profiler.ProfileData` of what `run` does, which must wait for its results."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            run()
        path = next(Path(folder).rglob("*.xplane.pb"), None)
        if path is None:
            raise OSError("profile: JAX's profiler wrote no trace")
        return jax.profiler.ProfileData.from_serialized_xspace(path.read_bytes())


def intervals(data: Any, names: Collection[str]) -> list[Interval]:
    """Returns every run of the instructions `names` on the first device, from `ProfileData`.

    A GPU's streams name the instruction of each kernel. On a CPU an instruction that goes on in other threads returns
    to its caller before it ends; an event "end: NAME" then tells its end.
    """
    planes = {plane.name: plane for plane in data.planes}
    device = next((planes[name] for name in sorted(planes) if name.startswith("/device:GPU")), None)
    if device is not None:
        found = [Interval(_instruction(event), event.start_ns, event.end_ns)
                 for line in device.lines if line.name.startswith("Stream") for event in line.events]
        return [each for each in found if each.name in names]
    runs, ends = collections.defaultdict(list), collections.defaultdict(list)
    for line in planes["/host:CPU"].lines if "/host:CPU" in planes else ():
        for event in line.events:
            if event.name in names:
                runs[event.name].append((event.start_ns, event.end_ns))
            elif event.name.startswith(END):
                ends[event.name.removeprefix(END)].append(event.end_ns)
    return [Interval(name, *each) for name, told in runs.items() for each in _whole(sorted(told), sorted(ends[name]))]


def shared_seconds(runs: Collection[Interval]) -> Mapping[str, float]:
    """Returns {name: seconds}, each moment shared equally by all that run in it, so that their sum is the busy time."""
    changes = [(each.start, 1, each.name) for each in runs] + [(each.end, -1, each.name) for each in runs]
    seconds: dict[str, float] = collections.defaultdict(float)
    active: collections.Counter = collections.Counter()
    before = 0.0
    for moment, change, name in sorted(changes, key=lambda each: (each[0], -each[1])):
        count = sum(active.values())
        for each, running in active.items():
            seconds[each] += (moment - before) * 1e-9 * running / count
        active[name] += change
        if not active[name]:
            del active[name]
        before = moment
    return seconds


def _instruction(event: Any) -> str:
    return next((str(value) for name, value in event.stats if name == "hlo_op"), "")


def _whole(runs: list[tuple[float, float]], ends: list[float]) -> Iterator[tuple[float, float]]:
    """Yields each run up to the last end that is told before the next one starts; `ends` may lack some."""
    for (start, end), bound in zip(runs, [*(start for start, _ in runs[1:]), math.inf], strict=True):
        before = bisect.bisect_left(ends, bound)
        yield start, max(end, ends[before - 1]) if before else end
