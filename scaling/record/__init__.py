"""The run record: one folder per training run, written and read by these functions alone."""

from scaling.record.compare import equal
from scaling.record.export import to_csv
from scaling.record.reader import Run, find, read
from scaling.record.schema import SCHEMA_VERSION, STATES, Field
from scaling.record.writer import create, set_status, start_attempt, write_segment

__all__ = [
    "SCHEMA_VERSION",
    "STATES",
    "Field",
    "Run",
    "create",
    "equal",
    "find",
    "read",
    "set_status",
    "start_attempt",
    "to_csv",
    "write_segment",
]
