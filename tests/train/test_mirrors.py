"""Mirrors: what they show is what was recorded, and nothing that goes wrong in one reaches the run."""

import json
import os
import struct
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest

from jaxlm.config import ConfigError
from jaxlm.train import mirrors
from scaling import cli, record
from scaling.importers import read_tensorboard

ROOT = Path(__file__).resolve().parents[2]
RESULT = {"updates": 8, "tokens": 512, "heldout_loss": 2.25, "params_digest": None}


def rows(first, last, loss=4.0):
    """Rows as the loop records them: losses are float32 values, the rate is float64."""
    made = [{"step": s, "tokens": 64 * (s + 1), "lr": 1e-3 / (s + 1), "heldout_loss": None,
             "train_loss": float(np.float32(loss - 0.1 * s)), "seconds": 0.5} for s in range(first, last)]
    made[-1]["heldout_loss"] = 2.25
    return made


def write_mirrored(folder, attempts, names=("tensorboard",)):
    """A record and its mirrors, written side by side as the loop does; returns the warnings."""
    identity = {
        "name": folder.name, "study": "s", "seed": 0, "parent": None, "config": {"width": 8},
        "config_hash": "0", "params": {"total": 3, "non_embedding": 1, "with_head": 2},
        "tokens_per_update": 64, "flops_per_token": {}, "corpus": {"name": "none", "digest": "0"},
        "loss_unit": "nats/token", "bytes_per_token": 1.0}
    warnings = []
    record.create(folder, identity, np.array([1e-3 / (s + 1) for s in range(8)]), {})
    for first, last, loss in attempts:
        attempt = record.start_attempt(folder, {})
        opened = mirrors.open_mirrors(names, folder, identity["config"], attempt, warn=warnings.append)
        for segment in (rows(first, last - 2, loss), rows(last - 2, last, loss)):
            record.write_segment(folder, attempt, segment)
            opened.write(segment)
        opened.close("preempted")
    record.set_status(folder, "finished", result=RESULT)
    return warnings


@pytest.fixture
def mirrored(tmp_path):
    """A run that was interrupted after update 5 and went on from update 4."""
    pytest.importorskip("tensorboard")
    assert write_mirrored(tmp_path / "run", [(0, 6, 4.0), (4, 8, 3.0)]) == []
    return tmp_path / "run"


def test_a_record_comes_back_through_tensorboard(mirrored, tmp_path):
    fields = ["state=finished", "seed=0", "params.total=3", "params.non_embedding=1", "params.with_head=2",
              "tokens_per_update=64", "loss_unit=nats/token", "corpus.name=none"]
    out = str(tmp_path / "back")
    arguments = ["import", "tensorboard", str(mirrored / "tensorboard"), "--out", out, "--set", *fields]
    assert cli.main(arguments) == 0
    ours, back = record.read(mirrored), record.read(out)
    for name in ("step", "tokens", "train_loss", "heldout_loss", "seconds"):
        np.testing.assert_array_equal(back.metrics[name], ours.metrics[name], err_msg=name)
    # A rate of float64 went through float32: half a unit in its last place.
    np.testing.assert_allclose(back.schedule, ours.schedule, rtol=2**-24)
    assert (back.tokens, back.heldout_loss, len(back.attempts)) == (ours.tokens, ours.heldout_loss, 2)


def test_tensorboard_itself_drops_what_the_resume_repeats(mirrored):
    from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    reader = EventAccumulator(str(mirrored / "tensorboard"))
    reader.Reload()
    shown = {event.step: make_ndarray(event.tensor_proto).item() for event in reader.Tensors("train_loss")}
    assert len(reader.Tensors("train_loss")) == 8
    assert shown == {row["step"]: row["train_loss"] for row in rows(0, 4) + rows(4, 8, 3.0)}


def test_lists_are_mirrored_by_index(tmp_path):
    pytest.importorskip("tensorboard")
    opened = mirrors.open_mirrors(["tensorboard"], tmp_path, {}, 0)
    opened.write([{"step": 3, "train_loss": 2.0, "attention_entropy": [0.5, None, 0.25]}])
    opened.close("finished")
    names = {"grad_l1": "attention_entropy/0", "grad_l2": "attention_entropy/2"}
    log = read_tensorboard(tmp_path / "tensorboard", names)
    assert log.attempts == (({"step": 3, "train_loss": 2.0, "grad_l1": 0.5, "grad_l2": 0.25},),)


class Broken:
    def write(self, rows):
        raise OSError(28, "No space left on device")

    def close(self, state):
        raise RuntimeError("never reached")


class Kept:
    def __init__(self):
        self.seen = []

    def write(self, rows):
        self.seen += rows

    def close(self, state):
        self.seen.append(state)


def test_a_failing_mirror_is_off_with_one_warning_and_the_others_go_on():
    warnings, kept = [], Kept()
    opened = mirrors.Mirrors(open={"wandb": Broken(), "tensorboard": kept}, warn=warnings.append)
    opened.write([{"step": 0}])
    opened.write([{"step": 1}])
    opened.close("finished")
    opened.close("finished")
    assert kept.seen == [{"step": 0}, {"step": 1}, "finished"]
    assert warnings == ["mirror wandb is off, the record goes on: [Errno 28] No space left on device"]


