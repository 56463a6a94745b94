"""The long form of the kill test; its short form is in tests/sweep/test_pool.py."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.kills
def test_ten_runs_killed_a_hundred_times_end_with_equal_records(tmp_path):
    command = [sys.executable, "experiments/kills.py", "--out", tmp_path, "--report", tmp_path / "kills.md"]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)
    report = (tmp_path / "kills.md").read_text()
    assert done.returncode == 0, report
    assert "10 runs, 10 finished" in report and "| signals | 100 |" in report and "| differences | 0 |" in report
