"""The conditions of a start: what must agree for two runs to be equal bit for bit, and the rest."""

import hashlib
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

# Two attempts that agree in these give the same bits (design: jaxlib, processor, devices, threads).
EXACT = ("jaxlib", "processor", "platform", "devices", "hosts", "cpu_threads", "mesh", "compiler_options")
PACKAGES = ("jax", "jaxlib", "optax", "flax", "orbax-checkpoint", "grain", "tensorstore", "numpy")


def conditions(mesh: tuple[int, ...]) -> dict[str, Any]:
    """Returns versions, source revision, host and the conditions of exactness of this process."""
    found = versions()
    return {
        "versions": found,
        "revision": source_revision(),
        "host": platform.node(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "jaxlib": found["jaxlib"],
        "processor": _processor(),
        "platform": jax.default_backend(),
        "devices": jax.device_count(),
        "hosts": jax.process_count(),
        "cpu_threads": cpu_threads(),
        "mesh": list(mesh),
    }


def differing(earlier: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Returns one line for each condition of exactness in which two attempts differ."""
    # Records from before there were several hosts, or options, name none.
    earlier, now = ({"hosts": 1, "compiler_options": {}, **each, "mesh": _five_axes(each.get("mesh"))} for each in (earlier, now))
    return [f"{key}: {earlier.get(key)} before, {now[key]} now" for key in EXACT if earlier.get(key) != now[key]]


def _five_axes(mesh: list[int] | None) -> list[int] | None:
    """A recorded mesh; until there were replicas and split sequences it was [data, fsdp, tensor]."""
    return [1, *mesh, 1] if mesh and len(mesh) == 3 else mesh


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that a run is made with."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}


def cpu_threads() -> int:
    """The number of CPU threads that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        fields = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines()
                  if line.startswith(("model name", "cpu family", "model\t", "stepping"))]
        return " ".join(fields[:4])
    return platform.processor() or platform.machine()


def source_revision() -> str:
    """Returns the SHA-256 of the source files that run: it needs no version control and sees uncommitted changes."""
    top = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for package in ("jaxlm", "scaling"):
        for path in sorted((top / package).rglob("*.py")):
            digest.update(str(path.relative_to(top)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
