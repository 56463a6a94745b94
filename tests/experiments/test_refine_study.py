"""The study of refinement: the logistic testbed, runs planned by records, and what the report says."""

import importlib
import importlib.util
import json
import pathlib
import shutil
import sys

import numpy as np
import pytest

from jaxlm.schedules import FromArray, Linear, as_array
from scaling import record
from scaling.errors import InputError

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "experiments"
sys.path.append(str(FOLDER))


@pytest.fixture(scope="module")
def logistic():
    return importlib.import_module("testbeds.logistic")


@pytest.fixture(scope="module")
def report():
    return importlib.import_module("refine_report")


@pytest.fixture(scope="module")
def study():
    return importlib.import_module("refine")


# The testbed.

def problem(logistic, *, noisy):
    return logistic.Problem(name="small", features=3, examples=60, smallest=0.5, signal=2.0, noisy=noisy,
                            peaks=tuple(2.0 ** np.arange(-6, 6)))


def test_the_optimum_is_where_the_gradient_vanishes(logistic):
    z = problem(logistic, noisy=True).draw(0)
    value, minimiser = logistic.solve(z)
    slack = 1 / (1 + np.exp(z @ minimiser))
    assert np.abs(slack @ z).max() / len(z) < 1e-9
    assert value == pytest.approx(np.log1p(np.exp(-z @ minimiser)).mean(), rel=1e-12)


def test_separable_examples_have_no_minimiser(logistic):
    assert logistic.solve(problem(logistic, noisy=False).draw(0)) == (0.0, None)
    assert all(logistic.solve(each.draw(0))[1] is None for each in logistic.PROBLEMS if not each.noisy)


def test_training_equals_a_loop(logistic):
    examples = np.stack([problem(logistic, noisy=True).draw(seed) for seed in range(2)])
    schedules = np.stack([np.linspace(1, 0.1, 20), np.ones(20)])
    losses, norms = logistic.run(examples, schedules, (0.5, 2.0))
    for seed, z in enumerate(examples):
        picks = np.random.default_rng([1, seed]).integers(0, 60, (20, logistic.BATCH))
        for at, peak in enumerate((0.5, 2.0)):
            w = np.zeros(3)
            for step in range(20):
                batch = z[picks[step]]
                gradient = -(batch / (1 + np.exp(batch @ w))[:, None]).mean(axis=0)
                assert norms["l2"][seed, at, step] == pytest.approx(np.sqrt((gradient**2).sum()), rel=1e-4)
                assert norms["l1"][seed, at, step] == pytest.approx(np.abs(gradient).sum(), rel=1e-4)
                w -= peak * schedules[seed, step] * gradient
            assert losses[seed, at] == pytest.approx(np.log1p(np.exp(-z @ w)).mean(), rel=1e-5)


def test_a_best_rate_at_the_edge_is_refused(logistic):
    with pytest.raises(InputError, match="small, x: the best rate 0.015625 is at the edge of its grid"):
        logistic._arm(problem(logistic, noisy=True), "x", np.ones((2, 4)), excess=np.tile(np.arange(12.0), (2, 1)))


def test_a_bed_holds_its_bound_and_is_written(logistic, report, tmp_path):
    bed = logistic.measure(problem(logistic, noisy=True), seeds=3, updates=80)
    assert set(bed.bounds) == {20, 80} and all(excess <= bound for _, excess, bound in bed.bounds.values())
    assert len(logistic.lines(bed)) == len(bed.arms) == 8
    report.write_beds([bed], tmp_path)
    entries = report.bed_entries(json.loads((tmp_path / "testbeds.json").read_text()))
    assert [len(entry.spans) for entry in entries] == [0] * 4 + [3] * 4
    np.testing.assert_allclose(list(entries[0].final.values()), 1e3 * bed.arms["constant"].final)


# The study's runs.

@pytest.fixture(scope="module")
def form(study):
    return study.Form(name="tiny", width=16, updates=32, seeds=(0, 1, 2), refinements=1)


def put(root, run, *, loss, fall=3.0):
    """Writes the record that a run would have, with norms that fall early."""
    folder, rates = root / run.folder, as_array(run.schedule.build(run.updates), run.updates)
    identity = {
        "name": run.folder, "study": "s", "seed": run.seed, "parent": None, "config": run.identity,
        "config_hash": "01234567", "params": {"total": 1, "non_embedding": 1, "with_head": 1},
        "tokens_per_update": run.tokens_per_update, "flops_per_token": {"all": 1},
        "corpus": {"name": "c", "digest": "d"}, "loss_unit": "nats/token", "bytes_per_token": 1.0}
    rng, rows = np.random.default_rng(run.seed), []
    for t in range(run.updates):
        norm = float((1 + fall * np.exp(-t / 3)) * np.exp(0.1 * rng.standard_normal()))
        rows.append({"step": t, "tokens": (t + 1) * run.tokens_per_update, "lr": float(rates[t]), "grad_l2": norm,
                     "grad_l1": 10 * norm} | ({"heldout_loss": loss + 1 - (t + 1) / run.updates} if t % 8 == 7 else {}))
    record.create(folder, identity, rates, {})
    record.write_segment(folder, record.start_attempt(folder, {}), rows)
    record.set_status(folder, "finished", result={"updates": run.updates, "tokens": rows[-1]["tokens"],
                                                  "heldout_loss": loss, "params_digest": "p"})


