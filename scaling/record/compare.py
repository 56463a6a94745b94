"""Equality of two runs over all result fields."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from scaling.record import schema
from scaling.record.reader import Run


def equal(run_a: Run, run_b: Run) -> list[str]:
    """Returns one line for each result field that differs, an empty list where the runs are equal.

    Compared bit for bit: identity, schedule, metrics columns of kind `result`, and the result with
    the digest of the final parameters. NaN equals NaN. Measured fields are not looked at.
    """
    lines = list(_tree_differences("identity", run_a.identity, run_b.identity))
    if not np.array_equal(run_a.schedule, run_b.schedule):
        lines.append("schedule: the arrays differ")
    lines.extend(_metric_differences(run_a.metrics, run_b.metrics))
    lines.extend(_tree_differences("result", run_a.result, run_b.result))
    return lines


def _tree_differences(where: str, a: Any, b: Any) -> Iterator[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(set(a) | set(b)):
            yield from _tree_differences(f"{where}.{key}", a.get(key), b.get(key))
    elif a != b:
        yield f"{where}: {a!r} against {b!r}"


def _metric_differences(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> Iterator[str]:
    if not np.array_equal(a["step"], b["step"]):
        yield f"metrics.step: {a['step'].size} rows against {b['step'].size}, or other steps"
        return
    for name, kind in schema.METRIC_KIND.items():
        if kind != "result":
            continue
        differs = ~((a[name] == b[name]) | (np.isnan(a[name]) & np.isnan(b[name])))
        if differs.any():
            first = int(np.argmax(differs))
            pair = f"{a[name][first]} against {b[name][first]}"
            yield f"metrics.{name}: {differs.sum()} rows differ, first at step {a['step'][first]}: {pair}"
