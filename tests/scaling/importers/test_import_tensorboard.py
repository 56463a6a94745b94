"""TensorBoard event files: simple values, tensors, restarts, wrong folders."""

import importlib.abc
import sys

import numpy as np
import pytest
from import_cases import complaint, imported, run_import

pytest.importorskip("tensorboard")

from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # noqa: E402
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata  # noqa: E402
from tensorboard.compat.proto.tensor_pb2 import TensorProto  # noqa: E402
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto  # noqa: E402
from tensorboard.summary.writer.record_writer import RecordWriter  # noqa: E402
from tensorboard.util.tensor_util import make_tensor_proto  # noqa: E402


def simple(step, **values):
    scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
    return Event(step=step, summary=Summary(value=scalars))


def tensor(step, tag, value, plugin="scalars"):
    """As TensorFlow 2's writer: a tensor of one number, the plugin in the metadata."""
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=plugin))
    proto = make_tensor_proto(np.float32(value)) if not isinstance(value, str) else TensorProto(
        dtype=7, string_val=[value.encode()], tensor_shape=TensorShapeProto())
    return Event(step=step, summary=Summary(value=[Summary.Value(tag=tag, tensor=proto, metadata=metadata)]))


def write_events(path, events, torn=b""):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        writer = RecordWriter(file)
        for event in [Event(file_version="brain.Event:2"), *events]:
            writer.write(event.SerializeToString())
        file.write(torn)
    return path


def test_simple_values_and_tensors_are_read(tmp_path):
    events = [simple(s, train_loss=4.0 - s, lr=0.25) for s in range(3)] + [tensor(2, "valid/loss", 1.5)]
    events += [tensor(0, "note", "text", plugin="text")]
    write_events(tmp_path / "tb" / "events.out.tfevents.1", events, torn=b"\x20\0\0")
    run = imported(tmp_path / "r", "tensorboard", tmp_path / "tb", "--columns", "heldout_loss=valid/loss")
    assert run.metrics["train_loss"].tolist() == [4.0, 3.0, 2.0]
    assert run.schedule.tolist() == [0.25] * 3 and run.heldout_loss == 1.5
    assert run.provenance["columns"] == {"train_loss": "train_loss", "lr": "lr", "heldout_loss": "valid/loss"}


def test_more_points_than_tensorboard_shows_are_all_read(tmp_path):
    # TensorBoard itself keeps a sample of 1000 points a tag.
    write_events(tmp_path / "tfevents", [simple(s, train_loss=2.0, lr=1.0) for s in range(1500)])
    assert imported(tmp_path / "r", "tensorboard", tmp_path / "tfevents").metrics["step"].size == 1500


@pytest.mark.parametrize(("start", "again"), [(True, 4), (True, 2), (False, 2)])
def test_a_restart_is_a_later_attempt(tmp_path, start, again):
    """With TensorBoard's mark of a session start, or by steps that go back as other writers leave them."""
    mark = [Event(step=again, session_log=SessionLog(status=SessionLog.START))] if start else []
    for number, (first, last, loss) in enumerate([(0, 4, 4.0), (again, 6, 3.0)]):
        pairs = [(simple(s, lr=0.5), simple(s, train_loss=loss)) for s in range(first, last)]
        events = [event for pair in pairs for event in pair]
        write_events(tmp_path / "tb" / f"events.out.tfevents.{number}", [*mark, *events])
    run = imported(tmp_path / "r", "tensorboard", tmp_path / "tb")
    assert run.metrics["train_loss"].tolist() == [4.0] * again + [3.0] * (6 - again)
    assert len(run.attempts) == 2


def test_values_that_are_not_finite_are_null(tmp_path):
    events = [simple(0, train_loss=float("inf"), lr=1.0), simple(1, train_loss=1.0)]
    run = imported(tmp_path / "r", "tensorboard", write_events(tmp_path / "tfevents", events))
    assert np.isnan(run.metrics["train_loss"]).tolist() == [True, False]


def test_wrong_folders_and_tags_are_one_line(tmp_path, capsys):
    out = ("--out", tmp_path / "r")
    assert "no such file or folder" in complaint(capsys, "tensorboard", tmp_path / "none", *out)
    path = tmp_path / "logs" / "train" / "events.out.tfevents.1"
    events = write_events(path, [simple(0, loss=1.0, rate=2.0), tensor(1, "note", "text", plugin="")])
    text = complaint(capsys, "tensorboard", tmp_path / "logs", *out)
    assert f"there are some in {events.parent}" in text
    text = complaint(capsys, "tensorboard", events.parent, *out)
    assert "neither train_loss nor heldout_loss" in text and "there are: loss, rate" in text
    text = complaint(capsys, "tensorboard", events.parent, *out, "--columns", "train_loss=loss", "lr=LR")
    assert "no 'LR' for lr; there are: loss, rate" in text
    text = complaint(capsys, "tensorboard", events, *out, "--columns", "step=loss")
    assert "event has its own step" in text
    assert "one run" in complaint(capsys, "tensorboard", events, *out, "--run", "a")
    assert "2 given" in complaint(capsys, "tensorboard", events, events, *out)
    noise = tmp_path / "noise.tfevents"
    noise.write_bytes(b"not an event file at all")
    assert "no scalars in 1 event files" in complaint(capsys, "tensorboard", noise, *out)
    assert not (tmp_path / "r").exists()


def test_a_missing_package_is_named(tmp_path, capsys, monkeypatch):
    class Missing(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == "tensorboard":
                raise ModuleNotFoundError(f"No module named {name!r}", name="tensorboard")

    log = write_events(tmp_path / "tfevents", [simple(0, train_loss=1.0)])
    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    assert run_import("tensorboard", log, "--out", tmp_path / "r") == 1
    assert capsys.readouterr().err == ("scaling: the package 'tensorboard' is not installed: "
                                       "pip install 'jaxlm[track]'\n")
