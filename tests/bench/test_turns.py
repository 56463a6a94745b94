"""Turns of processes: who has one when, what is made of their times, and what a failure says."""

import contextlib
import importlib
import pathlib
import sys

import pytest

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "experiments" / "bench"))
turns = importlib.import_module("turns")

# Answers with the number of the call as its time and writes its name to a file that all share.
ANSWERS = """
import json, sys
for number, line in enumerate(sys.stdin):
    open(sys.argv[1], "a").write(sys.argv[2])
    print(json.dumps({"seconds": 1.0 + number, "cpu_seconds": 2.0 + number}), flush=True)
"""


def child(program, *words):
    return turns.Child([sys.executable, "-c", program, *words], {}, "it")


def test_turns_are_means_of_single_updates_and_rounds_begin_with_another_child(tmp_path):
    order = tmp_path / "order"
    with contextlib.ExitStack() as stack:
        children = {name: stack.enter_context(contextlib.closing(child(ANSWERS, str(order), name))) for name in "abc"}
        taken = turns.take(children, rounds=4, updates=2)
    assert order.read_text() == "abcabc" + "aabbcc" + "bbccaa" + "ccaabb" + "aabbcc"
    assert [turn["seconds"] for turn in taken["b"]] == [3.5, 5.5, 7.5, 9.5]  # two calls came before


def test_the_first_step_counts_from_the_start_of_the_process(tmp_path):
    with contextlib.closing(child(ANSWERS, str(tmp_path / "order"), "a")) as it:
        first = it.first_step()
    assert first["seconds"] == 1.0 and 0 < first["process_seconds"] < 60


def test_a_process_that_ends_or_answers_with_an_error_has_failed():
    with contextlib.closing(child("raise SystemExit(7)")) as it, pytest.raises(turns.Failed, match="exit code 7"):
        it.ask()
    program = "input(); print('{\"error\": \"No module\"}')"
    with contextlib.closing(child(program)) as it, pytest.raises(turns.Failed, match="^No module$"):
        it.ask()


def test_ratios_are_of_medians_minima_and_pairs():
    over = [{"seconds": value} for value in (4.0, 6.0, 20.0)]
    under = [{"seconds": value} for value in (2.0, 1.0, 4.0)]
    assert turns.ratios(over, under) == {"medians": 3.0, "minima": 4.0, "paired": 5.0, "quartiles": [3.5, 5.5],
                                         "range": [2.0, 6.0]}
    assert turns.ratios(over[:1], under[:1])["quartiles"] == [2.0, 2.0]


def test_a_summary_has_medians_and_minima_of_every_figure():
    made = turns.summary([{"seconds": 3.0, "faults": 7}, {"seconds": 1.0, "faults": 9}, {"seconds": 2.0, "faults": 8}])
    assert made == {"median": {"seconds": 2.0, "faults": 8}, "minimum": {"seconds": 1.0, "faults": 7}}
