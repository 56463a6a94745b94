"""Our schedules against arrays made by public implementations, in float64."""

import functools
import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.schedules import Warmup, as_array, constant, cosine, linear, wsd

GOLDEN = pathlib.Path(__file__).resolve().parents[2].parent / "shared" / "golden" / "schedules"

# Tolerances are those that the goldens' README states for each file; 1e-9 of a peak of 1e-3 would
# hide an error of 1e-6 of the peak, so nanodo and MaxText are held to 1e-12, which they meet.
EPFML, LEVANTER, OPTAX, ONECYCLE, TIGHT = 1e-12, 1e-9, 1e-9, 1e-10, 1e-12

EPFML_SHAPES = {"linear": "linear", "exp": "exponential", "cosine": "cosine", "miror_cosine": "mirror_cosine",
                "square": "square", "sqrt": "sqrt"}
EPFML_CASES = [(updates, warmup, share, name, final)
               for updates, warmup, share in ((1000, 100, 0.1), (1000, 100, 0.2), (5000, 300, 0.2))
               for name in EPFML_SHAPES for final in ((0.1, 0.01) if name == "exp" else (0.0, 0.1))]


@functools.cache
def golden(name: str) -> dict[str, np.ndarray]:
    path = GOLDEN / f"{name}.npz"
    if not path.exists():
        pytest.skip("needs ../shared")
    with np.load(path, allow_pickle=False) as data:
        return {key: data[key] for key in data.files}


