"""Muon as a run's configuration, against optax's, and whole matrices on one device; Dion's convergence."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlm import optim
from jaxlm.config import ConfigError
from jaxlm.optim import Muon, make_optimizer, set_rates
from jaxlm.params import ParamInfo

INFOS = {
    "kernel": ParamInfo(shape=(2, 6, 4), axes=("layers", "width", "ff"), kind="matrix", stack_axes=1),
    "table": ParamInfo(shape=(5, 6), axes=("vocab", "width"), kind="embedding"),
    "gain": ParamInfo(shape=(6,), axes=("width",), kind="vector"),
}
LR, DECAY = 0.1, 0.3


def arrays(seed):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=info.shape).astype(np.float32) for name, info in INFOS.items()}


def one_update(config, params, grads, infos=INFOS):
    tx = make_optimizer(config, infos, clip_norm=None)

    @jax.jit
    def update(params, grads):
        state = set_rates(tx.init(params), lr=jnp.float32(LR), weight_decay=jnp.float32(DECAY))
        updates, _ = tx.update(grads, state, params)
        return optax.apply_updates(params, updates)

    return jax.device_get(update(params, grads))


def orthogonalised(matrix, steps):
    """Newton-Schulz in float64 with Jordan's coefficients."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = np.float64(matrix) / np.linalg.norm(matrix)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


@pytest.mark.parametrize("scale", ["kj", "kimi", "spectral", "none"])
def test_each_layer_takes_the_orthogonalised_step(scale):
    params, grads = arrays(0), arrays(1)
    new = one_update(Muon(scale=scale), params, grads)["kernel"]
    factor = {"kj": 1.0, "kimi": 0.2 * np.sqrt(6), "spectral": np.sqrt(4 / 6), "none": 1.0}[scale]
    for layer in range(2):
        # The first momentum is a multiple of the gradient, and the direction has no length.
        step = orthogonalised(grads["kernel"][layer], steps=5)
        expected = params["kernel"][layer] * (1 - LR * DECAY) - LR * factor * step
        # Five steps of float32 products of order one.
        np.testing.assert_allclose(new[layer], expected, atol=2e-5)


def test_embeddings_and_vectors_take_adam_at_their_own_rate():
    params, grads = arrays(0), arrays(1)
    new = one_update(Muon(rest_scale=0.25), params, grads)
    for name, decay in (("table", DECAY), ("gain", 0.0)):
        expected = params[name] * (1 - LR * decay) - 0.25 * LR * np.sign(grads[name])  # Adam's first step
        np.testing.assert_allclose(new[name], expected, atol=1e-6)


@pytest.mark.parametrize(("field", "value"), [("beta", 1.0), ("ns_steps", 0), ("scale", "rms"), ("b2", 1.0),
                                              ("weight_decay", -1.0)])
def test_a_value_out_of_range_is_named(field, value):
    with pytest.raises(ConfigError, match=f"optimizer.{field} = {value!r}"):
        Muon(**{field: value})


def test_optax_trajectory_by_its_options():
    params = {"w": jnp.asarray(arrays(0)["kernel"][0])}
    infos = {"w": ParamInfo(shape=(6, 4), axes=(None, None), kind="matrix")}
    theirs = optax.contrib.muon(0.02, weight_decay=0.1)
    ours = optim.muon(0.02, infos, correct_bias=True, eps=1e-8, weight_decay=0.1)

    def run(tx):
        def step(carry, grad):
            updates, state = tx.update({"w": grad}, carry[1], carry[0])
            return (optax.apply_updates(carry[0], updates), state), None
        grads = jnp.asarray(np.random.default_rng(2).normal(size=(8, 6, 4)), jnp.float32)
        return jax.jit(lambda: jax.lax.scan(step, (params, tx.init(params)), grads)[0][0]["w"])()

    np.testing.assert_allclose(run(ours), run(theirs), atol=2e-6)


# Run by a process of its own, which has eight devices. Prints, without and with whole matrices, the collectives of an
# update; then the direction's placement and the difference of the two directions.
SHARDED = """
import json, re
import jax, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from jaxlm import optim
from jaxlm.params import ParamInfo

mesh = jax.make_mesh((2, 4), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
infos = {"w": ParamInfo(shape=(8, 8, 32), axes=(None,) * 3, kind="matrix", stack_axes=1)}
params = {"w": np.random.default_rng(0).normal(size=(8, 8, 32)).astype(np.float32)}
params = jax.device_put(params, NamedSharding(mesh, P(None, "data", "tensor")))
results, collectives = [], []
for where in (None, NamedSharding(mesh, P(("data", "tensor")))):
    tx = optim.muon(0.02, infos, stack_sharding=where)
    state = jax.jit(tx.init)(params)
    update = jax.jit(tx.update).lower(params, state, params).compile()
    found = re.findall(r" (all-[a-z-]+?|collective-permute|reduce-scatter)(?:-start)?[(]", update.as_text())
    collectives.append(sorted(set(found)))
    results.append(update(params, state, params)[0]["w"])
off = abs(np.asarray(results[0]) - np.asarray(results[1])).max()
print(json.dumps([*collectives, str(results[1].sharding.spec), float(off)]))
"""


@pytest.mark.slow
def test_whole_matrices_on_one_device_do_not_communicate_in_the_iterations():
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu",
                        "PYTHONPATH": str(pathlib.Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", SHARDED], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    left_to_xla, whole, placement, off = json.loads(done.stdout.splitlines()[-1])
    assert "all-reduce" in left_to_xla
    assert whole == ["all-to-all"]  # before and after
    assert placement == "P(None, 'data', 'tensor')"
    assert off <= 1e-6


def test_dion_on_one_gradient_becomes_its_polar_factor():
    u, s, vt = np.linalg.svd(np.random.default_rng(0).normal(size=(6, 4)))
    grad = np.float32((u[:, :4] * [8, 4, 2, 1]) @ vt)
    for rank in (4, 2):
        tx = optim.scale_by_dion(rank, scale="none")
        _, directions = jax.jit(lambda state, tx=tx: jax.lax.scan(
            lambda state, _: tx.update(grad, state)[::-1], state, length=200))(tx.init(jnp.zeros((6, 4))))
        if rank == 4:
            np.testing.assert_allclose(directions[-1], u[:, :4] @ vt, atol=1e-3)
        values = np.linalg.svd(directions[-1], compute_uv=False)
        assert np.sum(values > 0.5) == rank
