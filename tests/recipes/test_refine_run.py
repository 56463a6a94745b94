"""`refine(run)` and `jaxlm refine`: from a record to a schedule on disk, and the runs that are refused."""

import json
import warnings

import numpy as np
import pytest

from jaxlm.cli import main
from jaxlm.config import ConfigError
from jaxlm.recipes import RefinementWarning, refine
from jaxlm.schedules import FromArray, as_array, linear, refine_norms
from scaling import record
from scaling.errors import InputError

UPDATES, TOKENS = 60, 32


def norms(seed=0):
    rng = np.random.default_rng(seed)
    return (1 + 2 * np.exp(-np.arange(UPDATES) / 8)) * np.exp(0.1 * rng.standard_normal(UPDATES))


def make(folder, *, optimizer="adamw", rates=None, rows=None, state="finished", parent=None, provenance=None):
    """Writes the record of a run and returns its folder; `rows` replaces the rows."""
    identity = {
        "name": folder.name, "study": "s", "seed": 0, "parent": parent, "config": {"optimizer": {"kind": optimizer}},
        "config_hash": "01234567", "params": {"total": 1, "non_embedding": 1, "with_head": 1},
        "tokens_per_update": TOKENS, "flops_per_token": {"all": 1}, "corpus": {"name": "c", "digest": "d"},
        "loss_unit": "nats/token", "bytes_per_token": 1.0}
    rates = as_array(linear(UPDATES, peak_lr=0.01, warmup=3), UPDATES) if rates is None else rates
    record.create(folder, identity, rates, provenance or {})
    attempt = record.start_attempt(folder, {})
    record.write_segment(folder, attempt, default_rows() if rows is None else rows)
    result = {"updates": UPDATES, "tokens": UPDATES * TOKENS, "heldout_loss": 1.0, "params_digest": "p"}
    record.set_status(folder, state, result=result if state == "finished" else None)
    return folder


def default_rows(**columns):
    columns = {"grad_l2": norms(), "grad_l1": 10 * norms(1)} | columns
    return [{"step": t, "tokens": (t + 1) * TOKENS, **{name: float(values[t]) for name, values in columns.items()}}
            for t in range(UPDATES)]


@pytest.fixture
def run(tmp_path):
    return make(tmp_path / "runs" / "first-01234567")


def test_the_optimizer_decides_the_norm(run, tmp_path):
    found = refine(run)
    np.testing.assert_array_equal(found.refinement.rates, refine_norms(10 * norms(1), kind="adam").rates)
    assert found.norm == "l1" and found.peak_lr == 0.01 == found.schedule.rates.max()
    sgd = refine(record.read(make(tmp_path / "sgd", optimizer="sgd")), peak_lr=0.5)
    np.testing.assert_array_equal(sgd.schedule.rates, 0.5 * refine_norms(norms(), kind="sgd").rates)
    with pytest.raises(ConfigError, match="^norm = None: must be given for the optimizer 'muon' of muon: 'l1'"):
        refine(make(tmp_path / "muon", optimizer="muon"))
    assert refine(tmp_path / "muon", norm="l2").norm == "l2"
    with pytest.raises(ConfigError, match="^norm = 'max'"):
        refine(run, norm="max")


def test_a_saved_schedule_trains_the_next_run(run, tmp_path):
    found = refine(run, updates=90)
    found.save(tmp_path / "refined")
    found.save(tmp_path / "refined")  # equal files stay
    schedule = FromArray(path=str(tmp_path / "refined")).build(90)
    np.testing.assert_array_equal(schedule.rates, found.schedule.rates)
    assert schedule.provenance["run"] == "first-01234567" and schedule.provenance["norm"] == "l1"
    assert schedule.provenance["source"] == "jaxlm.recipes.refine" and schedule.provenance["refinement"]["width"] == 5
    before = (tmp_path / "refined" / "schedule.npy").read_bytes()
    with pytest.raises(InputError, match="holds another schedule.npy; nothing is overwritten"):
        refine(run, updates=90, peak_lr=0.02).save(tmp_path / "refined")
    assert (tmp_path / "refined" / "schedule.npy").read_bytes() == before


def test_the_table_says_what_emerged(run):
    found = refine(run)
    text = found.table()
    assert f"warm-up that emerged: update {found.refinement.warmup} (" in text
    assert "60 updates, peak 0.01, weights 1/l1" in text and "warning" not in text


