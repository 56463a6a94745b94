"""Runs and curves from files, frames, arrays and run records, with a declared meaning of their columns."""

from scaling.readers import column_map, known
from scaling.readers.column_map import ColumnMap, CurveRules, FromColumn, RowRules
from scaling.readers.curve_table import CurveSet, curve_of, read_curves
from scaling.readers.table import Table, combine, read_table

__all__ = [
    "ColumnMap",
    "CurveRules",
    "CurveSet",
    "FromColumn",
    "RowRules",
    "Table",
    "column_map",
    "combine",
    "curve_of",
    "known",
    "read_curves",
    "read_table",
]
