"""Typed configurations of schedules: rates, errors, round trips, provenance."""

import dataclasses
import json

import numpy as np
import pytest
from schedule_twins import rates

from jaxlm.config import ConfigError, from_dict, to_dict
from jaxlm.schedules import WSD, Constant, Cosine, FromArray, Linear, ScheduleConfig, as_array, provenance


@dataclasses.dataclass(frozen=True, kw_only=True)
class Holder:
    schedule: ScheduleConfig


CONFIGS = [
    Constant(peak_lr=0.1, warmup=5), Linear(peak_lr=0.1, warmup=5, final=0.2),
    Cosine(peak_lr=0.1, warmup=5, final=0.2),
    WSD(peak_lr=0.1, warmup=5, decay=8, shape="inverse", final=0.2), FromArray(path="runs/a/schedule.npy"),
]


@pytest.mark.parametrize("config, twin", [
    (CONFIGS[0], dict(decay=0)),
    (CONFIGS[1], dict(decay=35, shape="linear")),
    (CONFIGS[2], dict(decay=35, shape="cosine")),
    (CONFIGS[3], dict(decay=8, shape="inverse")),
    (WSD(peak_lr=0.1, warmup=5), dict(decay=0)),
])
def test_builds_the_rates_of_its_twin(config, twin):
    expected = rates(45, updates=40, warmup=5, final=0.2, peak_lr=0.1, **twin)
    np.testing.assert_allclose(as_array(config.build(40), 45), expected, rtol=1e-14)


@pytest.mark.parametrize("config", CONFIGS)
def test_round_trips_through_json(config):
    data = json.loads(json.dumps(to_dict(Holder(schedule=config))))
    assert from_dict(Holder, data).schedule == config


@pytest.mark.parametrize("config, message", [
    (WSD(peak_lr=1.0, decay=11), r"^decay = 11: must not be longer than the run, updates = 10$"),
    (WSD(peak_lr=1.0, warmup=11), r"^warmup = 11: must not be longer than the run, updates = 10$"),
    (WSD(peak_lr=1.0, warmup=4, decay=7),
     r"^warmup \+ decay = 11: .*updates = 10 \(warmup = 4, decay = 7\)$"),
    (Constant(peak_lr=1.0, warmup=11), r"^warmup = 11: .*updates = 10"),
    (Linear(peak_lr=1.0, warmup=10), r"^warmup \+ decay = 11: .*updates = 10"),
    (Cosine(peak_lr=1.0, warmup=11), r"^warmup = 11: .*updates = 10"),
])
def test_refuses_a_run_that_is_too_short(config, message):
    with pytest.raises(ConfigError, match=message):
        config.build(10)


def test_refuses_a_run_of_no_updates():
    with pytest.raises(ConfigError, match="updates = 0"):
        Constant(peak_lr=1.0).build(0)


@pytest.mark.parametrize("make, message", [
    (lambda: Constant(peak_lr=0.0), "peak_lr = 0.0: must be finite and positive"),
    (lambda: Linear(peak_lr=float("nan")), "peak_lr = nan"),
    (lambda: Cosine(peak_lr=1.0, warmup=-1), "warmup = -1: .*not negative"),
    (lambda: Linear(peak_lr=1.0, final=1.5), r"final = 1.5: .*must lie in \[0, 1\]"),
    (lambda: WSD(peak_lr=1.0, decay=-1), "decay = -1: must not be negative"),
    (lambda: WSD(peak_lr=1.0, shape="cubic"), "shape = 'cubic': must be one of linear, sqrt"),
    (lambda: WSD(peak_lr=1.0, decay=2, shape="exponential"),
     "final = 0.0: must be > 0 for the shape 'exponential'"),
    (lambda: WSD(peak_lr=1.0, decay=2, shape="inverse"),
     "final = 0.0: must be > 0 for the shape 'inverse'"),
])
def test_refuses_bad_fields(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_from_array_reads_the_file(tmp_path):
    np.save(tmp_path / "schedule.npy", [0.5, 0.25])
    schedule = FromArray(path=str(tmp_path)).build(2)
    np.testing.assert_array_equal(as_array(schedule, 2), [0.5, 0.25])


def test_from_array_refuses_a_run_of_another_length(tmp_path):
    np.save(tmp_path / "schedule.npy", [0.5, 0.25])
    with pytest.raises(ConfigError, match="holds 2 rates, must hold one for each update, updates = 3"):
        FromArray(path=str(tmp_path)).build(3)


@pytest.mark.parametrize("config", CONFIGS[:-1])
def test_provenance_makes_the_rates_again(config):
    data = json.loads(json.dumps(provenance(config, 40)))
    again = from_dict(Holder, {"schedule": data["config"]}).schedule.build(data["updates"])
    np.testing.assert_array_equal(as_array(again, 40), as_array(config.build(40), 40))


def test_provenance_of_an_array_carries_the_files_own(tmp_path):
    np.save(tmp_path / "schedule.npy", [0.5, 0.25])
    (tmp_path / "schedule.json").write_text('{"law": "multi-power"}')
    data = provenance(FromArray(path=str(tmp_path)), 2)
    assert data["from"] == {"law": "multi-power"}


def test_provenance_of_an_array_names_its_rates_by_digest(tmp_path):
    digests = []
    for last in (0.25, np.nextafter(0.25, 1.0)):
        np.save(tmp_path / "schedule.npy", [0.5, last])
        digests.append(provenance(FromArray(path=str(tmp_path)), 2)["sha256"])
    assert len(set(digests)) == 2
