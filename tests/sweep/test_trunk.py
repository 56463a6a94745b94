"""Trunks: which runs they make, what these cost, and what is refused."""

import contextlib
import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from jaxlm import model
from jaxlm.config import ConfigError
from jaxlm.data import DataConfig, Synthetic
from jaxlm.model import ModelConfig
from jaxlm.schedules import WSD, WSDS, Constant, Cosine, as_array
from jaxlm.sweep import Stage, Study, Trunk, compute
from jaxlm.train import CheckpointConfig, EvalConfig, Parent, RunConfig

EACH = 32  # tokens an update
BUDGETS = (100, 200, 400)
RUN = RunConfig(
    name="w8-trunk", updates=1000, batch=4, schedule=Constant(peak_lr=1e-2, warmup=10),
    model=ModelConfig(vocabulary=16, sequence=8, layers=1, width=8, heads=1, ff=8),
    data=DataConfig(sources=(Synthetic(vocabulary=16),), sequence=8), checkpoint=CheckpointConfig(every=50))


def decays(trunk, budgets=BUDGETS, **settings):
    for updates in budgets:
        trunk = trunk.decay_at(updates * EACH, **settings)
    return trunk


def rates(run):
    return as_array(run.schedule.build(run.updates), run.updates)


def test_a_trunk_trains_what_its_branches_need_and_no_update_more():
    trunk, *branches = decays(Trunk(RUN)).runs
    assert (trunk.name, trunk.updates) == ("w8-trunk", 320)
    assert trunk.checkpoint == CheckpointConfig(every=50, keep=(80, 160, 320))
    assert [run.name for run in branches] == ["w8-t100", "w8-t200", "w8-t400"]
    assert [run.parent for run in branches] == [Parent(run=trunk.folder, step=step) for step in (80, 160, 320)]
    assert [run.schedule for run in branches] == [WSD(peak_lr=1e-2, warmup=10, decay=decay) for decay in (20, 40, 80)]
    Study(name="s", question="?", stages=(Stage(title="all", runs=(trunk, *branches)),))


def test_a_builder_changes_nothing():
    trunk = Trunk(RUN)
    trunk.decay_at(100 * EACH)
    assert trunk == Trunk(RUN) and trunk.runs == (RUN,)


def test_cycles_are_one_branch_that_leaves_at_the_first_decay():
    trunk, run = Trunk(RUN).cycle([updates * EACH for updates in BUDGETS], fraction=0.25, rewarmup=5).runs
    assert run.schedule == WSDS(peak_lr=1e-2, warmup=10, ends=BUDGETS, decay=(25, 25, 50), rewarmup=5)
    assert (run.parent, run.updates, run.checkpoint.keep) == (Parent(run=trunk.folder, step=75), 400, BUDGETS)
    assert trunk.updates == 75 and trunk.checkpoint.keep == (75,)
    np.testing.assert_array_equal(rates(run)[:75], rates(trunk))
    Study(name="s", question="?", stages=(Stage(title="all", runs=(trunk, run)),))


@pytest.mark.parametrize("shape", ["linear", "sqrt", "cosine", "exponential"])
def test_a_branch_has_the_rates_of_its_trunk_before_it_leaves(shape):
    for schedule in (RUN.schedule, WSD(peak_lr=3e-3, warmup=7)):
        empty = Trunk(RUN.replace(schedule=schedule))
        trunk, run = empty.decay_at(100 * EACH, shape=shape, final=0.1, fraction=0.3).runs
        np.testing.assert_array_equal(rates(run)[:70], rates(trunk))
        assert (np.diff(rates(run)[70:]) < 0).all()


def test_fields_of_a_branch_are_its_own_and_all_others_the_trunks():
    settings = {"evaluation": EvalConfig(every=5), "checkpoint": CheckpointConfig(every=3), "name": "dense"}
    _, run = Trunk(RUN).decay_at(100 * EACH, **settings).runs
    assert (run.name, run.evaluation.every, run.checkpoint) == ("dense", 5, CheckpointConfig(every=3))
    assert Trunk(RUN).decay_at(100 * EACH).runs[1].checkpoint == RUN.checkpoint
    with pytest.raises(TypeError):
        Trunk(RUN).decay_at(100 * EACH, schedule=Constant(peak_lr=1.0))


@pytest.mark.parametrize(("fraction", "decay"), [(0.29, 29), (0.1, 10), (0.299, 29), (1 / 3, 33)])
def test_the_share_is_rounded_down_to_whole_updates(fraction, decay):
    assert Trunk(RUN).decay_at(100 * EACH, fraction=fraction).runs[1].schedule.decay == decay


# Compute, against the closed forms.

@pytest.mark.parametrize("share", [Fraction(1, 10), Fraction(1, 5), Fraction(1, 2)])
def test_branches_of_a_trunk_cost_the_longest_budget_and_the_decays_of_the_others(share):
    found = decays(Trunk(RUN), fraction=float(share)).compute
    assert found.total.updates == BUDGETS[-1] + share * sum(BUDGETS[:-1])
    assert found.separate.updates == sum(BUDGETS)
    assert found.total.tokens == found.total.updates * EACH
    per_token = sum(model.flops_per_token(RUN.model, 8).values())
    assert found.total.flops == pytest.approx(found.total.tokens * per_token)
    assert found.share == pytest.approx(found.total.updates / sum(BUDGETS))