def test_a_mirror_that_cannot_open_is_left_out(tmp_path):
    pytest.importorskip("tensorboard")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").write_text("a file")
    for folder, name, reason in ((tmp_path / "run", "tensorboard", "File exists"),
                                 (tmp_path, "aim", "must be one of"),
                                 ("memory://run", "tensorboard", "not a local folder")):
        warnings = []
        opened = mirrors.open_mirrors([name, name], folder, {}, 0, warn=warnings.append)
        opened.write(rows(0, 1))
        opened.close("finished")
        assert len(warnings) == 1 and reason in warnings[0]


def test_wrong_names_and_missing_packages_are_refused_before_a_run(monkeypatch):
    with pytest.raises(ConfigError, match="mirror = 'aim': must be one of tensorboard, wandb"):
        mirrors.check_mirrors(["aim"])
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'jaxlm\[track\]'"):
        mirrors.check_mirrors(["wandb"])


def test_a_resumed_wandb_run_gets_only_new_steps_and_leaves_the_process_alone(tmp_path, monkeypatch):
    logged, ended, leave = [], [], sys.exit

    def init(**options):
        sys.exit = print  # as wandb does
        logged.append((options["id"], options["resume"], options["project"]))
        return types.SimpleNamespace(step=5, summary={}, log=lambda row, step: logged.append((step, row)),
                                     finish=lambda exit_code: ended.append(exit_code))

    settings = type("Settings", (), {"model_fields": {"silent": None}, "__init__": lambda self, silent: None})
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init, Settings=settings))
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    opened = mirrors.open_mirrors(["wandb"], tmp_path / "study" / "run-a", {}, 1)
    assert sys.exit is leave
    opened.write([{"step": s, "train_loss": 1.0, "lr": [0.5, None]} for s in range(3, 7)])
    opened.write([{"step": 6, "train_loss": 2.0}])
    opened.close("preempted")
    row = {"train_loss": 1.0, "lr/0": 0.5}
    assert logged == [("run-a", "allow", "study"), (5, row), (6, row)]
    assert ended == [1]


# Runs in a process of its own: it ends by SIGKILL with a mirror open.
KILLED = """
import importlib.util, json, os, signal, sys, threading
from pathlib import Path

connections = []
sys.addaudithook(lambda event, found: event == "socket.connect" and connections.append(str(found[1])))
spec = importlib.util.spec_from_file_location("mirrors", sys.argv[1])
mirrors = importlib.util.module_from_spec(spec)
spec.loader.exec_module(mirrors)

def hooks():
    signals = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    return [*signals, sys.exit, sys.excepthook, sys.stdout, sys.stderr, threading.excepthook]

before, folder, rows = hooks(), Path(sys.argv[2]), json.loads(sys.argv[3])
for name in ("run-a", "run-b"):
    opened = mirrors.open_mirrors(["wandb"], folder / name, {"model": {"width": 8}}, 0, warn=print)
    opened.write(rows)
    opened.write(rows[:2])
    if name == "run-a":
        opened.close("finished")
found = {"same": before == hooks(), "connections": connections, "open": list(opened.open)}
print(json.dumps(found), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_wandb_offline_keeps_the_rows_uses_no_network_and_dies_with_its_process(tmp_path):
    pytest.importorskip("wandb")
    command = [sys.executable, "-c", KILLED, mirrors.__file__, str(tmp_path), json.dumps(rows(0, 4))]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"WANDB_MODE": "offline"}, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate(timeout=120)
    # One line on stdout and nothing on stderr: the mirror is quiet.
    assert (err, out.count("\n")) == ("", 1), (out, err)
    found = json.loads(out)
    assert found["same"] and found["open"] == ["wandb"]
    # A Unix socket to wandb's own service is a path; an internet address would be a tuple.
    assert found["connections"] and all(address.startswith("/") for address in found["connections"])
    shown = [{"step": s} | items for s, items in history(tmp_path / "run-a")]
    assert shown == [{name: value for name, value in row.items() if value is not None} for row in rows(0, 4)]
    deadline = time.monotonic() + 20
    while services(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not services(process.pid), "wandb's service outlives its process"


def services(pid):
    """Command lines of the wandb services that serve process `pid`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"wandb-core" in words[0] and str(pid).encode() in words:
            found.append(words)
    return found


def history(folder):
    """(step, values) of every row in the offline file of a run, read as LevelDB's log format."""
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    data, position, message, found = path.read_bytes(), 7, b"", []
    while position + 7 <= len(data):
        room = 32768 - position % 32768
        if room < 7:  # a block's rest that holds no header is padding
            position += room
            continue
        length, kind = struct.unpack_from("<HB", data, position + 4)
        message += data[position + 7:position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            entry = wandb_internal_pb2.Record.FromString(message)
            message = b""
            items = entry.history.item
            values = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in items}
            if values:
                own = {name: value for name, value in values.items() if not name.startswith("_")}
                found.append((values["_step"], own))
    return found
