"""Law-optimal schedules: what the law's curves were, kept through files and held against the run."""

import dataclasses
import json
import warnings

import numpy as np
import pytest

import scaling
from jaxlm.config import ConfigError
from jaxlm.data import DataConfig, Synthetic
from jaxlm.model import ModelConfig, parameter_counts
from jaxlm.optim import AdamW
from jaxlm.recipes import LawScheduleWarning, law_schedule
from jaxlm.schedules import Constant, FromArray, as_array
from jaxlm.train import RunConfig
from scaling import record
from scaling.curve_fit import conditions
from scaling.laws import annealing
from scaling.readers import curve_of

PEAK, UPDATES, WARMUP = 1e-2, 200, 10
MODEL = ModelConfig(vocabulary=16, sequence=8, layers=1, width=16, heads=1, ff=16, tied=True)
RUN = RunConfig(name="next", updates=UPDATES, batch=4, model=MODEL, schedule=Constant(peak_lr=PEAK, warmup=WARMUP),
                data=DataConfig(sources=(Synthetic(vocabulary=16),), sequence=8, seed=0))


def rates(name):
    after = np.arange(UPDATES - WARMUP) / (UPDATES - WARMUP)
    shape = {"cosine": 0.5 + 0.5 * np.cos(np.pi * after), "constant": np.ones(after.size)}[name]
    return PEAK * np.concatenate([np.arange(1, WARMUP + 1) / WARMUP, shape])


def write_run(folder, name, config=RUN):
    """A finished record as `jaxlm` writes it, its losses made by a known law."""
    counts, schedule = parameter_counts(config.model), rates(name)
    identity = {
        "name": name, "study": "t", "seed": 0, "parent": None, "config": config.identity, "config_hash": "0",
        "params": {key: getattr(counts, key) for key in ("total", "non_embedding", "with_head")},
        "tokens_per_update": config.tokens_per_update, "flops_per_token": {}, "corpus": {"name": "none", "digest": "0"},
        "loss_unit": "nats/token", "bytes_per_token": 1.0}
    record.create(folder, identity, schedule, {})
    s1, s2 = annealing.sums(schedule, lambda_=0.95, warmup_steps=WARMUP)
    rng = np.random.default_rng(len(name))
    losses = (1.5 + 0.4 * s1**-0.5 - s2) * np.exp(2e-3 * rng.standard_normal(UPDATES))
    return schedule, losses


@pytest.fixture(scope="module")
def fit(tmp_path_factory):
    """The annealing law of two curves, each with the facts of a run record."""
    root = tmp_path_factory.mktemp("records")
    curves = []
    for name in ("constant", "cosine"):
        schedule, losses = write_run(root / name, name)
        steps = np.arange(WARMUP, UPDATES, 5)
        facts = curve_of(record.read(root / name)).facts
        curves.append(scaling.Curve(name=name, schedule=schedule, steps=steps, losses=losses[steps], facts=facts))
    return scaling.fit_curves("annealing", curves, unit="nats/token", settings={"lambda": 0.95}, draws=20)


@pytest.fixture(scope="module")
def best(fit):
    return scaling.schedule(fit, steps=UPDATES, warmup_steps=WARMUP, redraws=0)


def drive(best, run, folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LawScheduleWarning)
        return law_schedule(best, run, folder=folder)


def test_a_fit_keeps_what_its_curves_were_and_so_does_its_file(fit, tmp_path):
    counts = parameter_counts(MODEL)
    assert fit.conditions["tokens_per_update"] == [32] and fit.conditions["updates"] == [UPDATES]
    assert fit.conditions["peak_lr"] == [PEAK] and fit.conditions["optimizer"] == [RUN.identity["optimizer"]]
    assert fit.conditions["params"][0]["total"] == counts.total
    scaling.save(fit, tmp_path / "fit.json")
    assert scaling.load(tmp_path / "fit.json").conditions == fit.conditions


def test_a_fit_of_before_is_read(fit, tmp_path):
    scaling.save(fit, tmp_path / "fit.json")
    data = json.loads((tmp_path / "fit.json").read_text())
    del data["conditions"]
    (tmp_path / "fit.json").write_text(json.dumps(data))
    assert scaling.load(tmp_path / "fit.json").conditions == {}


def test_a_fact_that_one_curve_does_not_state_is_not_known():
    known = scaling.Curve(name="a", schedule=np.ones(4), steps=np.arange(4), losses=np.ones(4),
                          facts={"tokens_per_update": 2})
    bare = dataclasses.replace(known, name="b", facts={}, schedule=2 * np.ones(5))
    assert conditions([known, bare]) == {"peak_lr": [1.0, 2.0], "updates": [4, 5]}
    assert conditions([(np.ones(4), np.arange(4), np.ones(4))]) == {"peak_lr": [1.0], "updates": [4]}


