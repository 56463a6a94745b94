"""`jaxlm study --estimate`: what a study will cost, before anything trains."""

from pathlib import Path

import numpy as np
import pytest

from jaxlm import model
from jaxlm.cli import main
from jaxlm.sweep import load_study
from scaling import record

TINY = Path(__file__).parents[1] / "sweep" / "tiny_study.py"


def words(out, *more):
    return ["study", str(TINY), "--out", str(out), "--estimate", *more]


def flops(updates):
    run = load_study(str(TINY)).run("trunk")
    return sum(model.flops_per_token(run.model, 16).values()) * 64 * updates


def test_runs_are_counted_by_formula_and_nothing_is_created(tmp_path, capsys):
    assert main(words(tmp_path / "runs", "--flops-per-second", str(flops(1)))) == 0
    out = capsys.readouterr().out
    # The trunk makes 24 updates, each branch 6; one update a second.
    assert f"altogether 3 runs, {36 * 64:,} tokens, {flops(36):.3g} FLOPs" in out
    assert "time 36 s one after the other, the longest 24 s; 0.01 core-hours" in out
    lines = [line.split() for line in out.splitlines()]
    assert ["1", "trunk", "984", "24", "1,536", f"{flops(24):.3g}", "11.5", "KiB", "24", "s"] in lines
    assert ["2", "t18", "and", "1", "more", "984", "6", "384", f"{flops(6):.3g}", "11.5", "KiB", "6", "s"] in lines
    assert list(tmp_path.iterdir()) == []


def test_without_a_speed_the_time_is_not_known(tmp_path, capsys):
    assert main(words(tmp_path)) == 0
    assert "time not known: no run of this study has finished on this machine; give --flops-per-second" in (
        capsys.readouterr().out)


def write(root, run, seconds, host):
    folder = root / run.folder
    record.create(folder, {
        "name": run.folder, "study": "s", "seed": 0, "parent": None, "config": {}, "config_hash": "0" * 8,
        "params": {"total": 1, "non_embedding": 1, "with_head": 1}, "tokens_per_update": 64,
        "flops_per_token": {"head": 1},
        "corpus": {"name": "made", "digest": "0"}, "loss_unit": "nats/token", "bytes_per_token": None},
        np.ones(run.updates), {})
    attempt = record.start_attempt(folder, {"host": host, "cpu_threads": 2})
    record.write_segment(folder, attempt, [{"step": step, "tokens": 64 * (step + 1), "seconds": second}
                                           for step, second in enumerate(seconds)])
    record.set_status(folder, "finished", result={"updates": run.updates, "tokens": 64, "heldout_loss": 1.0,
                                                  "params_digest": "0"})


@pytest.mark.parametrize(("host", "expected"), [
    ("here", "time 6 s one after the other, the longest 3 s; 0.00333 core-hours (2 cores a run), as 1 finished run"),
    ("elsewhere", "time not known")])
def test_the_speed_is_that_of_finished_runs_on_this_machine(tmp_path, capsys, monkeypatch, host, expected):
    monkeypatch.setattr("platform.node", lambda: "here")
    # The first call of four updates compiled; a later update takes half a second.
    write(tmp_path / "tiny", load_study(str(TINY)).run("trunk"), [9.0] * 4 + [0.5] * 2, host)
    assert main(words(tmp_path)) == 0
    out = capsys.readouterr().out
    assert "all: 2 runs, 1 more have ended" in out and expected in out


PLANNED = """
from tiny_study import run
from jaxlm.sweep import RateGrid, Stage, Study

def study():
    grid = RateGrid(arms={"a": lambda rate, seed: (run(f"r{rate:g}-s{seed}", updates=4, peak_lr=rate, seed=seed),)},
                    middle=1e-2, extensions=1)
    return Study(name="grid", question="?", stages=(*grid.stages(), Stage(title="free", plan=lambda root: ()),
                 Stage(title="none", plan=lambda root: (), bound=())))
"""


def test_stages_that_are_still_to_be_planned_have_a_bound_or_say_that_they_have_none(tmp_path, capsys):
    (tmp_path / "planned.py").write_text(PLANNED)
    (tmp_path / "tiny_study.py").write_text(TINY.read_text())
    assert main(["study", str(tmp_path / "planned.py"), "--out", str(tmp_path), "--estimate",
                 "--flops-per-second", str(flops(1))]) == 0
    out = capsys.readouterr().out
    assert "three rates each: 3 runs" in out
    assert f"grids, pushed 1: planned from the records before it, at most 1 runs, {flops(4):.3g} FLOPs, 4" in out
    assert f"3 seeds at the best rate: planned from the records before it, at most 2 runs, {flops(8):.3g} FLOPs" in out
    assert "free: planned from the records before it, how many runs is not known" in out
    assert "none: planned from the records before it, no further runs" in out and "'none'" not in out
    assert "altogether at most 6 runs" in out and "without the runs of 'free', which states no bound" in out
