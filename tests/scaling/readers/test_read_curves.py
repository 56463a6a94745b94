"""Loss curves from files, long tables and records, with the schedule that belongs to each."""

import numpy as np
import pytest

from scaling import record
from scaling.errors import InputError
from scaling.readers import ColumnMap, CurveRules, read_curves

UNIT = {"unit": "nats/token"}


def write(path, text):
    path.write_text(text)
    return path


def complaint(*arguments, **options):
    with pytest.raises(InputError) as caught:
        read_curves(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_rates_between_rows_are_interpolated_and_the_warmup_is_filled_in(tmp_path):
    source = write(tmp_path / "a.csv", "step,lr,loss\n4,1.0,3\n6,1.0,2.9\n8,0.5,2.8\n")
    found = read_curves(source, warmup_steps=4, **UNIT)
    (curve,) = found.curves
    assert curve.name == "a" and curve.warmup_steps == 4 and curve.N is None
    np.testing.assert_allclose(curve.schedule, [0, 0.25, 0.5, 0.75, 1, 1, 1, 0.75, 0.5])
    assert curve.steps.tolist() == [4, 6, 8] and curve.losses.tolist() == [3, 2.9, 2.8]
    assert found.notes == (f"{source}: rates between the 3 rows interpolated, warm-up 4 steps from 0",)


def test_a_long_table_holds_many_curves_with_their_sizes(tmp_path):
    rows = [(name, n, step, 0.1, 3 - 0.1 * step) for name, n in (("x", 10), ("y", 20)) for step in range(3)]
    text = "\n".join(["curve,N,step,lr,loss", *(",".join(map(str, row)) for row in rows)])
    found = read_curves(write(tmp_path / "a.csv", text), counting="total", **UNIT)
    sizes = [(curve.name, curve.N, curve.losses.size) for curve in found.curves]
    assert sizes == [("x", 10, 3), ("y", 20, 3)]
    assert found.counting == "total" and found.notes == ()


def test_a_row_without_loss_still_gives_its_rate_and_one_without_rate_its_loss(tmp_path):
    source = write(tmp_path / "a.csv", "step,lr,loss,note\n0,1,3,\n1,2,,\n2,,2.5,\n3,4,2.4,\n")
    found = read_curves(source, **UNIT)
    np.testing.assert_allclose(found.curves[0].schedule, [1, 2, 3, 4])
    assert found.curves[0].steps.tolist() == [0, 2, 3]
    assert found.notes[0].startswith("a: 1 of 4 points left out")


def test_points_past_the_declared_length_are_left_out(tmp_path):
    rows = "".join(f"{step},1,3\n" for step in range(5))
    source = write(tmp_path / "run_3.csv", "step,lr,loss\n" + rows)
    mapping = ColumnMap(columns={"step": "step", "lr": "lr", "loss": "loss"}, unit="nats/token",
                        curves=CurveRules(length_in_name=r"_(\d+)$"))
    curve = read_curves(source, mapping).curves[0]
    assert curve.schedule.size == 3 and curve.steps.tolist() == [0, 1, 2]


def test_a_folder_of_files_and_several_sources_keep_their_order(tmp_path):
    for name in ("b", "a"):
        write(tmp_path / f"{name}.csv", "step,lr,loss\n0,1,3\n1,1,2\n")
    assert [curve.name for curve in read_curves(tmp_path, **UNIT).curves] == ["a", "b"]
    found = read_curves([tmp_path / "b.csv", {"step": [0], "lr": [1.0], "loss": [2.0]}], **UNIT)
    assert [curve.name for curve in found.curves] == ["b", "curve"]
    (tmp_path / "empty").mkdir()
    assert "holds neither a run folder nor a CSV file" in complaint(tmp_path / "empty", **UNIT)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("step,loss\n0,3\n", "no column 'lr': without its learning rates a curve has no schedule"),
        ("step,lr,loss\n0,,3\n", "curve a: no row has a rate: without its learning rates it has no schedule"),
        ("step,lr,loss\n0,1,3\n2,1,3\n1,1,3\n", "curve a: step = 1 after 2: must grow from row to row"),
        ("step,lr,loss\n0.5,1,3\n", "curve a: steps must be whole numbers"),
        ("step,lr,loss\n0,1,nan\n", "a.csv line 2: loss = nan: must be a finite number"),
        ("step,lr,loss\n0,1,0\n", "a.csv line 2: loss = 0"),
        ("step,lr,loss\n0,1,\n", "curve a: no point has a loss"),
        ("step,lr,loss,N\n0,1,3,5\n1,1,3,6\n", "curve a: N holds 2 values"),
    ],
)
def test_a_mistake_gives_one_line(tmp_path, text, expected):
    assert expected in complaint(write(tmp_path / "a.csv", text), counting="total", **UNIT)


def test_a_warmup_longer_than_the_rows_is_refused(tmp_path):
    source = write(tmp_path / "a.csv", "step,lr,loss\n0,1,3\n4,1,3\n")
    assert "warmup_steps = 9: must not pass the last row" in complaint(source, warmup_steps=9, **UNIT)


def test_records_give_the_schedule_of_every_update(tmp_path):
    schedule = np.linspace(1e-3, 1e-4, 8)
    identity = {
        "name": "r", "study": "t", "seed": 0, "parent": None, "config": {}, "config_hash": "0",
        "params": {"total": 300, "non_embedding": 200, "with_head": 250}, "tokens_per_update": 10,
        "flops_per_token": {}, "corpus": {"name": "none", "digest": "0"}, "loss_unit": "nats/token",
        "bytes_per_token": 1.0,
    }
    for name, state in (("r", "finished"), ("s", "diverged")):
        record.create(tmp_path / name, identity | {"name": name}, schedule, {})
        attempt = record.start_attempt(tmp_path / name, {})
        record.write_segment(tmp_path / name, attempt, [
            {"step": step, "tokens": 10 * (step + 1), "lr": schedule[step], "train_loss": 3 - 0.1 * step}
            for step in range(8)])
        result = {"updates": 8, "tokens": 80, "heldout_loss": None, "params_digest": None}
        record.set_status(tmp_path / name, state, result=result if state == "finished" else None)
    found = read_curves(tmp_path, loss="train_loss", counting="non_embedding")
    (curve,) = found.curves
    np.testing.assert_array_equal(curve.schedule, schedule)
    assert (curve.N, curve.losses.size, found.unit) == (200.0, 8, "nats/token")
    assert curve.facts == {"tokens_per_update": 10, "params": identity["params"]}
    assert found.notes == (f"{tmp_path}: 1 of 2 runs used; left out: 1 diverged",)
    assert "run r has no heldout_loss" in complaint(tmp_path)
    assert "declared and recorded units differ" in complaint(tmp_path, loss="train_loss", unit="bits/byte")
