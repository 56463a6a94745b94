"""`jaxlm doctor`: each reason that a run would not be exact has a known answer, and the self-test can fail."""

import contextlib
import dataclasses
import errno

import numpy as np
import pytest

from jaxlm.cli import main
from jaxlm.cli.doctor import facts, place, problems, requirements, selftest
from jaxlm.cli.doctor.place import Place
from jaxlm.cli.doctor.requirements import Package, satisfies
from jaxlm.cli.doctor.selftest import SelfTest
from scaling import record
from scaling.record import files, lock

HERE = {"jaxlib": "0.10.2", "processor": "p", "platform": "cpu", "devices": 1, "cpu_threads": 2, "mesh": [1, 1, 1],
        "kinds": ["cpu"]}
ATTEMPT = {key: HERE[key] for key in HERE if key != "kinds"} | {"command": ["jaxlm", "train"]}
GOOD = facts.Facts(
    packages={"": [Package(name="jax", wanted=">=0.10,<0.13", installed="0.10.2")],
              "train": [Package(name="flax", wanted=">=0.12.6", installed="0.12.8")],
              "plots": [Package(name="matplotlib", wanted=">=3.9", installed=None)]},
    conditions=HERE, device_error=None, settings=dict(facts.ASSUMED), environment={},
    place=Place(path="runs", tried="runs", free_bytes=1), self_test=SelfTest(), unfinished=())


def with_setting(name, value):
    return {"settings": facts.ASSUMED | {name: value}}


def test_a_good_place_has_no_problem():
    assert problems.problems(GOOD) == []


@pytest.mark.parametrize(("changes", "message"), [
    ({"packages": {"": [Package(name="jax", wanted=">=0.10,<0.13", installed="0.9.1")]}},
     "jax 0.9.1 is installed, jaxlm asks for jax>=0.10,<0.13"),
    ({"packages": {"train": [Package(name="flax", wanted=">=0.12.6", installed=None)]}}, "flax is not installed"),
    ({"device_error": "no cuda", "conditions": {}, "self_test": SelfTest(error="no device")},
     "JAX starts no device: no cuda"),
    ({"conditions": HERE | {"platform": "gpu"}}, "GPU without deterministic operations: set XLA_FLAGS="),
    ({"conditions": HERE | {"platform": "gpu"}, "environment": {"XLA_FLAGS": "--xla_gpu_deterministic_ops=false"}},
     "GPU without deterministic operations"),
    ({"environment": {"XLA_FLAGS": "--a=1 --xla_cpu_enable_fast_math=true"}}, "XLA_FLAGS has --xla_cpu_enable_fast"),
    (with_setting("jax_enable_x64", True), "jax_enable_x64 is True, jaxlm assumes False"),
    (with_setting("jax_default_prng_impl", "rbg"), "jax_default_prng_impl is rbg, jaxlm assumes threefry2x32"),
    (with_setting("jax_threefry_partitionable", False), "jax_threefry_partitionable is False"),
    (with_setting("jax_default_matmul_precision", "bfloat16"), "jax_default_matmul_precision is bfloat16"),
    ({"place": Place(path="r", tried="r", free_bytes=1, write_error="Read-only file system")},
     "r cannot hold records: Read-only file system"),
    ({"place": Place(path="r", tried="r", free_bytes=1, lock_error="two processes may hold one lock")},
     "r has no working locks, so two processes could write one run"),
    ({"self_test": SelfTest(repeated=("a: 1 against 2", "b"))},
     "self-test: a run trained twice is not equal in 2 fields: a: 1 against 2"),
    ({"self_test": SelfTest(resumed=("a: 1 against 2",))}, "self-test: a run stopped and restored is not equal"),
    ({"self_test": SelfTest(error="XlaRuntimeError: x")}, "the self-test failed: XlaRuntimeError: x"),
    ({"unfinished": (("s/run", ATTEMPT | {"jaxlib": "0.9"}),)},
     "s/run would not go on bit for bit: jaxlib: 0.9 before, 0.10.2 now"),
    ({"unfinished": (("s/run", ATTEMPT | {"cpu_threads": 1}),)}, "s/run would not go on bit for bit: cpu_threads"),
])
def test_each_reason_is_one_line(changes, message):
    (line,) = problems.problems(dataclasses.replace(GOOD, **changes))
    assert message in line and "\n" not in line


@pytest.mark.parametrize("changes", [
    {"conditions": HERE | {"platform": "gpu"}, "environment": {"XLA_FLAGS": "--xla_gpu_deterministic_ops=true"}},
    {"environment": {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}},
    {"unfinished": (("s/run", ATTEMPT),)},
    # A study pins its workers to one core each, wherever it is started.
    {"unfinished": (("s/run", ATTEMPT | {"cpu_threads": 1, "command": ["worker.py", "--core", "0"]}),)},
    {"unfinished": (("s/run", ATTEMPT | {"mesh": [2, 1, 1]}),)},
])
def test_what_changes_no_result_is_no_problem(changes):
    assert problems.problems(dataclasses.replace(GOOD, **changes)) == []


