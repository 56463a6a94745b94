"""The study of schedules: its runs and what they cost, and what its report and its claims say."""

import importlib
import pathlib
import sys

import numpy as np
import pytest

from scaling import record

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "experiments"
sys.path.append(str(FOLDER))

BUDGETS = (10, 20)


@pytest.fixture(scope="module")
def study():
    return importlib.import_module("schedules")


@pytest.fixture(scope="module")
def rows_module():
    return importlib.import_module("schedules_rows")


@pytest.fixture(scope="module")
def report():
    return importlib.import_module("schedules_report")


@pytest.fixture(scope="module")
def claims():
    return importlib.import_module("schedules_claims")


def fake(folder, updates, losses, *, parent=None, ends=()):
    """A finished record with held-out losses by the number of updates made."""
    steps = np.arange(parent[1] if parent else 0, updates)
    heldout = np.array([losses.get(int(step) + 1, np.nan) for step in steps])
    return record.Run(
        folder=pathlib.Path(folder), attempts=(), status={"state": "finished"}, schedule=np.ones(updates), notes=(),
        metrics={"step": steps, "tokens": 100 * (steps + 1), "heldout_loss": heldout}, diagnostics={}, provenance={},
        identity={"name": folder, "tokens_per_update": 100, "config": {"schedule": {"ends": list(ends)}},
                  "parent": parent and {"run": parent[0], "step": parent[1]}})


def row(module, name, losses, *, runs=None, share=1.0):
    account = type("Account", (), {"share": share, "total": type("Spent", (), {"tokens": 3000})()})()
    runs = runs or [(fake(name, 20, dict(zip(BUDGETS, one))),) for one in losses]
    return module.Row(name=name, rate=1.0, grid={0.5: 3.0, 1.0: 2.0, 2.0: 3.0}, runs=dict(enumerate(runs)),
                      losses={seed: np.array(one) for seed, one in enumerate(losses)}, account=account)


# The runs.

def test_the_arms_share_one_trunk_a_rate_and_seed(study):
    arms = study.rate_grid(study.SHORT).arms
    trunks = {name: arms[name](8e-3, 0)[0].folder for name in study.SHARED}
    assert len(set(trunks.values())) == 1
    assert {name: len(arms[name](8e-3, 0)) for name in arms} == {
        "constant": 1, "wsd": 4, "wsd_linear": 4, "wsd_s": 3, "cosine": 3, "linear": 3, "linear_10": 3,
        "cyclic_cosine": 1, "schedule_free": 1}
    assert len(study.study().runs) == 3 * (1 + 3 + 3 + 2 + 3 * 3 + 2)  # of three rates, all different
    assert study.arm("schedule_free", study.SHORT, 8e-3, 0)[0].optimizer.kind == "schedule_free"


def test_every_arm_ends_or_is_evaluated_at_every_budget(study):
    for form in (study.SHORT, study.FULL):
        for name, arm in study.rate_grid(form).arms.items():
            runs = arm(8e-3, 1)
            for budget in form.budgets:
                assert any(budget in (run.updates, *run.checkpoint.keep) for run in runs), (name, budget)


def test_cost_follows_the_closed_forms(study):
    accounts, (first, second, longest) = study.accounts(study.SHORT), study.SHORT.budgets
    totals = {name: account.total.updates for name, account in accounts.items()}
    decays = int(study.DECAY * first) + int(study.DECAY * second)
    separate = sum(study.SHORT.budgets)
    assert totals == dict.fromkeys(("constant", "wsd_s", "cyclic_cosine", "schedule_free"), longest) | {
        "wsd": longest + decays, "wsd_linear": longest + decays} | dict.fromkeys(study.SEPARATE, separate)
    assert all(account.separate.updates == separate for account in accounts.values())


def test_the_late_cycles_end_at_the_compute_that_wsd_has_spent_by_then(study):
    _, late, cycles = study.arm("wsd_s", study.SHORT, 8e-3, 0)
    first, second, longest = study.SHORT.budgets
    spent = np.cumsum([0, int(study.DECAY * first), int(study.DECAY * second)])
    assert late.schedule.ends == tuple(study.SHORT.budgets + spent) and cycles.schedule.ends == study.SHORT.budgets


# The records.

def test_the_loss_at_a_budget_is_of_the_run_that_ends_there(rows_module):
    trunk = fake("trunk", 20, {8: 4.0, 10: 3.5, 20: 3.0})
    short, long = fake("t10", 10, {10: 2.0}, parent=("trunk", 8)), fake("t20", 20, {20: 1.0}, parent=("trunk", 16))
    assert [rows_module.loss_at((trunk, short, long), at) for at in (8, 10, 20)] == [4.0, 2.0, 1.0]
    assert rows_module.mean_loss((trunk, short, long), BUDGETS) == 1.5
    assert rows_module.mean_loss((trunk,), BUDGETS) == 3.25
    assert np.isnan(rows_module.loss_at((trunk,), 9))
    trunk.status["state"] = "diverged"
    assert rows_module.mean_loss((trunk, short, long), BUDGETS) == np.inf


