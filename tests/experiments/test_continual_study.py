"""The study of continued training: its runs, and what its report says of made-up records."""

import pathlib
import re
import sys
import types

import numpy as np
import pytest

from jaxlm import schedules
from jaxlm.train.start import identity
from scaling import record

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "experiments"
sys.path.append(str(FOLDER))

import continual  # noqa: E402
import continual_findings as findings  # noqa: E402
import continual_rows as kept  # noqa: E402

FORM = continual.Form(width=16, updates=16, new=("bible", "code"))
TEXT = types.SimpleNamespace(name="text", digest="0" * 64, bytes_per_token=1.0)


@pytest.fixture(scope="module")
def shift():
    return continual.shift(FORM, "code", 4e-3)


def last(shift, name, rate=8e-3, seed=1):
    grid = shift.tuned if name in shift.tuned.arms else shift.held
    return grid.arms[name](rate, seed)[-1]


def test_a_second_phase_has_half_the_tokens_of_the_run_on_both(shift):
    joint = last(shift, kept.JOINT)
    assert joint.initial is None and joint.data.weights == (0.5, 0.5)
    for name in [*shift.tuned.arms, *shift.held.arms]:
        if name != kept.JOINT:
            run = last(shift, name)
            assert 2 * run.updates * run.tokens_per_update == joint.updates * joint.tokens_per_update, name
            assert run.initial.step == FORM.updates and run.seed == run.data.seed == 1


@pytest.mark.parametrize("share", continual.REPLAYS)
def test_replay_counts_inside_the_budget(shift, share):
    data = last(shift, kept.label(kept.REWARM, share)).data
    assert data.sources[0] == continual.NEW["code"]
    if share:
        assert data.sources[1] == continual.OLD and data.weights == pytest.approx((1 - share, share))
    else:
        assert len(data.sources) == 1


def test_every_run_is_evaluated_on_every_text_at_the_same_tokens(shift):
    texts = (continual.OLD, continual.NEW["bible"], continual.NEW["code"])
    runs = [run for grid in (shift.tuned, shift.held) for arm in grid.arms.values() for run in arm(8e-3, 0)]
    assert {run.evaluation.sources for run in runs} == {texts} and {run.evaluation.every for run in runs} == {2}
    assert texts[shift.column] == continual.NEW["code"]


def test_the_infinite_schedule_goes_on_without_a_step(shift):
    start, after = shift.tuned.arms[kept.label(kept.INFINITE, 0.25)](8e-3, 0)
    before, rates = (schedules.as_array(run.schedule.build(run.updates), run.updates) for run in (start, after))
    assert before[-1] == rates[0] == pytest.approx(0.55 * 8e-3, rel=1e-6) and after.initial.optimizer == "keep"
    assert rates[-1] < rates[-2] < rates[0] and len(set(rates[:10])) == 1
    assert before.max() == pytest.approx(8e-3)


def test_holding_goes_on_at_a_tenth_of_the_first_peak(shift):
    start, after = shift.held.arms[kept.label(kept.HOLD, 0.0)](shift.rate, 0)
    assert after.schedule.peak_lr == pytest.approx(4e-4) and start.schedule.peak_lr == 4e-3
    assert after.initial.optimizer == "reset"


def made(root, run, *, reverse=False):
    """Writes a record of the run with losses on all texts that follow from its arm and its rate."""
    rates = schedules.as_array(run.schedule.build(run.updates), run.updates)
    record.create(root / run.folder, identity(run, TEXT, "continual", evaluated=[TEXT] * 3), rates, {})
    attempt = record.start_attempt(root / run.folder, {})
    rng = np.random.default_rng([run.seed, *run.name.encode()])
    peak = run.schedule.peak_lr / (0.55 if run.schedule.kind == "wsd" else 1)
    off = 0.0 if "hold" in run.name else 0.1 * abs(np.log2(peak / 8e-3))
    replay = run.data.weights[1] if run.initial and run.data.weights else 0.0
    forgot = 0.0 if not run.initial else 0.8 * (replay if reverse else 0.25 - replay)
    steps = np.arange(1, run.updates, run.evaluation.every)
    rows = []
    for step in steps.tolist():
        new = 3.0 + 0.1 * replay - 0.5 * (step + 1) / run.updates * bool(run.initial or "joint" in run.name)
        losses = [2.0 + off + forgot, new + off, new + off]
        rows.append({"step": step, "source_losses": (np.array(losses) + 1e-4 * rng.normal(size=3)).tolist()})
    record.write_diagnostics(root / run.folder, attempt, rows)
    record.write_segment(root / run.folder, attempt, [
        {"step": i, "tokens": (i + 1) * run.tokens_per_update, "lr": rates[i], "heldout_loss": 2.0 + off}
        for i in range(run.updates)])
    record.set_status(root / run.folder, "finished", result={
        "updates": run.updates, "tokens": run.updates * run.tokens_per_update, "heldout_loss": 2.0 + off,
        "params_digest": None})