def test_collapsing_norms_are_said_loudly(tmp_path):
    folder = make(tmp_path / "collapse", optimizer="sgd",
                  rows=default_rows(grad_l2=norms() * np.geomspace(1, 1e-3, UPDATES)))
    with pytest.warns(RefinementWarning, match="collapse: norms span a factor of"):
        found = refine(folder)
    assert "warning: norms span a factor of" in found.table()
    assert found.schedule.provenance["warnings"] == list(found.warnings)


@pytest.mark.parametrize("rates, warned", [
    (np.full(UPDATES, 0.01), True), (np.linspace(0.01, 0.001, UPDATES), True),
    (np.linspace(0.01, 0.0, UPDATES), False)])
def test_a_run_under_another_schedule_is_warned_of(tmp_path, rates, warned):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = refine(make(tmp_path / "run", rates=rates))
    assert [("not linear decay to zero" in str(each.message)) for each in caught] == [True] * warned
    assert len(found.warnings) == warned


def test_a_refined_run_may_be_refined_again(tmp_path):
    rates = 0.01 * refine_norms(norms(), kind="sgd").rates
    folder = make(tmp_path / "run", rates=rates, provenance={"from": {"source": "jaxlm.recipes.refine"}})
    assert refine(folder).warnings == ()


def clipped(most=2.0):
    return np.minimum(norms(), most) * (1 + 1e-7 * np.arange(UPDATES) / UPDATES)


@pytest.mark.parametrize("changes, message", [
    ({"state": "failed"}, "is failed, must be finished"),
    ({"state": "diverged"}, "is diverged, must be finished"),
    ({"parent": {"run": "trunk", "step": 5}}, "branches off trunk at update 5"),
    ({"rows": default_rows()[:40] + default_rows()[41:]},
     "59 of 60 updates are on record, the first 40; all are needed"),
    ({"rows": default_rows()[::10]}, "6 of 60 updates are on record, the first 1; all are needed"),
    ({"rows": [row | {"tokens": row["tokens"] + TOKENS * max(row["step"] - 29, 0)} for row in default_rows()]},
     "the batch changes: 1024 tokens after update 30, with 32 an update 992"),
    ({"rows": [{key: row[key] for key in ("step", "tokens", "grad_l2")} for row in default_rows()]},
     "60 of 60 updates have no grad_l1, the gradient's l1 norm before clipping; norms after clipping do not serve"),
    ({"rows": default_rows(grad_l2=clipped())},
     "grad_l2 is at its largest, 2, in .*% of the updates, as norms after clipping"),
    ({"optimizer": "sgd", "rows": default_rows(grad_l2=clipped())}, "grad_l2 is at its largest"),
])
def test_refuses_in_one_line(tmp_path, changes, message, capsys):
    folder = make(tmp_path / "runs" / "bad", **changes)
    with pytest.raises(InputError, match=f"^run bad: .*{message}") as error:
        refine(folder)
    assert "\n" not in str(error.value)
    assert main(["refine", str(folder)]) == 2
    assert capsys.readouterr().err == f"jaxlm: {error.value}\n"


def test_a_few_overflown_norms_are_left_out(tmp_path):
    values = 10 * norms(1)
    values[[7, 20]] = np.inf  # which a record holds as null
    found = refine(make(tmp_path / "run", rows=default_rows(grad_l1=values)))
    np.testing.assert_array_equal(found.refinement.rates, refine_norms(values, kind="adam").rates)
    assert "2 of them not finite and left out" in found.table()


def test_the_command_prints_draws_and_writes(run, tmp_path, capsys):
    out, picture = tmp_path / "refined", tmp_path / "refined.png"
    words = ["refine", "first", "--under", str(run.parent), "--out", str(out), "--plot", str(picture),
             "--peak-lr", "0.02"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "refined schedule of first-01234567" in text and f"written: {out}" in text
    assert np.load(out / "schedule.npy").max() == 0.02 and picture.stat().st_size > 10_000
    assert json.loads((out / "schedule.json").read_text())["peak_lr"] == 0.02


@pytest.mark.parametrize("words, message", [
    (["--smoothing", "0.7"], "smoothing = 0.7: "), (["--plot", "x.bmp"], "plot = 'x.bmp': must end in"),
    (["--peak-lr", "-1"], "peak_lr = -1.0: "), (["--cap", "0.5"], "cap = 0.5: "),
    (["--updates", "1"], "updates = 1: ")])
def test_a_wrong_option_is_one_line(run, words, message, capsys):
    assert main(["refine", str(run), *words]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"jaxlm: {message}") and err.count("\n") == 1
