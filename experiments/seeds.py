"""What a few seeds show: intervals, paired differences, verdicts, and the tables of reports."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from scaling.errors import InputError

LEVEL = 0.9


def interval(sample: np.ndarray) -> tuple[float, float]:
    """Returns mean and half-width of its t interval at `LEVEL`."""
    half = stats.t.ppf(0.5 + LEVEL / 2, len(sample) - 1) * np.std(sample, ddof=1) / np.sqrt(len(sample))
    return float(np.mean(sample)), float(half)


def paired(name: str, losses: Mapping[int, float], baseline: Mapping[int, float]) -> np.ndarray:
    """Returns the differences of two arms' losses by seed, one for each seed that both have."""
    both = [seed for seed in losses if seed in baseline]
    if len(both) < 2:
        raise InputError(f"{name}: fewer than two seeds finished beside the baseline's; too few for an interval")
    return np.array([losses[seed] - baseline[seed] for seed in both])


def verdict(difference: float, half: float) -> str:
    """Says whether the interval of a difference excludes zero: "lower", "higher" or "null"."""
    if abs(difference) <= half:
        return "null"
    return "lower" if difference < 0 else "higher"


def with_interval(mean: float, half: float, *, signed: bool = False) -> str:
    """Returns "1.2345 ± 0.0012", with a plus sign where `signed`."""
    return f"{mean:+.4f} ± {half:.4f}" if signed else f"{mean:.4f} ± {half:.4f}"


def markdown_table(lines: Sequence[Mapping[str, str]]) -> str:
    """Returns a markdown table of lines that share their keys, the keys as its head."""
    head = "| " + " | ".join(lines[0]) + " |\n|" + "---|" * len(lines[0]) + "\n"
    return head + "".join("| " + " | ".join(line.values()) + " |\n" for line in lines)


def print_table(lines: Sequence[Mapping[str, str]]) -> None:
    """Prints the lines as a table to the terminal."""
    table = Table(*lines[0], box=None, pad_edge=False)
    for line in lines:
        table.add_row(*line.values())
    Console(highlight=False, width=130).print(table)


def write_csv(path: Path, lines: Sequence[Mapping[str, str]]) -> None:
    """Writes the lines as a table of comma-separated values."""
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
