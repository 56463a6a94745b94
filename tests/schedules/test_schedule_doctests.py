"""Runs the examples in the docstrings of the schedules."""

import doctest
import importlib

import pytest

NAMES = ("arrays", "batch", "config", "constant", "cosine", "cycles", "half_life", "infinite", "inverse_sqrt", "linear",
         "pieces", "power", "shapes", "step_decay", "warmup", "wsd")


@pytest.mark.parametrize("name", NAMES)
def test_examples_of_the_docstrings(name):
    result = doctest.testmod(importlib.import_module(f"jaxlm.schedules.{name}"))
    assert result.attempted > 0 and result.failed == 0
