"""The study of seconds on which the tests of studies and executors work."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def tiny():
    """The module of tiny_study.py."""
    spec = importlib.util.spec_from_file_location("tiny_study", Path(__file__).with_name("tiny_study.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