def carried_out(root, form, **how):
    """Goes through the stages of the study as the command does, with made-up records in place of training."""
    study = continual.study(form)
    for index in range(len(study.stages)):
        study = study.planned(index, root)
        stage = study.stages[index]
        for run in stage.runs:
            assert run.initial is None or (root / run.initial.run / "run.json").exists()
            made(root, run, **how)
        if stage.then:
            stage.then(root)
    return (root / "report.md").read_text(), study


@pytest.mark.slow
def test_the_whole_study_on_made_up_records(tmp_path, capsys):
    text, study = carried_out(tmp_path, FORM)
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {
        "report.md", "table.csv", "bible.png", "code.png"}
    # Three rates and two more seeds each. Arms that hold have no grid; both texts share the infinite first phases.
    first, joint, rewarm, infinite, hold = 5, 5, 4 * 5, 5, 2 * 3
    assert len(study.runs) == first + infinite + 2 * (joint + rewarm + infinite + hold)
    assert re.search(r"0% to 1% -0\.00[78]\d . 0\.000\d lower", text)
    assert "the most it falls; published: it falls." in text
    assert "REVERSED" not in text
    assert text.count("continuing spends 0.03 M tokens and retraining on both 0.07 M (50% of the FLOPs)") == 2
    assert "plays -> bible" in capsys.readouterr().out
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 1 + 2 * 8


@pytest.mark.slow
def test_a_reversal_is_called_one(tmp_path):
    text, _ = carried_out(tmp_path, continual.Form(width=16, updates=16), reverse=True)
    assert "From the least to the most it rises; published: it falls. REVERSED in at least one step." in text
    assert text.count("##") == 1 and not (tmp_path / "bible.png").exists()


def rows(finals):
    """Rows with final losses (old, new) by arm, three seeds close together."""
    noise = np.array([0.0, 1e-3, -1e-3])
    made = {}
    for name, final in finals.items():
        start = 0 if name == kept.JOINT else 1
        losses = np.stack([np.array([[2.0, 4.0], final]) + shake for shake in noise])
        made[name] = kept.Row(name=name, rate=1.0, grid={}, seeds=(0, 1, 2), tokens=np.array([100, 200]),
                              losses=losses, start=start, spent=100 if start else 200, flops=1.0)
    return made


def test_matching_is_said_only_where_the_interval_allows_it(shift):
    base = {kept.JOINT: (2.0, 2.5)}
    worse = findings.against_joint(rows(base | {"re-warm, 25%": (2.2, 2.5)}))
    assert "above it: re-warm, 25%" in worse and "NOT SHOWN HERE" in worse
    better = findings.against_joint(rows(base | {"re-warm, 25%": (1.9, 2.5)}))
    assert "below it: re-warm, 25%" in better and "as here" in better


def test_the_gap_that_replay_closes(shift):
    found = rows({kept.JOINT: (2.0, 2.5), "re-warm, 0%": (3.0, 2.4), "re-warm, 25%": (2.2, 2.4)})
    assert findings.closed(found, shift) == "80%"
    del found["re-warm, 25%"]
    assert findings.closed(found, shift) == "an unknown share"


def test_re_warming_beside_holding(shift):
    found = rows({kept.JOINT: (2.0, 2.5), "re-warm, 0%": (3.0, 2.6), "hold, 0%": (2.5, 2.4)})
    assert "REVERSED here." in findings.beside_hold(found, shift)[0]
    found = rows({kept.JOINT: (2.0, 2.5), "re-warm, 0%": (3.0, 2.4), "hold, 0%": (2.5, 2.6)})
    assert findings.beside_hold(found, shift)[0].endswith("as here.")
