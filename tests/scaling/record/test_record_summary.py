"""Summaries agree with the full reader, read little, and name damaged runs; tables hold what records hold."""

import csv
import fcntl
import json
import math

import numpy as np
import pytest

from scaling import record
from scaling.errors import InputError
from scaling.record import export


def make(folder, *, seed=0, finished=True, config=None, segments=((0, 0, 4), (0, 4, 8))):
    """A record of eight updates; segments are (attempt, first step, end)."""
    record.create(folder, {
        "name": folder.name, "study": "s", "seed": seed, "parent": None,
        "config": {"model": {"width": 8 + seed}, "optimizer": {"kind": "adamw"}} if config is None else config,
        "config_hash": "0", "params": {"total": 100, "non_embedding": 80, "with_head": 100}, "tokens_per_update": 32,
        "flops_per_token": {"head": 1}, "corpus": {"name": "made", "digest": "0"}, "loss_unit": "nats/token",
        "bytes_per_token": 2.0,
    }, np.linspace(1e-3, 1e-4, 8), {"source": "test"})
    for attempt, first, end in segments:
        while len(record.read(folder).attempts) <= attempt:
            record.start_attempt(folder, {"host": "here"})
        record.write_segment(folder, attempt, [
            {"step": step, "tokens": 32 * (step + 1), "train_loss": 3 - 0.1 * step, "lr": 1e-3, "seconds": 0.5}
            | ({"heldout_loss": 2.5 - 0.01 * step} if step % 4 == 2 else {}) for step in range(first, end)])
    if finished:
        record.set_status(folder, "finished", result={
            "updates": 8, "tokens": 256, "heldout_loss": 2.0 + seed, "params_digest": "0"})
    return folder


@pytest.mark.parametrize("finished", [True, False])
def test_a_summary_agrees_with_the_full_reader(tmp_path, finished):
    folder = make(tmp_path / "a", finished=finished)
    short, full = record.summarise(folder), record.read(folder)
    for name in ("name", "seed", "identity", "attempts", "tokens", "heldout_loss", "loss_unit", "peak_lr",
                 "batch_tokens", "result"):
        assert getattr(short, name) == getattr(full, name), name
    assert short.length == full.schedule.size and short.updates == 8
    assert short.n("non_embedding") == 80
    assert short.bits_per_byte == pytest.approx(full.heldout_loss / 2 / math.log(2), rel=1e-15)
    assert finished or short.train_loss == full.metrics["train_loss"][-1]


def test_the_newest_attempt_says_how_far_an_unfinished_run_is(tmp_path):
    folder = make(tmp_path / "a", finished=False, segments=((0, 0, 4), (0, 4, 8), (1, 4, 6)))
    assert record.summarise(folder).updates == 6


def test_metrics_of_finished_runs_are_not_read(tmp_path):
    folder = make(tmp_path / "a")
    for path in (folder / "metrics").iterdir():
        path.write_text("not JSON")
    assert record.summarise(folder).heldout_loss == 2.0


def test_a_dead_run_is_interrupted_and_a_live_one_running(tmp_path):
    folder = make(tmp_path / "a", finished=False)
    assert record.summarise(folder).state == "interrupted"
    with open(folder / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert record.summarise(folder).state == "running"
    assert record.summarise(folder).state == "interrupted"


@pytest.mark.parametrize("damage", [
    lambda folder: (folder / "run.json").write_text("{"),
    lambda folder: (folder / "schedule.npy").write_bytes(b"x"),
    lambda folder: (folder / "schedule.npy").unlink(),
    lambda folder: edit(folder, lambda content: content["identity"].pop("params")),
    lambda folder: edit(folder, lambda content: content["status"].update(result={"updates": 3})),
    lambda folder: edit(folder, lambda content: content["attempts"].append(1)),
])
def test_a_damaged_run_is_named_and_the_others_listed(tmp_path, damage):
    make(tmp_path / "a")
    damage(make(tmp_path / "b"))
    runs, damaged = record.summaries(tmp_path)
    assert [run.name for run in runs] == ["a"]
    assert len(damaged) == 1 and str(tmp_path / "b") in damaged[0] and "\n" not in damaged[0]


def edit(folder, change):
    content = json.loads((folder / "run.json").read_text())
    change(content)
    (folder / "run.json").write_text(json.dumps(content))


def test_a_run_under_two_roots_is_listed_once(tmp_path):
    make(tmp_path / "a")
    assert len(record.summaries(tmp_path, tmp_path / "a")[0]) == 1
    with pytest.raises(InputError, match="no such folder"):
        record.summaries(tmp_path / "nowhere")


def test_run_table_flattens_every_configuration(tmp_path):
    make(tmp_path / "a", config={"model": {"width": 8}, "keep": [1, 2]})
    make(tmp_path / "b", seed=1, finished=False, config={"model": {"width": 9.5, "norm": "rms"}})
    runs, _ = record.summaries(tmp_path)
    table = record.run_table(runs)
    assert tuple(table)[:12] == export.COLUMNS
    assert table["config.model.width"] == [8, 9.5] and table["config.model.norm"] == [None, "rms"]
    export.save(table, tmp_path / "t.csv", form="csv")
    with open(tmp_path / "t.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["config.keep"] == "[1, 2]" and rows[1]["config.keep"] == "" and rows[1]["status"] == "interrupted"


def test_parquet_holds_the_same_table(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    make(tmp_path / "a", config={"x": 1, "y": "text"})
    make(tmp_path / "b", seed=1, config={"x": 0.5, "y": 3})
    table = record.run_table(record.summaries(tmp_path)[0])
    export.save(table, tmp_path / "t.parquet", form="parquet")
    read = parquet.read_table(tmp_path / "t.parquet").to_pydict()
    assert list(read) == list(table)
    assert read["loss"] == [2.0, 3.0] and read["config.x"] == [1.0, 0.5]
    assert read["config.y"] == ["text", "3"]  # text in one run, a number in the other


def test_metrics_table_is_long(tmp_path):
    folders = [make(tmp_path / name, segments=((0, 0, 8),)) for name in "ab"]
    table = record.metrics_table(map(record.read, folders))
    assert table["run"] == ["a"] * 8 + ["b"] * 8
    assert table["step"] == [*range(8), *range(8)]
    assert table["heldout_loss"][:4] == [None, None, 2.48, None]


@pytest.mark.parametrize("name", ["nowhere/t.csv", "."])
def test_a_file_that_cannot_be_written_is_named(tmp_path, name):
    with pytest.raises(InputError, match="must name a file"):
        export.save({"a": [1]}, tmp_path / name, form="csv")
