"""`jaxlm plan`: what it prints, and one line for each mistake."""

import dataclasses
import json
from pathlib import Path

import pytest

from jaxlm.cli import main
from jaxlm.cli.plan import _check_fit
from jaxlm.config import ConfigError
from jaxlm.launch import layouts

STUDY = str(Path(__file__).resolve().parents[1] / "sweep" / "tiny_study.py")


def call(capsys, *words):
    code = main(["plan", *words])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_run_by_formula_with_its_price(capsys):
    words = ("--slice", "v5e-4", "--no-compile", "--price", "1.2", "--mesh.data=4")
    code, out, err = call(capsys, f"{STUDY}:trunk", *words)
    assert (code, err) == (0, "")
    assert out.startswith("trunk: v5e-4 (4 chips, 1 host, 2x2); not compiled, as asked; by formula alone\nmesh data=4;")
    for part in ("parameters", "optimizer state", "exact", "temporaries", "MFU at most", "at 1.2 per chip-hour"):
        assert part in out


def test_a_study_as_data_with_its_sum(capsys):
    code, out, _ = call(capsys, STUDY, "--slice", "v5e-1", "--no-compile", "--price", "2", "--json")
    data = json.loads(out)
    assert code == 0 and [each["run"] for each in data["plans"]] == ["trunk", "t18", "t30"]
    # A branch makes only its own updates.
    assert [each["updates"] for each in data["plans"]] == [24, 6, 6]
    assert data["total"]["cost"] == pytest.approx(2 * sum(each["chip_hours"] for each in data["plans"]))
    assert main(["plan", STUDY, "--slice", "v5e-1", "--no-compile"]) == 0
    assert "together at least" in capsys.readouterr().out


def test_layouts_are_a_ranking_by_formula(capsys):
    code, out, _ = call(capsys, f"{STUDY}:trunk", "--slice", "v5e-4", "--layouts")
    assert code == 0 and "ranked by formula, not measured" in out.splitlines()[0] and "fsdp=4" in out


@pytest.mark.parametrize(("words", "said"), [
    (("--slice", "v5e-5"), "slice 'v5e-5': no such slice; nearest: v5e-4, v5e-8 (the number counts chips)"),
    (("--slice", "v5e-256"), "no layout of 256 chips divides the run: batch = 4: "),
    (("--slice", "v5e-4", "--mesh.fsdp=3"), "batch = 4: "),
    (("--slice", "v5e-4", "--mesh.fsdp=2"), "mesh = (1, 1, 2, 1, 1): covers 2 devices; v5e-4 has 4"),
    (("--slice", "v5e-4", "--mesh.stage=2"), "mesh.stage: no such option"),
    (("--layouts",), "layouts = True: needs --slice"),
    (("--slice", "v5e-4", "--price", "-1"), "price = -1.0: must not be negative"),
])
def test_a_mistake_is_one_line(capsys, words, said):
    code, out, err = call(capsys, f"{STUDY}:trunk", *words, "--no-compile")
    assert (code, out) == (2, "")
    assert err.startswith(f"jaxlm: {said}") and err.count("\n") == 1


def test_a_run_that_does_not_fit_says_by_how_much_and_where_it_would(capsys):
    wide = ("--model.width=8192", "--model.layers=24", "--model.heads=64")
    code, out, err = call(capsys, f"{STUDY}:trunk", "--slice", "v5e-1", "--no-compile", *wide)
    assert code == 2 and "by formula" in out
    assert err.startswith("jaxlm: trunk does not fit: ") and "GiB over on each device; by formula " in err
    assert err.count("\n") == 1


def plans(*kinds):
    """Plans of a run on v5e-4: refused with or without bytes over, or fitting by formula."""
    from jaxlm.launch.plan import plan
    from jaxlm.launch.slices import find_slice
    from jaxlm.parallel import MeshConfig
    from jaxlm.sweep import load_study

    run = load_study(STUDY).run("trunk").replace(mesh=MeshConfig(data=4))
    made = plan(run, find_slice("v5e-4"), compiled=False)
    fields = {"fits": {}, "refused": {"refused": 5}, "over": {"refused": made.capacity + 2**30}}
    return [dataclasses.replace(made, run=run.replace(name=kind), **fields[kind]) for kind in kinds]


@pytest.mark.parametrize(("kinds", "said"), [
    (("fits", "refused"), "refused does not fit: the compiler refuses it; by formula "),
    (("refused", "over", "fits"), "over does not fit: 1.0 GiB over on each device; by formula "),
])
def test_a_refused_run_is_told_among_those_that_fit(kinds, said):
    with pytest.raises(ConfigError) as error:
        _check_fit(plans(*kinds))
    assert str(error.value).startswith(said)
    _check_fit(plans("fits"))


def test_the_slice_that_refused_a_run_is_named_only_with_another_mesh(monkeypatch):
    (refused,) = plans("refused")
    monkeypatch.setattr(layouts, "SLICES", {"v5e-4": refused.where})
    with pytest.raises(ConfigError, match="by formula another mesh of v5e-4 holds it: --layouts"):
        _check_fit([refused])
    monkeypatch.setattr(layouts, "rank_layouts", lambda run, where, count: [refused])
    with pytest.raises(ConfigError, match="by formula no v5e slice holds it"):
        _check_fit([refused])


def test_times_over_a_network_that_nobody_states_are_left_out(capsys):
    words = (f"{STUDY}:trunk", "--slice", "v4-8", "--no-compile", "--price", "2", "--mesh.replica=2",
             "--batch=8", "--mesh.data=4")
    code, out, err = call(capsys, *words)
    assert (code, err) == (0, "") and "inf" not in out.lower().replace("information", "")
    assert "no times, for the network between slices is not stated for v4 (compute " in out
    code, out, _ = call(capsys, *words, "--json")
    assert code == 0 and "Infinity" not in out
    assert json.loads(out)["plans"][0]["step_seconds"]["dcn"] is None
    code, out, _ = call(capsys, *words[:3], "--layouts", "--mesh.replica=2", "--batch=8")
    assert code == 0 and "not stated" in out and "inf" not in out
