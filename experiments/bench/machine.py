"""Facts of the machine that a benchmark ran on, for its results; the standard library only."""

import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("jax", "jaxlib", "numpy", "optax", "flax", "equinox", "haliax", "torch")


def facts(cores: list[int] | None) -> dict[str, Any]:
    """Returns the processor, what of it is used, memory in bytes, and the system."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    return {"cpu": model, "cores": cores or usable, "system": platform.platform(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")}


def load() -> list[float]:
    """Returns the load averages of the last 1, 5 and 15 minutes."""
    return [round(average, 2) for average in os.getloadavg()]


def versions() -> dict[str, str]:
    """Returns the versions of this interpreter and of what it has of `PACKAGES`."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def write(path: Path, figures: dict[str, Any]) -> None:
    """Writes `figures` as JSON, a line for each of its entries."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = (f"{json.dumps(key)}: {json.dumps(_rounded(value))}" for key, value in figures.items())
    path.write_text("{\n" + ",\n".join(rows) + "\n}\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value
