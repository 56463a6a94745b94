"""Makes this folder's helpers importable and compilation quick."""

import pathlib
import sys

import jax
import pytest

# pytest's importlib mode does not put a test's folder on the path.
HERE = pathlib.Path(__file__).parent
sys.path += [str(HERE), str(HERE.parent / "optim")]


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """XLA without its costly passes: a third of the time, for models this small run no slower.

    The tests in processes of their own compile as a user's run does.
    """
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