def bowl(rate, best):
    return 0.1 * np.log(rate / best) ** 2


@pytest.fixture(scope="module")
def recorded(study, form, tmp_path_factory):
    """The study and its folder with every run on record; the refined ones end 0.2 below linear decay."""
    root, tree = tmp_path_factory.mktemp("study"), study.study(form)
    for index in range(len(tree.stages)):
        tree = tree.planned(index, root)
        for run in tree.stages[index].runs:
            array = isinstance(run.schedule, FromArray)
            rate = run.schedule.build(run.updates).rates.max() if array else run.schedule.peak_lr
            noise = 0.01 * np.random.default_rng([run.seed, array]).standard_normal()
            put(root, run, loss=2 + bowl(rate, form.middle) - 0.2 * array + noise + 0.1 * run.seed)
    return tree, root


def test_it_starts_with_linear_decay_at_three_rates(study, form):
    runs = study.study(form).runs
    assert len(runs) == 6 and all(isinstance(run.schedule, Linear) for run in runs)
    assert sorted({run.schedule.warmup for run in runs}) == [0, 2]
    assert len(study.study(study.FULL).stages) > len(study.study(form).stages)


def test_refined_runs_come_from_the_records_wherever_they_lie(study, form, recorded, tmp_path):
    tree, root = recorded
    refined = [run for run in tree.runs if isinstance(run.schedule, FromArray)]
    assert len(refined) == 3 + 2
    middle = refined[1].schedule.build(form.updates)
    assert middle.rates.max() == pytest.approx(form.middle) and middle.rates[-1] == 0
    assert middle.provenance["run"].startswith("linear-lr0.008-s0-")
    elsewhere = tmp_path / "else" / "where"
    shutil.copytree(root, elsewhere, ignore=shutil.ignore_patterns("schedules", "refined1-*"))
    again = study.refined(form, elsewhere, 1).stages()[0].runs
    assert all(str(elsewhere) in run.schedule.path for run in again)
    assert [run.folder for run in again] == [run.folder for run in refined[:3]]


def test_the_report_is_drawn_from_the_records(study, form, recorded, capsys):
    _, root = recorded
    bed = {"problem": {"name": "separable"}, "optimum": [0.0] * 3, "bounds": {"80": [0.1, 0.02, 0.01]}, "arms": {
        "linear": {"peak": 1.0, "final": [0.01, 0.012, 0.011], "refinements": []},
        "refined l2": {"peak": 2.0, "final": [0.11, 0.10, 0.12],
                       "refinements": [{"span": 40.0}] * 2 + [{"span": None}]}}}
    (root / "testbeds.json").write_text(json.dumps([bed]))
    study.draw(form, root)
    text = (root / "report.md").read_text()
    assert "byte model: refined ends lower than linear decay, -0.1994" in text
    assert "logistic, separable: refined l2 ends HIGHER than linear decay, +99.0000" in text
    assert "the guard warned of 3 of 3 refinements" in text and "ABOVE the bound" in text
    assert "over 3 seeds the peak is at" in text and (root / "byte_model.png").stat().st_size > 20_000
    assert (root / "table.csv").read_text().count("\n") == 6 and "setting" in capsys.readouterr().out


def entry(report, schedule, gap, *, span=None, setting="byte model"):
    final = {seed: 2 + 0.1 * seed + gap + 0.01 * (seed % 2) * (schedule != "linear") for seed in range(4)}
    return report.Entry(setting=setting, schedule=schedule, rate=1.0, final=final, spans=(span,) * 4 if span else ())


@pytest.mark.parametrize("gap, span, said, agree", [
    (-0.2, 3.0, "refined ends lower than linear decay", True), (0.2, 3.0, "refined ends HIGHER than linear decay", False),
    (0.2, 30.0, "refined ends HIGHER than linear decay", True), (-0.005, 30.0, "refined is not told apart from", False)])
def test_the_words_follow_from_the_figures(report, gap, span, said, agree):
    notes = " ".join(report.findings([
        entry(report, "linear", 0.0), entry(report, "linear, warm-up", -0.1), entry(report, "refined", gap, span=span)]))
    assert f"byte model: {said}" in notes and f"warned of {4 * (span > 10)} of 4" in notes
    assert ("disagree in: byte model (refined)" in notes) != agree
    word = "lower than" if gap < -0.1 else "higher than"
    assert f"refined is {word} linear decay with a warm-up by hand" in notes


def test_a_source_that_did_not_finish_is_named(study, form, recorded, tmp_path):
    shutil.copytree(recorded[1], tmp_path / "copy")
    source = study.linear(form).recorded(tmp_path / "copy", "linear", form.middle, 1)[0].folder
    record.set_status(source, "diverged", reason="x")
    with pytest.raises(InputError, match="^linear: seed 1 did not finish at its best rate 0.008"):
        study.refined(form, tmp_path / "copy", 1).arms["refined"](0.01, 1)
