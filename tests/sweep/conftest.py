"""The study of seconds on which the tests of studies and executors work."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from scaling import record


@pytest.fixture(scope="module")
def tiny():
    """The module of tiny_study.py."""
    spec = importlib.util.spec_from_file_location("tiny_study", Path(__file__).with_name("tiny_study.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def write():
    """A function that records a run as it would stand, without training it."""
    def write_record(root, run, state, reason=None):
        """Records `run` under `root` with a start and a state."""
        folder = root / run.folder
        record.create(folder, {
            "name": run.folder, "study": "s", "seed": 0, "parent": None, "config": {}, "config_hash": "0" * 8,
            "params": {"total": 1, "non_embedding": 1, "with_head": 1}, "tokens_per_update": 64,
            "flops_per_token": {"head": 1},
            "corpus": {"name": "made", "digest": "0"}, "loss_unit": "nats/token", "bytes_per_token": None},
            np.ones(run.updates), {})
        record.start_attempt(folder, {"host": "here"})
        result = {"updates": run.updates, "tokens": 64, "heldout_loss": 1.0, "params_digest": "0"}
        record.set_status(folder, state, reason=reason, result=result if state == "finished" else None)
        return folder

    return write_record
