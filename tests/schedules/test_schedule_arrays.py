"""Schedules from arrays, and arrays from schedules."""

import json

import jax
import numpy as np
import optax
import pytest

from jaxlm.config import ConfigError
from jaxlm.schedules import as_array, from_array, linear, load_array

RATES = np.random.default_rng(0).uniform(0.0, 1e-3, 50)


def test_as_array_of_from_array_is_the_array_bit_for_bit():
    np.testing.assert_array_equal(as_array(from_array(RATES), 50), RATES)


def test_as_array_is_float64():
    assert as_array(linear(10), 10).dtype == np.float64


def test_as_array_of_a_long_run_joins_its_blocks():
    expected = np.arange(40000, 0, -1) / 40000
    np.testing.assert_allclose(as_array(linear(40000), 40000), expected, rtol=1e-15)


def test_as_array_leaves_float64_switched_off():
    as_array(linear(10), 10)
    assert not jax.config.jax_enable_x64


def test_as_array_takes_optax_schedules():
    got = as_array(optax.linear_schedule(1.0, 0.0, 8), 10)
    np.testing.assert_allclose(got, as_array(linear(8), 10), rtol=0, atol=1e-15)


def test_as_array_takes_a_schedule_that_ignores_its_step():
    np.testing.assert_array_equal(as_array(optax.constant_schedule(0.5), 3), [0.5] * 3)


@pytest.mark.parametrize("updates", [0, -1, 2**31, 1.5])
def test_as_array_refuses_a_bad_length(updates):
    with pytest.raises(ConfigError, match="updates = .*must be a whole number"):
        as_array(linear(10), updates)


def test_last_rate_holds_after_the_end():
    assert float(from_array([1.0, 0.5])(2**31 - 1)) == 0.5


def test_keeps_its_provenance():
    assert from_array([1.0], {"law": "chinchilla"}).provenance == {"law": "chinchilla"}


def test_rates_cannot_be_changed_afterwards():
    with pytest.raises(ValueError, match="read-only"):
        from_array([1.0, 2.0]).rates[0] = 3.0


def test_does_not_freeze_the_array_it_was_given():
    rates = np.ones(3)
    from_array(rates)
    assert rates.flags.writeable


@pytest.mark.parametrize("rates, message", [
    ([], "rates = .*one-dimensional"), ([[1.0]], "rates = .*one-dimensional"),
    (1.0, "rates = .*one-dimensional"),
    ([1.0, np.nan], r"rates\[1\] = nan: must be finite"), ([-1.0], r"rates\[0\] = -1.0: .*not negative"),
])
def test_refuses_what_is_not_a_list_of_rates(rates, message):
    with pytest.raises(ConfigError, match=message):
        from_array(rates)


def test_load_array_reads_the_pair_in_a_folder(tmp_path):
    np.save(tmp_path / "schedule.npy", RATES)
    (tmp_path / "schedule.json").write_text(json.dumps({"law": "multi-power"}))
    loaded = load_array(tmp_path)
    np.testing.assert_array_equal(loaded.rates, RATES)
    assert loaded.provenance == {"law": "multi-power"}


def test_load_array_takes_a_file_without_provenance(tmp_path):
    np.save(tmp_path / "mine.npy", RATES)
    assert load_array(tmp_path / "mine.npy").provenance == {}


@pytest.mark.parametrize("content", [None, b"", b"not an array"])
def test_load_array_refuses_what_it_cannot_read(tmp_path, content):
    if content is not None:
        (tmp_path / "schedule.npy").write_bytes(content)
    with pytest.raises(ConfigError, match="path = .*must be a readable .npy file"):
        load_array(tmp_path / "schedule.npy")
