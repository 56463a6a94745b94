import dataclasses

import jax
import numpy as np
import pytest

from jaxlm.config import ConfigError
from jaxlm.model import ComputeConfig, ModelConfig, apply, param_infos
from jaxlm.optim import AdamW
from jaxlm.parallel import MeshConfig, compiler, quick_options, step_options
from jaxlm.train import StepConfig, make_step
from jaxlm.train.state import abstract_state

MODEL = ModelConfig(vocabulary=64, sequence=64, layers=4, width=32, heads=2)
STEP = StepConfig(model=MODEL, optimizer=AdamW(), clip_norm=None, z_loss=0.0, accumulation=1, mesh=MeshConfig())
TOKENS = np.zeros((16, 64), np.int32)
FAST = {"xla_backend_optimization_level": 0}


def test_options_by_platform():
    assert step_options("cpu", "on") == {} == step_options("tpu", "default")
    assert step_options("gpu", "on") == dict.fromkeys(compiler.OVERLAP["gpu"], True)
    assert step_options("tpu", "off") == dict.fromkeys(compiler.OVERLAP["tpu"], False)
    assert quick_options("tpu") == {} == quick_options("gpu")


def test_every_option_for_a_gpu_is_known_to_the_compiler():
    assert all(compiler._known(name, True) for name in compiler.OVERLAP["gpu"])


def test_an_option_that_the_compiler_does_not_know_is_left_out_on_a_cpu(monkeypatch):
    known = compiler.QUICK["cpu"]
    monkeypatch.setitem(compiler.QUICK, "cpu", {"xla_no_such_option": True, **known})
    assert quick_options("cpu") == known != {}


def test_overlap_must_be_known():
    with pytest.raises(ConfigError, match="mesh.overlap = 'yes': must be one of 'default', 'on', 'off'"):
        MeshConfig(overlap="yes")


def lowered(config, devices=None):
    step = make_step(config, devices)
    shape = jax.ShapeDtypeStruct
    return step.run_chunk.lower(
        abstract_state(config.model, step.tx, step.mesh), shape((), bool), shape((1, 1, 16, 65), "int32"),
        shape((1,), "float32"), shape((), "int32"), shape((), "float32"), shape((), "uint32"))


@pytest.mark.slow
def test_each_remat_policy_keeps_less_than_the_one_before_it():
    held = []
    for compute in ({}, *({"remat": True, "remat_policy": policy} for policy in ("projections", "attention", "block"))):
        model = dataclasses.replace(MODEL, compute=ComputeConfig(scan_layers=True, **compute))
        gradient = jax.jit(jax.grad(lambda params, config=model: apply(config, params, TOKENS).mean()), compiler_options=FAST)
        shapes = jax.tree.map(lambda info: jax.ShapeDtypeStruct(info.shape, "float32"), param_infos(model))
        held.append(gradient.lower(shapes).compile().memory_analysis().temp_size_in_bytes)
    assert all(less < 0.95 * more for more, less in zip(held[:-1], held[1:], strict=True)), held


@pytest.mark.tpu_compiler
def test_collectives_of_a_step_for_a_slice_run_beside_computation_unless_turned_off():
    from jaxlm.launch.slices import find_slice
    from jaxlm.launch.topology import slice_devices

    devices = slice_devices(find_slice("v5e-4"))
    model = dataclasses.replace(MODEL, width=512, vocabulary=4096, heads=4,
                                compute=ComputeConfig(dtype="bfloat16", scan_layers=True))
    started = {}
    for overlap in ("on", "off"):
        config = dataclasses.replace(STEP, model=model, mesh=MeshConfig(fsdp=4, overlap=overlap))
        assert make_step(config, devices).options == step_options("tpu", overlap)
        started[overlap] = lowered(config, devices).compile().as_text().count("async-collective-start")
    assert started["on"] > 20 and started["off"] == 0, started
