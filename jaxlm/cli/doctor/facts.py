"""What bears on exactness here: devices, processor, settings, and what unfinished runs were trained on."""

import dataclasses
import enum
import os
import platform
from pathlib import Path
from typing import Any

from jaxlm.cli.doctor.place import Place, try_place
from jaxlm.cli.doctor.requirements import Package, wanted
from jaxlm.cli.doctor.selftest import SelfTest, self_test

# Settings of JAX that change numbers and stand in no record, with the values that jaxlm assumes: JAX's own.
ASSUMED: dict[str, Any] = {
    "jax_enable_x64": False,
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_default_matmul_precision": None,
    "jax_disable_most_optimizations": False,
    "jax_numpy_dtype_promotion": "standard",
    "jax_disable_jit": False,
}
VARIABLES = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "JAX_PLATFORMS", "JAX_COMPILATION_CACHE_DIR", "OMP_NUM_THREADS",
             "NVIDIA_TF32_OVERRIDE", *(name.upper() for name in ASSUMED))
ENDED = ("finished", "diverged", "running")  # a run that lives is not gone on with from here


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """What was found.

    Attributes:
      packages: what each extra asks for, the base under ''.
      conditions: as an attempt records them (`jaxlm.train.conditions`); empty where no device starts.
      device_error: why no device starts, else None.
      settings: JAX's values of `ASSUMED`.
      environment: those of `VARIABLES` that are set.
      place: what the folder of runs can do.
      self_test: how a tiny run differed from itself.
      unfinished: (name, last attempt) of each run under --out that has not ended.
    """

    packages: dict[str, list[Package]]
    conditions: dict[str, Any]
    device_error: str | None
    settings: dict[str, Any]
    environment: dict[str, str]
    place: Place
    self_test: SelfTest
    unfinished: tuple[tuple[str, dict[str, Any]], ...]


def gather(out: str | os.PathLike[str]) -> Facts:
    """Returns the facts for runs under `out`; starts the devices and trains the tiny run."""
    place = try_place(out)  # a wrong --out ends the command before anything else
    packages = wanted()
    import jax

    from jaxlm.train.conditions import conditions

    try:
        found, error = conditions((1, 1, 1)) | {"kinds": sorted({d.device_kind for d in jax.devices()})}, None
    except RuntimeError as failure:
        found, error = {}, " ".join(str(failure).split())[:200]
    return Facts(
        packages=packages, conditions=found, device_error=error,
        # A setting that this JAX does not have cannot differ.
        settings={name: _plain(jax.config.values.get(name, assumed)) for name, assumed in ASSUMED.items()},
        environment={name: os.environ[name] for name in VARIABLES if name in os.environ},
        place=place, unfinished=unfinished(out),
        self_test=SelfTest(error="no device") if error else self_test())


def unfinished(out: str | os.PathLike[str]) -> tuple[tuple[str, dict[str, Any]], ...]:
    """Returns (name, last attempt) of the runs under `out` that have started and have not ended."""
    from scaling import record
    from scaling.errors import InputError

    try:
        found, _ = record.summaries(out)
    except InputError:  # no such folder yet
        return ()
    return tuple((f"{one.study}/{one.name}" if one.study else one.name, one.attempts[-1])
                 for one in found if one.state not in ENDED and one.attempts)


def processor_limits() -> dict[str, str]:
    """Returns cores of the machine, those that this process may use, and the control group's limit."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = _first_line("/sys/fs/cgroup/cpu.max").split()
    share = f"{int(quota[0]) / int(quota[1]):g} cores" if len(quota) == 2 and quota[0].isdecimal() else "none"
    return {"cores": str(os.cpu_count()), "cores allowed": str(allowed), "cgroup limit": share}


def memory() -> dict[str, int]:
    """Returns bytes of memory: of the machine, at hand, and the control group's limit, where known."""
    found = {}
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            for field, name in (("MemTotal:", "total"), ("MemAvailable:", "at hand")):
                if line.startswith(field):
                    found[name] = int(line.split()[1]) * 1024
    except OSError:
        pass
    limit = _first_line("/sys/fs/cgroup/memory.max")
    return found | ({"cgroup limit": int(limit)} if limit.isdecimal() else {})


def python() -> str:
    """Returns implementation and version of the interpreter, and the system."""
    return (f"{platform.python_implementation()} {platform.python_version()}, "
            f"{platform.system()} {platform.machine()}")


def _plain(setting: Any) -> Any:
    return setting.value if isinstance(setting, enum.Enum) else setting


def _first_line(path: str) -> str:
    try:
        return (Path(path).read_text().splitlines() or [""])[0]
    except OSError:
        return ""
