"""Published rules side by side: known values, what is missing, how far outside."""

import math

import pytest

import scaling
from scaling.errors import InputError
from scaling.laws import hyperparameter_rules as rules
from scaling.questions.published_draws import published_draws


def rows(n=1e9, d=2e10, counting="non_embedding", **given):
    return {row.rule: row for row in rules.recommend(n, d, counting=counting, **given)}


def test_known_values():
    found = rows(5e8, 2e10, flops_per_token=4e9, loss=2.5)
    assert found["Step Law"].lr == pytest.approx(1.633e-3, rel=1e-3)
    assert found["Step Law"].batch_tokens == pytest.approx(4.42e5, rel=1e-3)
    c = 4e9 * 2e10
    assert found["DeepSeek"].lr == pytest.approx(0.3118 * c**-0.125)
    assert found["DeepSeek"].batch_tokens == pytest.approx(0.292 * c**0.3271)
    assert found["MiniCPM"].batch_tokens == pytest.approx(1.21e9 / 2.5**6.24) and found["MiniCPM"].lr is None
    assert found["Kaplan"].lr == pytest.approx(0.003239 - 0.0001395 * math.log(5e8))


def test_both_forms_of_porian_agree_where_they_meet():
    # The coded rule is anchored at 108M parameters; the table rounds its constants to two digits.
    found = rows(1.08e8, 2e9)
    coded, tabled = found["Porian, in OLMo-core"], found["Porian, as tabled"]
    assert coded.lr == pytest.approx(0.0047) and coded.batch_tokens == pytest.approx(160 * 2048)
    assert tabled.lr == pytest.approx(coded.lr, rel=0.03)
    assert tabled.batch_tokens == pytest.approx(coded.batch_tokens, rel=0.05)
    assert coded.verified and not tabled.verified


def test_a_rule_says_what_it_lacks():
    found = rows()
    assert found["DeepSeek"].lr is None and "flops_per_token" in found["DeepSeek"].missing[0]
    assert found["MiniCPM"].batch_tokens is None and "loss" in found["MiniCPM"].missing[0]
    assert not found["Kaplan"].missing


def test_a_rule_says_how_far_outside_it_is():
    found = rows(1e10, 1e10)
    assert found["Step Law"].in_range == "N 9.31 times above 1.07e+09; lr 1.54 times below 0.00024"
    assert rows(1e9, 2e10)["Step Law"].in_range == "inside"
    assert rows(1e9, 1e9)["Step Law"].in_range == "D 4 times below 4e+09"
    assert "not stated" in found["Porian, as tabled"].in_range


def test_kaplan_has_no_rate_where_its_formula_is_negative():
    found = rows(2e10, 1e11)["Kaplan"]
    assert found.lr is None and "it has none at this size" in found.note


def test_another_counting_is_named_not_converted():
    found = rows(counting="total")
    assert "counts non_embedding parameters, the N given total" in found["Step Law"].note
    assert found["Step Law"].lr == rows()["Step Law"].lr


def test_own_fits_come_first_with_their_intervals(tmp_path):
    path = tmp_path / "fits.csv"
    lines = [f"{0.58 + 0.01 * i},-.713,.307,{-0.54 - 0.01 * i},.571" for i in range(5)]
    path.write_text("\n".join(["lr_intercept,lr_coefN,lr_coefD,bs_intercept,bs_coefD", *lines]))
    fit = published_draws(path)
    first = rules.recommend(1e9, 2e10, counting="non_embedding", fits=[fit], level=0.5)[0]
    expected = scaling.predict(fit, N=1e9, D=2e10, output="lr", level=0.5)
    assert first.lr_interval == (expected.low[0], expected.high[0])
    assert first.lr_interval[0] < first.lr < first.lr_interval[1]
    assert "lr 0.00" in rules.table([first])


def test_every_rule_names_its_source_and_gives_something():
    for rule in rules.RULES:
        assert rule.source and (rule.lr or rule.batch) and rule.needs


def test_bad_input():
    with pytest.raises(InputError, match="N = -1"):
        rows(-1)
    with pytest.raises(InputError, match="counting"):
        rows(counting="params")
    with pytest.raises(InputError, match="gives no lr and batch"):
        rules.recommend(1e9, 1e10, counting="total", fits=[scaling.published("chinchilla", "besiroglu2024")])
