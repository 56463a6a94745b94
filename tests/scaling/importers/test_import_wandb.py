"""Exports of Weights & Biases: the CSV of charts, histories as CSV and JSON lines."""

import json

import numpy as np
import pytest
from import_cases import complaint, imported


def chart(path, metric, runs, x="Step"):
    """A chart's CSV as the web interface writes it; `runs`: name -> {step: value or (value, low, high)}."""
    names = [f"{run} - {column}" for run in runs for column in ("_step", metric)]
    header = [x, *(name + suffix for name in names for suffix in ("", "__MIN", "__MAX"))]
    lines = [header]
    for step in sorted({step for values in runs.values() for step in values}):
        line = [step]
        for values in runs.values():
            value = values.get(step, ("", "", ""))
            line += [step] * 3 if step in values else [""] * 3
            line += value if isinstance(value, tuple) else [value] * 3
        lines.append(line)
    path.write_text("".join(",".join(f'"{field}"' for field in line) + "\n" for line in lines))
    return path


def test_charts_of_one_run_are_merged(tmp_path):
    losses = {"a - b": {0: 4.0, 1: "NaN", 2: 3.0}, "other": {0: 9.0}}
    loss = chart(tmp_path / "loss.csv", "train/loss", losses)
    rate = chart(tmp_path / "lr.csv", "lr", {"a - b": {0: 1e-3, 2: 3e-3}, "other": {0: 1.0}})
    options = ("--run", "a - b", "--columns", "train_loss=train/loss")
    run = imported(tmp_path / "r", "wandb", loss, rate, *options)
    assert run.metrics["step"].tolist() == [0, 1, 2]
    np.testing.assert_array_equal(run.metrics["train_loss"], [4.0, np.nan, 3.0])
    np.testing.assert_allclose(run.schedule, [1e-3, 2e-3, 3e-3], rtol=1e-14)  # the second is interpolated


def test_another_x_axis_leaves_the_steps_of_the_run(tmp_path):
    path = chart(tmp_path / "c.csv", "train_loss", {"a": {5: 4.0, 6: 3.0}}, x="epoch")
    np.save(tmp_path / "s.npy", np.ones(7))
    run = imported(tmp_path / "r", "wandb", path, "--schedule", tmp_path / "s.npy")
    assert run.metrics["step"].tolist() == [5, 6]


def test_averages_over_several_steps_are_noted(tmp_path, capsys):
    path = chart(tmp_path / "c.csv", "train_loss", {"a": {0: (3.5, 3.0, 4.0), 10: 3.0}})
    np.save(tmp_path / "s.npy", np.ones(11))
    imported(tmp_path / "r", "wandb", path, "--schedule", tmp_path / "s.npy")
    assert "1 values are averages over several steps" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_history_is_read(tmp_path, kind):
    rows = [{"_step": 0, "_runtime": 1.5, "_timestamp": 1.7e9, "train_loss": 4.0, "lr": 1e-3},
            {"_step": 1, "_runtime": 2.5, "_timestamp": 1.7e9, "train_loss": 3.0, "lr": 1e-3},
            {"_step": 2, "_runtime": 3.5, "_timestamp": 1.7e9, "valid": 2.5}]
    path = tmp_path / f"history.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:  # pandas writes its index as a first column without a name
        names = ["_step", "_runtime", "_timestamp", "train_loss", "lr", "valid"]
        lines = [["", *names], *([i, *(row.get(name, "") for name in names)] for i, row in enumerate(rows))]
        path.write_text("".join(",".join(map(str, line)) + "\n" for line in lines))
    run = imported(tmp_path / "r", "wandb", path, "--columns", "heldout_loss=valid")
    np.testing.assert_array_equal(run.metrics["train_loss"], [4.0, 3.0, np.nan])
    assert run.heldout_loss == 2.5 and run.schedule.tolist() == [1e-3] * 3


def test_rows_of_one_training_step_are_merged_by_its_own_column(tmp_path):
    rows = [{"_step": 0, "global": 0, "train_loss": 4.0, "lr": 1.0},
            {"_step": 1, "global": 0, "heldout_loss": 3.9},
            {"_step": 2, "global": 1, "train_loss": 3.0, "lr": 1.0}]
    (tmp_path / "h.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = imported(tmp_path / "r", "wandb", tmp_path / "h.jsonl", "--columns", "step=global")
    assert run.metrics["train_loss"].tolist() == [4.0, 3.0] and run.metrics["heldout_loss"][0] == 3.9


@pytest.mark.parametrize(("text", "options", "message"), [
    ("Step,train_loss\n", (), "holds no rows"),
    ("Step,train_loss\n0,1,2\n", (), "line 2: has more or fewer fields"),
    ("time,train_loss\n0,1\n", (), "no column of steps; name it with --columns step=...; there are: time"),
    ("Step,loss\n0,1\n", (), "neither train_loss nor heldout_loss"),
    ("Step,train_loss\n0.5,1\n", (), "row 1: step = '0.5': must be an integer"),
    ("Step,train_loss\n,1\n", (), "row 1: step = '': must be an integer"),
    ("Step,train_loss\n3,1\n2,1\n", (), "row 2: step 2 follows step 3"),
    ("Step,train_loss\n0,low\n", (), "row 1: train_loss = 'low': must be a number"),
    ("Step,train_loss\n0,1\n", ("--run", "a"), "no such run"),
    ("Step,train_loss,lr\n0,,\n", (), "holds no row of"),
    ('{"_step": 0}\n[]\n', (), "line 2: must be a JSON object"),
    ('{"_step": 0\n', (), "line 1: not JSON"),
])
def test_wrong_exports_are_one_line(tmp_path, capsys, text, options, message):
    (tmp_path / "log").write_text(text)
    assert message in complaint(capsys, "wandb", tmp_path / "log", "--out", tmp_path / "r", *options)
    assert not (tmp_path / "r").exists()


def test_several_runs_need_a_choice(tmp_path, capsys):
    path = chart(tmp_path / "c.csv", "train_loss", {"a": {0: 4.0}, "b": {0: 3.0}})
    assert "choose one with --run: a, b" in complaint(capsys, "wandb", path, "--out", tmp_path / "r")
    text = complaint(capsys, "wandb", path, "--out", tmp_path / "r", "--run", "b", "--columns", "lr=rate")
    assert text.endswith("there are: Step, _step, train_loss")
    text = complaint(capsys, "wandb", path, "--out", tmp_path / "r", "--run", "c")
    assert "--run = 'c': no such run" in text and "there are: a, b" in text


def test_a_binary_file_is_one_line(tmp_path, capsys):
    (tmp_path / "x").write_bytes(b"\xff\xfe\x00\x01")
    assert "not a text file" in complaint(capsys, "wandb", tmp_path / "x", "--out", tmp_path / "r")
