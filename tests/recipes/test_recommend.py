"""Recommendations: closed forms, golden values, what moves the rate, ranges, counts, mistakes."""

import contextlib
import dataclasses
import doctest
import importlib
import io
import json
import math
import pathlib
import warnings

import numpy as np
import pytest

import scaling
from jaxlm.cli import main
from jaxlm.config import ConfigError
from jaxlm.data import DataConfig, Synthetic
from jaxlm.model import ModelConfig, flops_per_token, parameter_counts
from jaxlm.optim import SGD, AdamW, Lion
from jaxlm.recipes import RecipeWarning, recommend
from jaxlm.train import RunConfig
from scaling.questions.published_draws import published_draws

SHARED = pathlib.Path(__file__).resolve().parents[2].parent / "shared"
# 302 M parameters without embedding: inside Step Law's runs.
MODEL = ModelConfig(vocabulary=50304, sequence=2048, layers=24, width=1024, heads=16)
SMALL = ModelConfig(vocabulary=256, sequence=128, layers=2, width=32, heads=2, ff=64, tied=True)
TOKENS = 2e10


def quiet(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecipeWarning)
        return recommend(*arguments, **options)


def draws(path, count=50):
    rng = np.random.default_rng(0)
    rows = np.array([0.58631, -0.71292, 0.30749, -0.54354, 0.57094]) + 0.01 * rng.standard_normal((count, 5))
    lines = [",".join(map(str, row)) for row in rows.tolist()]
    path.write_text("\n".join(["lr_intercept,lr_coefN,lr_coefD,bs_intercept,bs_coefD", *lines]))
    return published_draws(path)


def test_step_law_in_closed_form_and_without_a_warning_inside_its_range():
    with warnings.catch_warnings():
        warnings.simplefilter("error", RecipeWarning)
        found = recommend(MODEL, TOKENS)
    n = parameter_counts(MODEL).non_embedding
    assert found.N == n and found.counting == "non_embedding" and not found.warnings
    assert found.peak_lr == pytest.approx(1.79 * n**-0.713 * TOKENS**0.307, rel=1e-12)
    assert found["batch"].value == pytest.approx(0.58 * TOKENS**0.571, rel=1e-12)
    assert found.batch == round(0.58 * TOKENS**0.571 / 2048)
    assert found.updates == TOKENS // (found.batch * 2048)
    assert "Li et al. 2025" in found["peak rate"].source and found["peak rate"].valid["N"] == (2.146e8, 1.074e9)
    assert found["peak rate"].low is None and found["peak rate"].interval.startswith("none")


def test_the_golden_step_law_numbers():
    path, table = SHARED / "golden" / "schedules" / "step_law.npz", SHARED / "runs" / "step-law"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    golden = np.load(path)
    files = sorted(table.glob("*scaling_model_parameters.csv"))
    fit = published_draws(files[0]) if files else None
    for i, n in enumerate(golden["N"]):
        for j, d in enumerate(golden["D"]):
            rows = {row.rule: row for row in scaling.optimal(fit, N=n, D=d, counting="non_embedding").rows}
            assert rows["Step Law"].lr == pytest.approx(golden["lr_paper"][i, j], rel=1e-6)
            assert rows["Step Law"].batch_tokens == pytest.approx(golden["bs_tokens_paper"][i, j], rel=1e-6)
            if fit is not None:
                assert rows["step_law (fit)"].lr == pytest.approx(golden["lr_tool"][i, j], rel=1e-6)
                assert rows["step_law (fit)"].batch_tokens == pytest.approx(golden["bs_tokens_tool"][i, j], rel=1e-6)


def test_a_fit_with_draws_gives_intervals(tmp_path):
    fit = draws(tmp_path / "draws.csv")
    found = recommend(MODEL, TOKENS, rule=fit, level=0.5)
    rate = found["peak rate"]
    expected = scaling.predict(fit, N=found.N, D=TOKENS, output="lr", level=0.5)
    assert (rate.low, rate.value, rate.high) == (expected.low[0], expected.point[0], expected.high[0])
    assert "50% from 50 draws" in rate.interval and rate.rule == "fit of step_law"


