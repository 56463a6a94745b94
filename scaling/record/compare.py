"""Equality of two runs over all result fields."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from scaling.record import diagnostics, schema
from scaling.record.reader import Run


def equal(run_a: Run, run_b: Run) -> list[str]:
    """Returns one line for each result field that differs, an empty list where the runs are equal.

    Compared bit for bit: identity, schedule, metrics and diagnostics of kind `result`, and the result
    with the digest of the final parameters. NaN equals NaN. Measured fields are not looked at.
    """
    lines = list(_tree_differences("identity", run_a.identity, run_b.identity))
    if not np.array_equal(run_a.schedule, run_b.schedule):
        lines.append("schedule: the arrays differ")
    lines.extend(_column_differences("metrics", run_a.metrics, run_b.metrics, schema.METRIC_KIND))
    lines.extend(_column_differences("diagnostics", run_a.diagnostics, run_b.diagnostics, diagnostics.KIND))
    lines.extend(_tree_differences("result", run_a.result, run_b.result))
    return lines


def _tree_differences(where: str, a: Any, b: Any) -> Iterator[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(set(a) | set(b)):
            yield from _tree_differences(f"{where}.{key}", a.get(key), b.get(key))
    elif a != b:
        yield f"{where}: {a!r} against {b!r}"


def _column_differences(
    stream: str, a: dict[str, np.ndarray], b: dict[str, np.ndarray], kinds: dict[str, str]
) -> Iterator[str]:
    if not np.array_equal(a["step"], b["step"]):
        yield f"{stream}.step: {a['step'].size} rows against {b['step'].size}, or other steps"
        return
    for name, kind in kinds.items():
        if kind != "result":
            continue
        if a[name].shape != b[name].shape:
            yield f"{stream}.{name}: shape {a[name].shape} against {b[name].shape}"
            continue
        differs = ~((a[name] == b[name]) | (np.isnan(a[name]) & np.isnan(b[name])))
        differs = differs.any(axis=tuple(range(1, differs.ndim)))  # a list is one value of its row
        if differs.any():
            first = int(np.argmax(differs))
            pair = f"{a[name][first].tolist()} against {b[name][first].tolist()}"
            yield f"{stream}.{name}: {differs.sum()} rows differ, first at step {a['step'][first]}: {pair}"
