"""The forms of attention against the plain one and float64, and which form a program gets."""

import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.config import ConfigError
from jaxlm.model import ComputeConfig, ModelConfig, apply, attention, causal, init, kernels
from jaxlm.parallel import ACTIVATIONS, MeshConfig, make_mesh
from jaxlm.params import activations

# Compiles in a third of the time; the tests of bits and of the program do without.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def arrays(time, heads=4, groups=2, *, batch=2, size=8, dtype="float32"):
    """Queries, keys, values and a cotangent of the output."""
    generator = np.random.default_rng(time)
    return [jnp.asarray(generator.normal(size=(batch, time, count, size)), dtype)
            for count in (heads, groups, groups, heads)]


def values(fn, q, k, v, dy):
    """(output, gradients of queries, keys and values)."""
    y, backward = jax.vjp(fn, q, k, v)
    return y, *backward(dy)


def exact(q, k, v):
    """Causal attention in the dtype of its arguments, head by head with keys repeated."""
    repeats, time = q.shape[2] // k.shape[2], q.shape[1]
    k, v = (jnp.repeat(x, repeats, axis=2) for x in (k, v))
    weights = jnp.exp(jnp.einsum("bihk,bjhk->bhij", q, k) / np.sqrt(q.shape[-1])) * np.tril(np.ones((time, time)))
    return jnp.einsum("bhij,bjhk->bihk", weights / weights.sum(-1, keepdims=True), v)


