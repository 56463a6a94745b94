"""Intervals and verdicts over a few seeds."""

import importlib
import pathlib
import sys

import numpy as np
import pytest

from scaling.errors import InputError

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "experiments"))
seeds = importlib.import_module("seeds")


def test_the_interval_is_students():
    mean, half = seeds.interval(np.array([1.0, 2.0, 3.0]))
    assert mean == 2.0 and half == pytest.approx(2.919986 / 3**0.5, rel=1e-6)  # t of 0.95 at 2 degrees of freedom


def test_differences_are_paired_by_seed():
    np.testing.assert_allclose(seeds.paired("a", {1: 2.5, 2: 2.0, 3: 9.0}, {2: 1.5, 1: 1.0}), [1.5, 0.5])
    with pytest.raises(InputError, match="a: fewer than two seeds"):
        seeds.paired("a", {1: 2.5, 2: 2.0}, {2: 1.5})


@pytest.mark.parametrize(("difference", "half", "said"), [(0.1, 0.2, "null"), (-0.1, 0.1, "null"), (0.3, 0.2, "higher"),
                                                          (-0.3, 0.2, "lower")])
def test_a_verdict_needs_an_interval_without_zero(difference, half, said):
    assert seeds.verdict(difference, half) == said


def test_tables(tmp_path, capsys):
    lines = [{"arm": "a", "loss": "1.0"}, {"arm": "b", "loss": "2.0"}]
    assert seeds.markdown_table(lines) == "| arm | loss |\n|---|---|\n| a | 1.0 |\n| b | 2.0 |\n"
    seeds.write_csv(tmp_path / "t.csv", lines)
    assert (tmp_path / "t.csv").read_text() == "arm,loss\na,1.0\nb,2.0\n"
    seeds.print_table(lines)
    assert "arm" in capsys.readouterr().out