def test_the_path_to_a_branch_goes_along_its_trunk(report):
    trunk, branch = fake("trunk", 20, {4: 5.0, 8: 4.0, 20: 3.0}), fake("t10", 10, {10: 2.0}, parent=("trunk", 8))
    tokens, losses = report.path_to((trunk, branch))
    assert tokens.tolist() == [400, 800, 1000] and losses.tolist() == [5.0, 4.0, 2.0]


def test_nulls_and_reversals_are_named(report, rows_module):
    base = row(rows_module, "cosine", [[2.0, 1.0], [2.1, 1.1], [2.2, 1.2]])
    same = row(rows_module, "wsd", [[2.1, 1.1], [2.0, 1.0], [2.2, 1.2]], share=0.6)
    turned = row(rows_module, "linear", [[1.9, 1.5], [2.01, 1.6], [2.1, 1.71]])
    notes = " ".join(report.findings([same, base, turned], base, (1000, 2000)))
    assert "Not told apart from cosine at 0.00M tokens: WSD, 1-sqrt." in notes
    assert "at one budget, higher at another: linear to 0." in notes
    assert "WSD, 1-sqrt, in 60% of the compute" in notes
    cells = report.compared(turned, base, (100_000, 200_000))
    assert cells["at 0.10M"].endswith(" lower") and cells["at 0.20M"].endswith(" higher")


# The claims.

@pytest.mark.parametrize(("figures", "says"), [
    ((-1.0, 0.5), "true"), ((1.0, 0.5), "false"), ((-0.4, 0.5), "undecided")])
def test_a_claim_is_decided_by_the_interval(claims, figures, says):
    assert claims.below(*figures) == says
    assert claims.above(-figures[0], figures[1]) == says


@pytest.mark.parametrize(("figures", "says"), [
    ((0.004, 0.005), "true"), ((0.004, 0.007), "undecided"), ((-0.02, 0.009), "false"), ((-0.02, 0.011), "undecided")])
def test_the_same_means_within_a_hundredth(claims, figures, says):
    assert claims.interval_within(*figures) == says


def test_budgets_that_disagree_are_told_one_by_one(claims):
    verdict = lambda *says: claims.told("c", [(0.0, 1.0)], says)["verdict"]  # noqa: E731
    assert (verdict("true", "true"), verdict("true", "undecided")) == ("true", "true, undecided")


@pytest.mark.parametrize(("stable", "says"), [(0.1, "true"), (0.3, "false")])
def test_the_fall_in_a_decay_is_held_against_that_of_the_trunk(claims, rows_module, stable, says):
    def runs(jitter):
        trunk = fake("trunk", 20, {8: 4.0, 10: 4.0 - stable, 16: 3.5, 20: 3.5 - stable})
        return (trunk, fake("t10", 10, {10: 3.4 + jitter}, parent=("trunk", 8)),
                fake("t20", 20, {20: 2.9 + jitter}, parent=("trunk", 16)))

    wsd = row(rows_module, "wsd", [[3.4, 2.9]] * 3, runs=[runs(jitter) for jitter in (-0.01, 0.0, 0.01)])
    assert claims.steepness(wsd.runs[1], 10) == pytest.approx(0.6 - 3 * stable)
    lines = claims.check({"wsd": wsd, "cosine": row(rows_module, "cosine", [[3.4, 2.9]] * 3)}, BUDGETS)
    assert [one["verdict"] for one in lines] == ["true", says]


def test_equal_compute_compares_the_late_cycles(claims, rows_module):
    wsd = row(rows_module, "wsd", [[3.0, 2.0], [3.1, 2.1]])
    runs = [(fake("trunk", 20, {}), fake("wsd_s-late-t22", 22, {10: 3.0 + d, 22: 1.5 + d}, parent=("trunk", 8),
                                         ends=(10, 22)), fake("wsd_s-t20", 20, {})) for d in (0.0, 0.1)]
    cycles = row(rows_module, "wsd_s", [[9.0, 9.0]] * 2, runs=runs)
    np.testing.assert_allclose(claims.later(cycles, wsd, 0), 0.0)
    np.testing.assert_allclose(claims.later(cycles, wsd, 1), -0.5)


def test_claims_about_missing_schedules_are_left_out(claims, rows_module):
    both = {name: row(rows_module, name, [[2.0 + add, 1.0 + 2 * add]] * 3)
            for name, add in (("cosine", 0.0), ("linear", 0.0), ("linear_10", 0.1))}
    assert [line["verdict"] for line in claims.check(both, BUDGETS)] == ["true", "true"]