def agree(found, expected, rtol):
    for a, b in zip(found, expected, strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        # Where there is one key the scores' gradients are sums that vanish, of terms of order 1.
        np.testing.assert_allclose(a, b, rtol=0, atol=rtol * max(np.abs(b).max(), 0.1))


# The blocked form.

@pytest.mark.parametrize(("time", "groups", "blocks"), [
    (1, 2, None), (7, 1, 7), (13, 4, 4), (33, 2, 2), (129, 2, None),
    *(pytest.param(*each, marks=pytest.mark.slow) for each in ((7, 2, None), (12, 4, 3), (30, 1, 4)))])
def test_blocked_equals_the_plain_form_and_float64(time, groups, blocks):
    given = arrays(time, 4, groups)
    found = quick_jit(functools.partial(values, functools.partial(causal.blocked, blocks=blocks)))(*given)
    plain = quick_jit(functools.partial(values, attention.plain))(*given)
    with jax.enable_x64(True):
        expected = quick_jit(functools.partial(values, exact))(*(jnp.asarray(x, jnp.float64) for x in given))
    # Float32 sums of up to a hundred terms, the largest entries some units.
    agree(found, expected, 2e-6)
    agree(found, plain, 2e-6)


def test_blocked_in_bfloat16_is_as_near_as_the_plain_form():
    given = arrays(66, dtype="bfloat16")
    found, plain = (quick_jit(functools.partial(values, fn))(*given)
                    for fn in (functools.partial(causal.blocked, blocks=3), attention.plain))
    expected = quick_jit(functools.partial(values, exact))(*(x.astype(jnp.float32) for x in given))
    assert {x.dtype.name for x in found} == {"bfloat16"}
    # Eight bits of mantissa, a few roundings in a row.
    agree(found, expected, 0.02)
    agree(plain, expected, 0.02)


def test_large_scores_do_not_overflow():
    q, k, v, dy = arrays(9)
    found = quick_jit(functools.partial(values, functools.partial(causal.blocked, blocks=2)))(1e4 * q, k, v, dy)
    assert all(np.isfinite(x).all() for x in found)


def test_later_tokens_leave_earlier_outputs_alone_bit_for_bit():
    blocked = jax.jit(functools.partial(causal.blocked, blocks=3))
    q, k, v, _ = arrays(14)
    before = blocked(q, k, v)
    for t in (1, 4, 5, 13):
        after = blocked(*(x.at[:, t].add(1.0) for x in (q, k, v)))
        np.testing.assert_array_equal(before[:, :t], after[:, :t])
        assert not np.array_equal(before[:, t], after[:, t])


def test_blocked_under_vmap_remat_and_scan():
    blocked = functools.partial(causal.blocked, blocks=2)
    given = arrays(10)
    alone = quick_jit(functools.partial(values, blocked))(*given)
    batched = quick_jit(jax.vmap(functools.partial(values, lambda *x: blocked(*(a[None] for a in x))[0])))(*given)
    # Rounding of the same sums in another program.
    agree(batched, alone, 1e-6)

    def twice(step):
        def run(q, k, v):
            return jax.lax.scan(lambda y, _: (step(y, k, v), None), q, None, length=2)[0]
        return run

    def written_out(q, k, v):
        return blocked(blocked(q, k, v), k, v)

    agree(quick_jit(functools.partial(values, twice(jax.checkpoint(blocked))))(*given),
          quick_jit(functools.partial(values, written_out))(*given), 1e-6)


@pytest.mark.parametrize(("time", "lengths"), [
    (100, (100,)), (128, (64, 64)), (200, (66, 67, 67)), (256, (64,) * 4), (1024, (256,) * 4)])
def test_blocks_follow_from_the_length_and_leave_the_masked_part_out(time, lengths):
    program = str(jax.make_jaxpr(functools.partial(values, causal.blocked))(*arrays(time, 2, 2, batch=1)))
    ends = np.cumsum(lengths)
    for length, end in zip(lengths, ends, strict=True):
        assert f"f32[1,2,{length},{end}]" in program
    assert len(lengths) == 1 or f"{time},{time}]" not in program


# Which form there is.

BASE = ModelConfig(vocabulary=32, sequence=128, layers=1, width=64, heads=4)
DROPPING = dataclasses.replace(BASE, dropout=0.1)
HALF = ComputeConfig(dtype="bfloat16")


@pytest.fixture
def form_on(monkeypatch):
    """A function from (platform, configuration, time) to the form that runs there."""
    def find(platform, config, time=128, dropout_key=None):
        ran = []
        for module, form in ((attention, "plain"), (causal, "blocked"), (kernels, "cudnn"), (kernels, "splash")):
            monkeypatch.setattr(module, form, lambda *_, form=form, **__: ran.append(form))
        monkeypatch.setattr(attention, "platform", lambda: platform)
        attention.attend(*arrays(time, 4, 4, size=config.size_per_head)[:3], config=config, dropout_key=dropout_key)
        return ran

    return find


@pytest.mark.parametrize(("platform", "changes", "time", "form"), [
    ("cpu", {}, 128, "blocked"), ("cpu", {"compute": HALF}, 7, "blocked"),
    ("gpu", {"compute": HALF}, 130, "cudnn"), ("gpu", {}, 128, "plain"),
    ("gpu", {"compute": HALF, "head_size": 12}, 128, "plain"), ("gpu", {"compute": HALF, "head_size": 136}, 8, "plain"),
    ("tpu", {}, 384, "splash"), ("tpu", {"compute": HALF}, 128, "splash"), ("tpu", {}, 130, "plain"),
    ("other", {}, 128, "plain"),
    ("tpu", {"compute": ComputeConfig(attention="blocked")}, 128, "blocked"),
    ("cpu", {"compute": ComputeConfig(attention="plain")}, 128, "plain"),
])
def test_the_form_follows_from_platform_and_shape(form_on, platform, changes, time, form):
    assert form_on(platform, dataclasses.replace(BASE, **changes), time) == [form]


def test_other_gpus_than_those_of_nvidia_take_the_plain_form(form_on, monkeypatch):
    monkeypatch.setattr(attention.kernels, "on_rocm", lambda: True)
    assert form_on("gpu", dataclasses.replace(BASE, compute=HALF)) == ["plain"]


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_dropped_weights_need_the_plain_form_and_evaluation_does_not(form_on, platform):
    assert form_on(platform, DROPPING, dropout_key=jax.random.key(0)) == ["plain"]
    assert form_on(platform, DROPPING) == form_on(platform, BASE) != ["plain"]


@pytest.mark.parametrize(("form", "words"), [
    ("cudnn", "model.compute.attention = 'cudnn': needs an NVIDIA GPU, bfloat16 and heads of a multiple of 8 up to 128 "
              "channels, not cpu, float32 and 16"),
    ("splash", "model.compute.attention = 'splash': needs a TPU and sequences of a multiple of 128 tokens, "
               "not cpu and 9"),
])
def test_a_form_that_cannot_be_had_is_refused_in_one_line(form, words):
    config = dataclasses.replace(BASE, compute=ComputeConfig(attention=form))
    with pytest.raises(ConfigError) as error:
        jax.eval_shape(lambda: apply(config, init(config, 0), np.zeros((1, 9), np.int32)))
    assert str(error.value) == words


def test_a_mesh_that_splits_sequences_keeps_the_plain_form(form_on, monkeypatch):
    monkeypatch.setattr(attention, "splits_time", lambda: True)
    assert form_on("cpu", BASE) == form_on("tpu", BASE) == ["plain"]
    blocked = dataclasses.replace(BASE, compute=ComputeConfig(attention="blocked"))
    with pytest.raises(ConfigError, match="must be 'auto' or 'plain' on a mesh that splits sequences"):
        form_on("cpu", blocked)


# Kernels of other platforms.

@pytest.mark.parametrize("groups", [2, 4])
def test_cudnn_takes_the_forward_and_the_backward_pass(monkeypatch, groups):
    library = pytest.importorskip("jax._src.cudnn.fused_attention_stablehlo")
    monkeypatch.setattr(library, "check_cudnn_version", lambda: 91000)  # there is none here
    given = arrays(130, 4, groups, size=64, dtype="bfloat16")
    program = jax.jit(functools.partial(values, kernels.cudnn)).trace(*given).lower(lowering_platforms=("cuda",))
    calls = program.as_text()
    assert "@__cudnn$fmhaSoftmax(" in calls and "@__cudnn$fmhaSoftmaxBackward(" in calls
    assert "stablehlo.dot_general" not in calls and "stablehlo.exponential" not in calls


@pytest.mark.slow
def test_splash_equals_the_plain_form():
    given = arrays(256, 2, 1, batch=1, size=16)
    found = jax.jit(functools.partial(values, functools.partial(kernels.splash, interpret=True)))(*given)
    agree(found, quick_jit(functools.partial(values, attention.plain))(*given), 2e-6)


@pytest.mark.tpu_compiler
@pytest.mark.parametrize(("lengths", "batch", "size", "dtype"), [
    ({"data": 2, "tensor": 2}, 4, 64, "bfloat16"), ({}, 2, 16, "float32")])
def test_splash_compiles_for_a_slice_that_is_not_here(lengths, batch, size, dtype):
    from jaxlm.launch.slices import find_slice
    from jaxlm.launch.topology import slice_devices

    config = dataclasses.replace(BASE, kv_heads=2, head_size=size, compute=ComputeConfig(dtype=dtype))
    mesh = make_mesh(MeshConfig(**lengths), slice_devices(find_slice("v5e-4")))
    fn = functools.partial(values, functools.partial(attention.attend, config=config, dropout_key=None))
    sharding = jax.sharding.NamedSharding(
        mesh, jax.sharding.PartitionSpec(ACTIVATIONS["batch"], None, ACTIVATIONS["heads"]))
    given = [jax.ShapeDtypeStruct((batch, 256, heads, size), dtype) for heads in (4, 2, 2, 4)]
    placed = jax.jit(activations.on_mesh(fn, mesh, ACTIVATIONS), in_shardings=sharding, out_shardings=sharding)
    program = placed.lower(*given).compile().as_text()
    assert all(f"splash_mha_{part}" in program for part in ("fwd", "dq", "dkv"))
    assert not any(f"{name}(" in program for name in ("all-gather", "all-reduce", "all-to-all", "collective-permute"))


# Eight devices.

PROGRAM = """
import json, sys
import jax, numpy as np
sys.path.insert(0, sys.argv[1])
from test_attention import arrays, attention, causal, values
from jaxlm.parallel import ACTIVATIONS, MeshConfig, make_mesh
from jaxlm.params.activations import by_part, constrain, on_mesh

given = arrays(70, batch=4)
expected = jax.jit(lambda *x: values(attention.plain, *x))(*given)
whole = lambda *x: causal.blocked(*x, blocks=3)
parts = by_part(whole, "batch", None, "heads", None)
for lengths in ({"data": 2, "tensor": 2}, {"fsdp": 2, "tensor": 4}, {"data": 8}):
    mesh = make_mesh(MeshConfig(**lengths))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    for fn in (whole, parts):
        def split(*x):
            return values(fn, *(constrain(a, "batch", None, "heads", None) for a in x))
        found = jax.jit(on_mesh(split, mesh, ACTIVATIONS))(*jax.device_put(given, everywhere))
        print(json.dumps([float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(found, expected)]))
"""


@pytest.mark.slow
def test_blocks_and_parts_on_eight_devices_equal_one():
    here = pathlib.Path(__file__).resolve().parent
    flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    env = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    ran = subprocess.run([sys.executable, "-c", PROGRAM, str(here)], cwd=here.parents[1], env=env, text=True,
                         capture_output=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    errors = [json.loads(line) for line in ran.stdout.splitlines()]
    # Two ways on three meshes: two groups of heads are not divided by four, nor a batch of four by eight.
    assert len(errors) == 6 and np.max(errors) < 2e-6, errors
