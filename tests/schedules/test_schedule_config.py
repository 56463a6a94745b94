"""Typed configurations of schedules: rates, errors, round trips, provenance."""

import dataclasses
import json
import typing

import numpy as np
import pytest
from schedule_twins import rates

from jaxlm.config import ConfigError, from_dict, override, to_dict
from jaxlm.schedules import (
    WSD, WSDS, Constant, Cosine, CosineTail, CyclicCosine, FromArray, HalfLife, Infinite, InverseSqrt,
    InverseSqrtShape, Linear, Power, PowerShape, RewarmRedecay, ScheduleConfig, StepDecay, as_array, provenance,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Holder:
    schedule: ScheduleConfig


CONFIGS = [
    Constant(peak_lr=0.1, warmup=5), Linear(peak_lr=0.1, warmup=5, final=0.2),
    Cosine(peak_lr=0.1, warmup=5, final=0.2),
    WSD(peak_lr=0.1, warmup=5, decay=8, shape="inverse", final=0.2), FromArray(path="runs/a/schedule.npy"),
]
OTHERS = [
    WSD(peak_lr=0.1, decay=8, shape=PowerShape(outer=1.5)),
    WSDS(peak_lr=0.1, warmup=5, ends=(20, 40), decay=8, peaks=(1.0, 0.5)),
    WSDS(peak_lr=0.1, ends=(20, 40), decay=(8, 4), rewarmup=3, shape=InverseSqrtShape()),
    CyclicCosine(peak_lr=0.1, cycles=4, warmup=2, rewarmup=2), CyclicCosine(peak_lr=0.1, cycles=(10, 40)),
    CosineTail(peak_lr=0.1, warmup=2, tail=10), HalfLife(peak_lr=0.1, decay=10, half_life=5.0),
    Infinite(peak_lr=0.1, warmup=2, cooldown=10, constant=0.5, anneal=8, shape=InverseSqrtShape(timescale=5.0)),
    InverseSqrt(peak_lr=0.1, warmup=5, timescale=3.0, decay=8), Power(peak_lr=0.1, start=4.5, decay=4, shape="sqrt"),
    StepDecay(peak_lr=0.1, at=(0.5,)),
    RewarmRedecay(running=WSDS(peak_lr=0.1, ends=(10, 20), decay=3), start=20, peak_lr=0.1, warmup=4, decay=10),
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


@pytest.mark.parametrize("config", CONFIGS + OTHERS)
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


def test_every_kind_is_tested():
    assert {type(config) for config in CONFIGS + OTHERS} == set(typing.get_args(ScheduleConfig))


def test_dicts_of_the_kinds_on_record_stand_still():
    # Hashes of recorded runs depend on them.
    assert [to_dict(config) for config in CONFIGS] == [
        {"kind": "constant", "peak_lr": 0.1, "warmup": 5},
        {"kind": "linear", "peak_lr": 0.1, "warmup": 5, "final": 0.2},
        {"kind": "cosine", "peak_lr": 0.1, "warmup": 5, "final": 0.2},
        {"kind": "wsd", "peak_lr": 0.1, "warmup": 5, "decay": 8, "shape": "inverse", "final": 0.2},
        {"kind": "array", "path": "runs/a/schedule.npy"},
    ]


def test_an_unknown_kind_names_the_nearest():
    with pytest.raises(ConfigError, match="schedule.kind = 'cyclic-cosine': .*; did you mean 'cyclic_cosine'"):
        from_dict(Holder, {"schedule": {"kind": "cyclic-cosine", "peak_lr": 1.0}})


def test_an_unknown_field_names_the_nearest():
    with pytest.raises(ConfigError, match="schedule.rewarm: no such option; did you mean 'rewarmup'"):
        from_dict(Holder, {"schedule": {"kind": "wsd_s", "peak_lr": 1.0, "ends": [4], "decay": 1, "rewarm": 2}})


@pytest.mark.parametrize("changes, expected", [
    ({"schedule.kind": "wsd_s", "schedule.ends": "[20, 40]", "schedule.decay": "8"},
     WSDS(peak_lr=0.1, warmup=5, ends=(20, 40), decay=8)),
    ({"schedule.kind": "cyclic_cosine", "schedule.cycles": "2"}, CyclicCosine(peak_lr=0.1, warmup=5, cycles=2)),
    ({"schedule.kind": "wsd", "schedule.shape": '{"kind": "power", "outer": 1.5}'},
     WSD(peak_lr=0.1, warmup=5, shape=PowerShape(outer=1.5))),
    ({"schedule.kind": "rewarm_redecay", "schedule.start": "20",
      "schedule.running": '{"kind": "linear", "peak_lr": 1}'},
     RewarmRedecay(peak_lr=0.1, warmup=5, start=20, running=Linear(peak_lr=1.0))),
])
def test_kinds_are_reached_from_the_command_line(changes, expected):
    assert override(Holder(schedule=CONFIGS[0]), changes).schedule == expected


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


@pytest.mark.parametrize("config", CONFIGS[:-1] + OTHERS)
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
