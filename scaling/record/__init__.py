"""The run record: one folder per training run, written and read by these functions alone."""

from scaling.record.compare import equal
from scaling.record.export import metrics_table, run_table, to_csv
from scaling.record.lease import LeaseLost
from scaling.record.lock import Hold, is_held, run_lock
from scaling.record.reader import Run, find, read
from scaling.record.schema import SCHEMA_VERSION, STATES, Field
from scaling.record.summary import Summary, summaries, summarise
from scaling.record.writer import create, set_status, start_attempt, write_diagnostics, write_segment

__all__ = [
    "SCHEMA_VERSION",
    "STATES",
    "Field",
    "Hold",
    "LeaseLost",
    "Run",
    "Summary",
    "create",
    "equal",
    "find",
    "is_held",
    "metrics_table",
    "read",
    "run_lock",
    "run_table",
    "set_status",
    "start_attempt",
    "summaries",
    "summarise",
    "to_csv",
    "write_diagnostics",
    "write_segment",
]
