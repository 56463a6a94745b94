"""One compilation for all runs of one shape, shared by processes through JAX's persistent cache."""

import json
import os
import re
import subprocess
import sys

import pytest

from jaxlm import config as configs
from jaxlm import data
from jaxlm.optim import AdamW
from jaxlm.sweep.cache import VARIABLE, cache_environment, check_cache


def work(runs, root, cache):
    """Hands `runs` to one worker of the pool; returns what JAX logged of run_chunk: programs asked for, hits in the
    cache."""
    lines = "".join(json.dumps({"run": configs.to_dict(run), "study": "s", "mirrors": []}) + "\n" for run in runs)
    environment = os.environ | {
        VARIABLE: cache, "JAX_PLATFORMS": "cpu", "JAX_LOG_COMPILES": "1", "JAX_DISABLE_MOST_OPTIMIZATIONS": "True",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    command = [sys.executable, "-m", "jaxlm.sweep.worker", "--root", str(root / "s"), "--data", str(root / "data")]
    with open(root / "log", "w") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                                   env=environment)
    process.stdin.write(lines)
    process.stdin.flush()
    ended = []
    for line in process.stdout:
        if json.loads(line)["event"] == "done":
            ended.append(json.loads(line))
            if len(ended) == len(runs):
                process.stdin.close()  # closed before, it would stop the run in hand
    process.wait()
    text = (root / "log").read_text()
    assert [message["status"] for message in ended] == ["finished"] * len(runs), text[-3000:]
    return {kind: len(re.findall(pattern, text)) for kind, pattern in {
        "asked": r"Finished XLA compilation of jit[_(]run_chunk",
        "hit": r"Persistent compilation cache hit for 'jit_run_chunk'"}.items()}


def check_one_worker(tiny, root, cache):
    first = tiny.run("a", updates=4)
    alike = [first, tiny.run("b", updates=8, peak_lr=3e-3, decay=4, seed=7, optimizer=AdamW(weight_decay=0.5))]
    data.prepare_all(first.data, root / "data")
    assert work(alike, root, cache) == {"asked": 1, "hit": 0}  # the second run compiles nothing


def check_sharing(tiny, root, cache):
    check_one_worker(tiny, root, cache)
    assert work([tiny.run("d", updates=4, seed=8)], root, cache) == {"asked": 1, "hit": 1}


@pytest.mark.slow
def test_rate_decay_seed_and_length_share_a_compilation(tiny, tmp_path):
    check_one_worker(tiny, tmp_path, str(tmp_path / "xla"))
    assert len(list((tmp_path / "xla").glob("jit_run_chunk-*-cache"))) == 1


@pytest.mark.slow
def test_two_workers_share_a_compilation(tiny, tmp_path):
    check_sharing(tiny, tmp_path, str(tmp_path / "xla"))


@pytest.mark.slow
def test_the_cache_lies_on_an_object_store(tiny, tmp_path, store):
    check_sharing(tiny, tmp_path, f"{store}/xla")
    from scaling.record import files

    assert [name for name in files.names(files.folder(f"{store}/xla")) if name.startswith("jit_run_chunk-")]


def test_where_the_cache_lies(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert cache_environment("", tmp_path) == {VARIABLE: str(tmp_path / ".cache" / "xla")}
    assert cache_environment("gs://bucket/xla", tmp_path) == {VARIABLE: "gs://bucket/xla"}
    monkeypatch.setenv(VARIABLE, "/given")
    assert cache_environment("", tmp_path) == {VARIABLE: "/given"}
    monkeypatch.chdir(tmp_path)
    assert cache_environment("xla", tmp_path) == {VARIABLE: str(tmp_path / "xla")}
    with pytest.raises(configs.ConfigError, match="cache = 'http://x': must be a local folder or a URL of gs://"):
        check_cache("http://x")