def check(schedule, expected: np.ndarray, tolerance: float) -> None:
    np.testing.assert_allclose(as_array(schedule, len(expected)), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("updates, warmup, share, name, final", EPFML_CASES)
def test_wsd_equals_epfml(updates, warmup, share, name, final):
    data = golden("wsd_epfml")
    key = f"T{updates}_W{warmup}_frac{share}_{name}_final{final}"
    schedule = wsd(updates, decay=int(share * updates), shape=EPFML_SHAPES[name], final=final,
                   warmup=Warmup(steps=warmup, initial=0.01))
    check(schedule, data[key], EPFML)


def test_every_epfml_array_is_tested():
    keys = {f"T{t}_W{w}_frac{s}_{n}_final{f}" for t, w, s, n, f in EPFML_CASES}
    assert keys == set(golden("wsd_epfml"))


def test_linear_equals_torch_onecycle():
    # torch reaches the peak at W-1 and its final value at the last update.
    schedule = linear(1000, peak_lr=1e-3, warmup=Warmup(steps=99, initial=0.01), final=0.1, end="inclusive")
    check(schedule, golden("onecycle_torch")["onecycle_linear"], ONECYCLE)


def test_cosine_equals_torch_onecycle():
    rise = Warmup(steps=99, initial=0.01, shape="cosine")
    schedule = cosine(1000, peak_lr=1e-3, warmup=rise, final=0.1, end="inclusive")
    check(schedule, golden("onecycle_torch")["onecycle_cos"], ONECYCLE)


@pytest.mark.parametrize("key, schedule", [
    ("cosine", lambda: cosine(1000, warmup=Warmup(steps=10, initial=0.0), final=0.1)),
    ("linear_to_zero", lambda: linear(1000, warmup=Warmup(steps=100, initial=0.0))),
    ("wsd_linear", lambda: wsd(1000, decay=200, warmup=Warmup(steps=100, initial=0.0), shape="linear")),
])
def test_equals_levanter(key, schedule):
    check(schedule(), golden("levanter_cycles")[key], LEVANTER)


def test_linear_cooldown_equals_the_first_cycle_of_levanter():
    schedule = wsd(250, decay=50, warmup=Warmup(steps=50, initial=0.0), shape="linear", final=0.1)
    check(schedule, golden("levanter_cycles")["wsd_s_cycles"][:250], LEVANTER)


def test_inverse_cooldown_equals_the_first_cycle_of_levanter():
    expected = golden("levanter_cycles")["wsd_s_inv"][:250].copy()
    # levanter evaluates its first decay update at u = 1/50 instead of 0; ours starts at the peak.
    assert expected[200] == expected[201]
    expected[200] = 1.0
    schedule = wsd(250, decay=50, warmup=Warmup(steps=50, initial=0.0), shape="inverse", final=0.1)
    check(schedule, expected, LEVANTER)


@pytest.mark.parametrize("key, schedule", [
    ("cosine", lambda **kw: cosine(1000, final=0.01, **kw)),
    ("linear", lambda **kw: linear(1000, final=0.01, **kw)),
    ("constant", lambda **kw: constant(**kw)),
    ("constant_linear_decay_20p", lambda **kw: wsd(1000, decay=200, shape="linear", final=0.01, **kw)),
    ("constant_linear_decay_100", lambda **kw: wsd(1000, decay=100, shape="linear", final=0.01, **kw)),
])
def test_equals_nanodo(key, schedule):
    made = schedule(peak_lr=1e-3, warmup=Warmup(steps=100, initial=0.1))
    check(made, golden("nanodo")[key], TIGHT)


@pytest.mark.parametrize("key, schedule", [
    ("cosine", lambda **kw: cosine(1000, **kw)),
    ("wsd_linear", lambda **kw: wsd(1000, decay=200, shape="linear", **kw)),
    ("wsd_cosine", lambda **kw: wsd(1000, decay=200, shape="cosine", **kw)),
])
def test_inclusive_end_equals_maxtext(key, schedule):
    made = schedule(peak_lr=1e-3, warmup=Warmup(steps=100, initial=0.0), final=0.1, end="inclusive")
    # MaxText drops to 0 after the 1000 updates of its schedule, where our final value holds.
    check(made, golden("maxtext")[key][:1000], TIGHT)


@pytest.mark.parametrize("key, schedule", [
    ("warmup_cosine", lambda: cosine(1000, warmup=Warmup(steps=100, initial=0.0), final=0.1)),
    ("linear", lambda: linear(1000)),
])
def test_equals_optax_past_the_end_too(key, schedule):
    check(schedule(), golden("optax_0_2_8")[key], OPTAX)


def test_first_cycle_of_sgdr_equals_optax():
    schedule = cosine(250, warmup=Warmup(steps=25, initial=0.0), final=0.1)
    check(schedule, golden("optax_0_2_8")["sgdr"][:250], OPTAX)


@pytest.mark.parametrize("key, schedule", [
    ("cosine", lambda **kw: cosine(2000, final=0.1, **kw)),
    # exp(-0.693), not 1/2, is the constant of that code.
    ("exponential", lambda **kw: wsd(2000, decay=1900, shape="exponential", final=math.exp(-0.693), **kw)),
])
def test_equals_neox(key, schedule):
    data = golden("infinite_neox")
    meta = json.loads(str(data["meta"]))
    made = schedule(peak_lr=meta["start_lr"], warmup=Warmup(steps=meta["warmup"], initial=0.0))
    check(made, data[key], 1e-12)


@pytest.mark.parametrize("key, decay, shape", [
    ("cosine_24000", 24000 - 2160, "cosine"), ("constant_24000", 0, "linear"),
    ("wsd_20000_24000", 4000, "exponential"), ("wsdld_20000_24000", 4000, "linear"),
])
def test_equals_multi_power_law(key, decay, shape):
    data = golden("multi_power_law")
    # Its warm-up, np.linspace(0, peak, 2160), is at the peak at update 2159 and again at 2160.
    schedule = wsd(24000, decay=decay, shape=shape, final=0.1, peak_lr=3e-4,
                   warmup=Warmup(steps=2159, initial=0.0))
    rates = as_array(schedule, 24000)
    got = np.concatenate([rates[data["step"]], rates[-3:], [rates.sum()]])
    expected = np.concatenate([data[key], data[f"{key}_last"], [data[f"{key}_sum"]]])
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


def test_schedules_compose_into_the_linear_onecycle_of_optax():
    # Schedules are plain functions: optax's init -> peak -> init -> end is three of ours.
    expected = golden("optax_0_2_8")["linear_onecycle"]
    rise, fall = constant(warmup=Warmup(steps=100, initial=0.01)), linear(850, warmup=100, final=0.01)
    tail = linear(150, peak_lr=0.01, final=expected[-1] / 0.01)

    def schedule(t):
        return jnp.where(t < 100, rise(t), jnp.where(t < 850, fall(t), tail(t - 850)))

    check(schedule, expected, OPTAX)


def test_goldens_hold_under_jit():
    expected = golden("wsd_epfml")["T1000_W100_frac0.2_sqrt_final0.1"]
    schedule = wsd(1000, decay=200, final=0.1, warmup=Warmup(steps=100, initial=0.01))
    with jax.enable_x64(True):
        rates = jax.jit(schedule)(jnp.arange(1001, dtype=jnp.int32))
    np.testing.assert_allclose(np.asarray(rates), expected, rtol=0, atol=EPFML)