@pytest.mark.parametrize(("version", "wanted", "fits"), [
    ("0.10.2", ">=0.10,<0.13", True), ("0.13", ">=0.10,<0.13", False), ("0.9.9", ">=0.10", False),
    ("2.0", "==2", True), ("2.0.1", "==2", False), ("0.0.42.7", "==0.0.42.*", True), ("0.0.43", "==0.0.42.*", False),
    ("3.0.0rc1", ">=3", True), ("1.5", "", True), ("1.5", "!=1.5", False),
])
def test_versions(version, wanted, fits):
    assert satisfies(version, wanted) is fits


def test_the_installed_distribution_is_read():
    extras = requirements.wanted()
    assert {"jax", "numpy"} <= {package.name for package in extras[""]}
    assert [package.name for package in extras["tables"]] == ["pandas", "pyarrow"]
    assert all(package.fits for package in extras[""])
    assert len(extras["gpu"]) > 1, "what jax[cuda13] asks for belongs to the extra gpu"


def test_a_place_is_tried_and_left_as_it_was(tmp_path):
    found = place.try_place(tmp_path / "not" / "there")
    assert (found.write_error, found.lock_error) == (None, None) and found.free_bytes > 0
    assert found.tried == str(tmp_path) and list(tmp_path.iterdir()) == []


def test_a_place_that_is_read_only_is_found(tmp_path, monkeypatch):
    def refuse(path, data):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(files, "replace_atomically", refuse)
    assert "Read-only" in place.try_place(tmp_path).write_error


def test_locks_that_lock_nothing_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "run_lock", lambda folder: contextlib.nullcontext())
    monkeypatch.setattr(lock, "is_held", lambda folder: True)
    assert place.try_place(tmp_path).lock_error == "two processes may hold one lock"
    monkeypatch.setattr(lock, "is_held", lambda folder: False)
    assert place.try_place(tmp_path).lock_error == "a lock that is held looks free"


def identity(name):
    return {"name": name, "study": "s", "seed": 0, "parent": None, "config": {}, "config_hash": "0",
            "params": {"total": 1, "non_embedding": 1, "with_head": 1}, "tokens_per_update": 1, "flops_per_token": {},
            "corpus": {"name": "", "digest": ""}, "loss_unit": "nats/token", "bytes_per_token": None}


def test_unfinished_runs_are_found_with_their_last_attempt(tmp_path):
    for name, state in (("a", "preempted"), ("b", "diverged"), ("c", "failed")):
        record.create(tmp_path / name, identity(name), np.ones(2), {})
        for host in ("first", "last"):
            record.start_attempt(tmp_path / name, {"host": host})
        record.set_status(tmp_path / name, state)
    assert [(name, attempt["host"]) for name, attempt in facts.unfinished(tmp_path)] == [("s/a", "last"), ("s/c", "last")]
    assert facts.unfinished(tmp_path / "nowhere") == ()


def test_the_self_test_sees_a_difference(monkeypatch):
    import jaxlm.train

    def fake(config, root, data_root, *, stop_at):
        folder = root / config.folder
        record.create(folder, identity("doctor"), np.ones(4), {})
        loss = {"straight": 1.0, "again": 1.0, "stopped": 1.0000001}[root.name]
        if stop_at is None:
            record.write_segment(folder, record.start_attempt(folder, {}),
                                 [{"step": 0, "tokens": 1, "train_loss": loss}])

    monkeypatch.setattr(jaxlm.train, "train", fake)
    found = selftest.self_test()
    assert found.error is None and found.repeated == ()
    assert len(found.resumed) == 1 and "metrics.train_loss" in found.resumed[0]
    monkeypatch.setattr(jaxlm.train, "train", lambda *args, **kwargs: 1 / 0)
    assert selftest.self_test().error == "ZeroDivisionError: division by zero"


@pytest.mark.slow
def test_a_real_tiny_run_equals_itself():
    import jax

    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)  # compiles in a third of the time
    try:
        found = selftest.self_test()
    finally:
        jax.config.update("jax_disable_most_optimizations", before)
    assert dataclasses.replace(found, seconds=0.0) == SelfTest()


def test_the_command_prints_the_table_and_every_reason(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(facts, "self_test", lambda: SelfTest(repeated=("x",)))
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    assert main(["doctor", "--out", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "extra tables" in out and "self-test" in out and "runs would not be exact here:" in out
    assert out.count("\n  ") == 2, out
    monkeypatch.setattr(facts, "self_test", SelfTest)
    monkeypatch.delenv("XLA_FLAGS")
    assert main(["doctor", "--out", str(tmp_path)]) == 0
    assert "runs are exact here" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "message"), [
    (["--out", "FILE"], "is a file, not a folder"), (["extra"], "extra: no such option")])
def test_a_mistake_is_one_line(words, message, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["doctor", *[str(tmp_path / "file") if word == "FILE" else word for word in words]]) == 2
    stderr = capsys.readouterr().err
    assert message in stderr and stderr.count("\n") == 1, stderr