def test_cycles_cost_the_longest_budget_alone():
    found = Trunk(RUN).cycle([updates * EACH for updates in BUDGETS]).compute
    assert (found.total.updates, found.separate.updates) == (BUDGETS[-1], sum(BUDGETS))
    assert sorted(spent.updates for spent in found.runs.values()) == [90, 310]


def test_separate_runs_cost_their_sum():
    runs = [RUN.replace(name=f"t{updates}", updates=updates, schedule=Cosine(peak_lr=1e-2)) for updates in BUDGETS]
    assert compute(runs).total == compute(runs).separate and compute(runs).share == 1
    assert compute(runs).total.updates == sum(BUDGETS)


def test_what_several_branches_share_is_paid_once():
    both = decays(Trunk(RUN)).cycle([updates * EACH for updates in BUDGETS], fraction=0.2)
    assert both.compute.total.updates == (400 + 60) + (400 - 80)
    assert both.compute.separate.updates == 2 * sum(BUDGETS)
    held = Trunk(RUN)
    for updates in BUDGETS:
        held = held.hold_at(updates * EACH)
    assert (held.compute.total.updates, held.compute.separate.updates) == (400, 700)
    assert held.runs[0].checkpoint.keep == BUDGETS
    held = decays(held)
    assert (held.compute.total.updates, held.compute.separate.updates) == (400 + 20 + 40 + 80, 1400)
    assert held.runs[0].checkpoint.keep == (80, 100, 160, 200, 320, 400)


# Bad input.

@pytest.mark.parametrize(("build", "said"), [
    (lambda: Trunk(RUN.replace(schedule=Cosine(peak_lr=1.0))), "schedule = Cosine.*a trunk's rate is constant"),
    (lambda: Trunk(RUN.replace(schedule=WSD(peak_lr=1.0, decay=5))), "schedule = WSD.*WSD with decay = 0"),
    (lambda: Trunk(RUN).decay_at(100 * EACH + 1), "tokens = 3201: must be a whole number of updates, .* of 32"),
    (lambda: Trunk(RUN).decay_at(0), "tokens = 0: "),
    (lambda: Trunk(RUN).hold_at(-EACH), "tokens = -32: "),
    (lambda: Trunk(RUN).hold_at(9 * EACH), "tokens = 288: a result at update 9 overlaps the warm-up of 10"),
    (lambda: Trunk(RUN).decay_at(100 * EACH, fraction=0.95), "fraction = 0.95: a decay of 95 .* the warm-up of 10"),
    (lambda: Trunk(RUN).decay_at(100 * EACH, fraction=0.0), r"fraction = 0.0: must lie in \(0, 1\]"),
    (lambda: Trunk(RUN).decay_at(100 * EACH, fraction=1e-3), "fraction = 0.001: leaves no update to decay, of 100"),
    (lambda: Trunk(RUN).decay_at(100 * EACH, shape="square root"), "shape = 'square root'"),
    (lambda: decays(Trunk(RUN), (100, 100)), "name = 'w8-t100': each run of a trunk needs a name"),
    (lambda: Trunk(RUN).decay_at(100 * EACH, name="w8-trunk"), "name = 'w8-trunk': "),
    (lambda: Trunk(RUN).cycle(()), "ends = "),
    (lambda: Trunk(RUN).cycle((200 * EACH, 100 * EACH)), "ends = .*cycles must not overlap"),
    (lambda: Trunk(RUN).cycle((100 * EACH,), fraction=0.99), "fraction = 0.99: a decay of 99 updates up to update 100"),
    (lambda: Trunk(RUN).cycle((100 * EACH, 120 * EACH), rewarmup=19), "cycle 1 has 20 updates"),
    (lambda: Trunk(RUN.replace(schedule=Constant(peak_lr=1))).decay_at(EACH, fraction=1.0), "no update of the trunk")])
def test_refusals(build, said):
    with pytest.raises(ConfigError, match=said) as error:
        build()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("schedule", "right"), [
    (WSD(peak_lr=1e-2, warmup=10, decay=20), True), (WSD(peak_lr=1e-2, warmup=10, decay=22), False),
    (WSD(peak_lr=2e-2, warmup=10, decay=20), False), (Constant(peak_lr=1e-2, warmup=11), False)])
def test_a_study_refuses_a_branch_whose_record_would_not_tell_its_past(schedule, right):
    trunk, run = Trunk(RUN).decay_at(100 * EACH).runs
    branch = dataclasses.replace(run, schedule=schedule)
    said = "schedule = .*: run w8-t100 branches off w8-trunk-.* after 80 updates and must have its rates until then"
    with contextlib.nullcontext() if right else pytest.raises(ConfigError, match=said):
        Study(name="s", question="?", stages=(Stage(title="all", runs=(trunk, branch)),))