def test_a_batch_of_ones_own_moves_the_rate_by_the_root_and_under_sgd_in_proportion():
    base = recommend(MODEL, TOKENS)
    factor = 4 * 2048 * 32 / base["batch"].value
    adam = quiet(MODEL, TOKENS, batch=128)
    assert adam.peak_lr == pytest.approx(base.peak_lr * math.sqrt(factor), rel=1e-12) and adam.batch == 128
    assert "square root" in adam["peak rate"].rule and "2006.09092" in adam["peak rate"].source
    assert quiet(MODEL, TOKENS, batch=128, optimizer=SGD()).peak_lr == pytest.approx(base.peak_lr * factor, rel=1e-12)


def test_the_interval_moves_with_the_rate(tmp_path):
    fit = draws(tmp_path / "draws.csv")
    base = recommend(MODEL, TOKENS, rule=fit)["peak rate"]
    moved = quiet(MODEL, TOKENS, rule=fit, batch=128)["peak rate"]
    assert moved.low / moved.value == pytest.approx(base.low / base.value)


def test_deepseek_takes_the_models_flops_and_porian_warm_up_and_beta2():
    flops = flops_per_token(MODEL)
    c = (flops["attention"] + flops["feed_forward"]) * TOKENS
    assert quiet(MODEL, TOKENS, rule="deepseek").peak_lr == pytest.approx(0.3118 * c**-0.125)
    found = quiet(MODEL, TOKENS, rule="Porian, in OLMo-core")
    assert found["beta2"].value == (0.99 if found["batch"].value < 2**19 else 0.95)
    assert found["warm-up"].value == min(round(found.N / (found.batch * 2048)), found.updates // 20)
    assert found["warm-up"].source == found["peak rate"].source


def test_the_schedule_fits_the_run_and_applies_to_it():
    run = RunConfig(name="a", updates=3, batch=1, model=SMALL, data=DataConfig(
        sources=(Synthetic(vocabulary=256),), sequence=128, seed=0), optimizer=AdamW(b1=0.8))
    for name, kind in (("wsd", "wsd"), ("linear", "linear"), ("cosine", "cosine")):
        found = quiet(SMALL, 1e8, schedule=name, rule="porian-in-olmo-core")
        made = found.apply(run)
        assert made.schedule.kind == kind and made.schedule.peak_lr == found.peak_lr
        assert made.batch * 128 * made.updates <= 1e8 and made.optimizer.b2 == 0.99 and made.optimizer.b1 == 0.8
    wsd = quiet(SMALL, 1e8).schedule
    assert wsd.decay == round(0.2 * quiet(SMALL, 1e8).updates) and wsd.shape == "sqrt" and wsd.final == 0
    with pytest.raises(ConfigError, match="must be the model that the recipe is for"):
        quiet(MODEL, TOKENS).apply(run)
    with pytest.raises(ConfigError, match="run.optimizer = 'adamw': must be the recipe's sgd"):
        quiet(SMALL, 1e8, optimizer=SGD()).apply(run)


def test_outside_the_range_it_warns_and_names_range_and_distance():
    n = parameter_counts(SMALL).non_embedding
    with pytest.warns(RecipeWarning) as given:
        found = recommend(SMALL, 1e7)
    text = " ".join(str(one.message) for one in given)
    assert f"N {2.146e8 / n:.3g} times below 2.15e+08" in text and "D 400 times below 4e+09" in text
    assert "fitted on N 2.15e+08 to 1.07e+09" in text and "WARNING: Step Law is used outside" in found.table()


def test_an_answer_outside_the_rates_of_the_runs_is_named_too():
    # 60 M parameters on 1e12 tokens: the formula gives 0.025.
    text = " ".join(quiet(dataclasses.replace(MODEL, layers=5), 1e12).warnings)
    assert "lr 1." in text and "times above 0.022" in text


def test_another_optimizer_than_the_rules_is_named():
    assert any("AdamW; lion may" in line for line in quiet(MODEL, TOKENS, optimizer=Lion()).warnings)


def test_n_is_counted_as_the_rule_declares(tmp_path):
    counts = parameter_counts(MODEL)
    total = dataclasses.replace(draws(tmp_path / "draws.csv"), counting="total")
    assert quiet(MODEL, TOKENS, rule=total).N == counts.total
    with pytest.raises(ConfigError, match="must be 'non_embedding', which Step Law declares") as error:
        recommend(MODEL, TOKENS, counting="total")
    assert f"{counts.total:,}" in str(error.value) and f"{counts.non_embedding:,}" in str(error.value)
    lines = " ".join(quiet(MODEL, TOKENS, rule="porian-as-tabled").warnings)
    assert "does not say what its N counts" in lines and f"{counts.total:,}" in lines


def test_two_rules_one_for_the_rate_and_one_for_the_batch():
    found = quiet(MODEL, TOKENS, rule=("kaplan", "power-lines"))
    assert found["peak rate"].rule == "Kaplan" and found["batch"].rule == "Power Lines"
    assert any("Kaplan names no batch" in line for line in found.warnings)
    both = quiet(MODEL, TOKENS, rule=("power-lines", "step-law"))
    assert both.peak_lr == pytest.approx(
        recommend(MODEL, TOKENS).peak_lr * math.sqrt(both.batch * 2048 / recommend(MODEL, TOKENS)["batch"].value))


@pytest.mark.parametrize(("options", "message"), [
    ({"tokens": 0}, "tokens = 0: must be finite and above 0"),
    ({"tokens": float("nan")}, "tokens = nan: must be finite and above 0"),
    ({"tokens": 1e3}, "tokens = 1000.0: must be at least one batch, 1 sequences of 2048 = 2048 tokens"),
    ({"rule": "step-lwa"}, "rule = 'step-lwa': no such rule; nearest: 'Step Law'"),
    ({"rule": "zzz"}, "rule = 'zzz': no such rule; known: 'Step Law'"),
    ({"rule": ()}, r"rule = \(\): must name at least one"),
    ({"rule": "minicpm"}, "rule = 'MiniCPM': gives no peak rate: needs loss"),
    ({"rule": "kaplan"}, "rule = 'Kaplan': gives no batch; name a further rule, or give batch"),
    ({"rule": scaling.published("chinchilla", "besiroglu2024")}, "a fit of the chinchilla law gives no rate and batch"),
    ({"schedule": "step"}, "schedule = 'step': must be one of wsd, linear, cosine"),
    ({"counting": "all"}, "counting = 'all': must be one of total"),
    ({"batch": 0}, "batch = 0: must be a whole number of at least 1"),
    ({"sequence": 4096}, "sequence = 4096: must be from 1 to model.sequence = 2048"),
])
def test_mistakes_are_one_line(options, message):
    options = {"tokens": TOKENS, "rule": "step-law"} | options
    with pytest.raises(ConfigError, match=message) as error:
        quiet(MODEL, options.pop("tokens"), **options)
    assert "\n" not in str(error.value)


def test_everything_is_json_and_text():
    found = quiet(SMALL, 1e7, batch=64)
    assert json.loads(json.dumps(found.to_dict()))["values"][0]["value"] == found.peak_lr
    for word in ("peak rate", "batch", "warm-up", "decay", "Haegele", "Wortsman", "none: a convention"):
        assert word in found.table()


STUDY = """
from jaxlm.data import DataConfig, Synthetic
from jaxlm.model import ModelConfig
from jaxlm.sweep import Stage, Study
from jaxlm.train import RunConfig

def study():
    model = ModelConfig(vocabulary=256, sequence=128, layers=2, width=32, heads=2, ff=64, tied=True)
    run = RunConfig(name="one", updates=3, batch=1, model=model,
                    data=DataConfig(sources=(Synthetic(vocabulary=256),), sequence=128, seed=0))
    return Study(name="s", question="?", stages=(Stage(title="t", runs=(run,)),))
"""


def test_the_command(tmp_path):
    (tmp_path / "s.py").write_text(STUDY)
    asked = ["recommend", "--model", f"{tmp_path / 's.py'}:one", "--tokens", "1e8"]
    text, data, mistake = io.StringIO(), io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(text):
        assert main(asked) == 0
    assert "WARNING: Step Law is used outside" in text.getvalue()
    with contextlib.redirect_stdout(data):
        assert main([*asked, "--rule", "deepseek", "--batch", "8", "--json"]) == 0
    assert json.loads(data.getvalue())["batch"] == 8
    scaling.save(draws(tmp_path / "draws.csv"), tmp_path / "fit.json")
    with contextlib.redirect_stdout(text):
        assert main([*asked, "--rule", str(tmp_path / "fit.json")]) == 0
    assert "fit of step_law" in text.getvalue()
    with contextlib.redirect_stderr(mistake):
        assert main([*asked, "--rule", "stp-law"]) == 2
    assert "nearest: 'Step Law'" in mistake.getvalue()


@pytest.mark.parametrize("name", ["recommend", "rules"])
def test_the_examples_are_right(name):
    found = doctest.testmod(importlib.import_module(f"jaxlm.recipes.{name}"))
    assert found.attempted > 0 and found.failed == 0
