"""The stream of diagnostics in a record: rows of `schema.DIAGNOSTICS`, numbers and lists of numbers."""

from typing import Any

import numpy as np

from scaling.errors import InputError
from scaling.record import files, schema

KIND = {field.name: field.kind for field in schema.DIAGNOSTICS}


def clean_row(row: dict, index: int) -> dict:
    """Returns `row` as strict JSON data, null for what is not finite; raises `InputError` for a wrong field."""
    clean = {}
    for key, value in row.items():
        if key not in KIND:
            raise InputError(f"rows[{index}].{key}: no such diagnostic; known: {', '.join(KIND)}")
        value = value.tolist() if isinstance(value, (np.generic, np.ndarray)) else value
        whole = [files.null_if_not_finite(item) for item in value] if isinstance(value, (list, tuple)) else value
        clean[key] = files.null_if_not_finite(whole)
        if not _is_value(clean[key]):
            raise InputError(f"rows[{index}].{key} = {value!r}: must be a number, a list of numbers, or None")
    step = clean.get("step")
    if type(step) is not int or step < 0:
        raise InputError(f"rows[{index}].step = {step!r}: must be an integer from 0")
    return clean


def is_row(row: object) -> bool:
    """Whether `row`, as read from a file, is a row of this stream."""
    return (isinstance(row, dict) and set(row) <= set(KIND) and type(row.get("step")) is int
            and all(map(_is_value, row.values())))


def columns(rows: list[dict]) -> dict[str, np.ndarray]:
    """Returns an array for each diagnostic: int64 [rows] for step, else float64 [rows] or [rows, entries].

    NaN stands for null, for a field that a row lacks, and behind the end of a list that is shorter than
    those of other rows.
    """
    found = {field.name: _column([row.get(field.name) for row in rows]) for field in schema.DIAGNOSTICS}
    return found | {"step": np.array([row["step"] for row in rows], dtype=np.int64)}


def _column(values: list[Any]) -> np.ndarray:
    lengths = [len(value) for value in values if isinstance(value, list)]
    column = np.full((len(values), *([max(lengths)] if lengths else [])), np.nan)
    for index, value in enumerate(values):
        if isinstance(value, list):
            column[index, :len(value)] = value  # null becomes NaN
        elif value is not None:
            column[index] = value
    return column


def _is_value(value: object) -> bool:
    entries = value if isinstance(value, list) else [value]
    return all(entry is None or type(entry) in (int, float) for entry in entries)
