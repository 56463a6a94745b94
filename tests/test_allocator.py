"""The allocator setting: who makes it, what it does to the system's pages, and that no result changes."""

import json
import subprocess
import sys

import pytest

from jaxlm import allocator
from jaxlm.config import ConfigError
from jaxlm.sweep import PoolConfig, pool

# Takes and gives back 32 MB ten times; says how many pages the system had to clear, 4096 bytes each.
PAGES = """
import resource, sys
from jaxlm import allocator
allocator.choose(sys.argv[1])
bytearray(2**25)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    bytearray(2**25)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
TRAINED = """
import hashlib, json, sys
sys.path.append("experiments/bench")
from jaxlm import allocator
allocator.choose(sys.argv[1])
import sides
advance = sides.jaxlm({"layers": 2, "width": 64, "heads": 4, "feed_forward": 256, "vocabulary": 256, "sequence": 64,
                       "batch": 8}, "float32")
print(json.dumps([advance() for _ in range(8)]))
"""


def run(program, *words):
    return subprocess.run([sys.executable, "-c", program, *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def kept(monkeypatch):
    """How often memory was kept."""
    calls = []
    monkeypatch.setattr(allocator, "keep", lambda: calls.append(True))
    return calls


@pytest.mark.parametrize("choice, platforms, expected", [
    ("keep", "cuda", 1), ("system", "cpu", 0), ("auto", "cpu", 1), ("auto", "tpu", 0), ("auto", "cuda,cpu", 0)])
def test_auto_keeps_memory_where_there_is_only_a_cpu(kept, monkeypatch, choice, platforms, expected):
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    allocator.choose(choice)
    assert len(kept) == expected


def test_auto_takes_a_plugin_for_an_accelerator(kept, monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setattr(allocator.metadata, "entry_points", lambda group: ["cuda"] if group == "jax_plugins" else [])
    allocator.choose("auto")
    assert not kept


def test_goes_on_where_there_is_no_glibc(monkeypatch):
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert allocator.keep() is False


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's setting")
def test_kept_memory_is_not_taken_from_the_system_again():
    kept, given_back = int(run(PAGES, "keep")), int(run(PAGES, "system"))
    # 8192 pages each time; huge pages, where the system uses them, are 512 of these.
    assert kept < 100 and given_back > 10 * max(kept, 1), (kept, given_back)


def test_the_pool_hands_its_choice_to_its_workers(monkeypatch, tmp_path):
    commands = []

    class Process:
        stdin, stdout = None, ()

        def __init__(self, command, **options):
            commands.append(command)

    monkeypatch.setattr(pool.subprocess, "Popen", Process)
    pool.Pool(None, tmp_path / "study", tmp_path, options=PoolConfig(allocator="system"))._start_worker()
    assert commands[0][-2:] == ["--allocator", "system"]


def test_an_unknown_choice_is_refused():
    with pytest.raises(ConfigError, match="allocator = 'jemalloc': must be one of auto, keep, system"):
        PoolConfig(allocator="jemalloc")


@pytest.mark.slow
def test_losses_are_the_same_bit_for_bit():
    assert json.loads(run(TRAINED, "keep")) == json.loads(run(TRAINED, "system"))