def test_the_run_gets_the_schedule_and_nothing_else(best, tmp_path):
    made = drive(best, RUN, tmp_path / "s")
    assert isinstance(made.schedule, FromArray) and made.replace(schedule=RUN.schedule) == RUN
    np.testing.assert_array_equal(as_array(made.schedule.build(UPDATES), UPDATES), best.schedule)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LawScheduleWarning)
        again = law_schedule(tmp_path / "s", RUN)
    assert again == made


def test_the_run_is_the_same_wherever_the_schedule_lies(best, tmp_path):
    assert drive(best, RUN, tmp_path / "a").folder == drive(best, RUN, tmp_path / "b").folder != RUN.folder


@pytest.mark.parametrize(("changes", "message"), [
    ({"updates": 150}, "updates = 150: must be the 200 for which the schedule was optimised"),
    ({"schedule": Constant(peak_lr=2e-2, warmup=WARMUP)}, "schedule.peak_lr = 0.02: must be the 0.01 for which"),
    ({"batch": 8}, "tokens_per_update = 64: must be that of the curves to which the law was fitted, 32"),
    ({"optimizer": AdamW(b2=0.99)}, "optimizer = .*\"b2\": 0.99.*must be that of the curves"),
    ({"model": dataclasses.replace(MODEL, layers=2)}, "params = .*must be that of the curves"),
])
def test_a_run_unlike_the_curves_is_refused_in_one_line(best, tmp_path, changes, message):
    best.save(tmp_path / "s")
    with pytest.raises(ConfigError, match=message) as error:
        law_schedule(tmp_path / "s", RUN.replace(**changes))
    assert "\n" not in str(error.value)


def test_a_schedule_for_another_peak_than_the_curves_is_refused(fit, tmp_path):
    best = scaling.schedule(fit, steps=UPDATES, warmup_steps=WARMUP, peak_lr=2 * PEAK, redraws=0)
    with pytest.raises(ConfigError, match="peak_lr = 0.02: must be that of the curves to which .* fitted, 0.01"):
        drive(best, RUN.replace(schedule=Constant(peak_lr=2 * PEAK)), tmp_path / "s")


def test_another_length_than_the_curves_is_a_warning_that_names_the_range(fit, tmp_path):
    best = scaling.schedule(fit, steps=3 * UPDATES, warmup_steps=WARMUP, redraws=0)
    with pytest.warns(LawScheduleWarning) as given:
        law_schedule(best, RUN.replace(updates=3 * UPDATES), folder=tmp_path / "s")
    text = "updates = 600: 3 times above the lengths of the fitted curves, 200 to 200"
    assert any(text in str(one.message) for one in given)


def test_what_the_law_does_not_say_is_a_warning(fit, tmp_path):
    best = scaling.schedule(dataclasses.replace(fit, conditions={}), steps=UPDATES, warmup_steps=WARMUP, redraws=0)
    with pytest.warns(LawScheduleWarning, match="does not say peak_lr, tokens_per_update, optimizer, params"):
        law_schedule(best, RUN, folder=tmp_path / "s")


def test_the_doubts_of_the_search_are_repeated(best, tmp_path):
    doubted = dataclasses.replace(best, warnings=("rests on abrupt falls",))
    with pytest.warns(LawScheduleWarning, match="rests on abrupt falls"):
        law_schedule(doubted, RUN, folder=tmp_path / "s")


def test_a_law_of_sizes_is_held_against_the_n_that_it_was_asked_with(best, tmp_path):
    n = parameter_counts(MODEL).non_embedding
    for asked, wrong in ((n, False), (2 * n, True)):
        facts = best.provenance | {"N": float(asked), "counting": "non_embedding"}
        one = dataclasses.replace(best, provenance=facts)
        if not wrong:
            assert drive(one, RUN, tmp_path / "right").updates == UPDATES
            continue
        with pytest.raises(ConfigError, match=f"has N = {n:,} .non_embedding.: must be the {asked:,}"):
            drive(one, RUN, tmp_path / "wrong")


def test_files_that_are_no_such_schedule_are_refused(best, tmp_path):
    np.save(tmp_path / "schedule.npy", best.schedule)
    with pytest.raises(ConfigError, match="must be one that scaling.schedule found and saved"):
        law_schedule(tmp_path, RUN)
    with pytest.raises(ConfigError, match="must be a readable .npy file"):
        law_schedule(tmp_path / "nothing", RUN)
    with pytest.raises(ConfigError, match="folder = None: must say where"):
        law_schedule(best, RUN)
    with pytest.raises(ConfigError, match="goes with a BestSchedule"):
        law_schedule(tmp_path, RUN, folder=tmp_path)
