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
EXACT = ("jaxlib", "processor", "platform", "devices", "cpu_threads", "mesh")


def conditions(mesh: tuple[int, ...]) -> dict[str, Any]:
    """Returns versions, source revision, host and the conditions of exactness of this process."""
    packages = ("jax", "jaxlib", "optax", "flax", "orbax-checkpoint", "grain", "tensorstore", "numpy")
    versions = {name: metadata.version(name) for name in packages}
    return {
        "versions": {"python": platform.python_version(), **versions},
        "revision": _source_digest(),
        "host": platform.node(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "jaxlib": versions["jaxlib"],
        "processor": _processor(),
        "platform": jax.default_backend(),
        "devices": jax.device_count(),
        "cpu_threads": cpu_threads(),
        "mesh": list(mesh),
    }


def differing(earlier: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Returns one line for each condition of exactness in which two attempts differ."""
    return [f"{key}: {earlier.get(key)} before, {now[key]} now" for key in EXACT if earlier.get(key) != now[key]]


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


def _source_digest() -> str:
    # Of the files that run, so that it needs no version control and sees uncommitted changes.
    top = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for package in ("jaxlm", "scaling"):
        for path in sorted((top / package).rglob("*.py")):
            digest.update(str(path.relative_to(top)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
