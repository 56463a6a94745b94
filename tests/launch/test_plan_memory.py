"""Memory of a step by formula: temporaries against the local compiler, and what the forms of a step leave out."""

import dataclasses
import runpy
from pathlib import Path

import jax
import pytest
from test_plan import LARGE, RUN

from jaxlm.launch.plan import plan
from jaxlm.launch.temporaries import attention_form, temporaries
from jaxlm.model import ModelConfig
from jaxlm.model.config import ComputeConfig
from jaxlm.parallel import MeshConfig

# Two layers so narrow that a test compiles them in seconds: the forms that S, M and L have, the default model, and
# a sequence of several blocks of queries.
NARROW = {
    "unrolled": {"norm": "layernorm", "positions": "learned", "activation": "gelu", "tied": True},
    "scan": {"norm": "layernorm", "positions": "learned", "activation": "gelu", "tied": True,
             "compute": ComputeConfig(scan_layers=True)},
    "scan and remat, the default model": {"compute": ComputeConfig(scan_layers=True, remat=True)},
    "the same, but for products": {
        "compute": ComputeConfig(scan_layers=True, remat=True, remat_policy="projections")},
    "unrolled, the default model in bfloat16": {"compute": ComputeConfig(dtype="bfloat16")},
}
# What the compiler keeps on a CPU differs between versions; on accelerators nothing here depends on one.
described = pytest.mark.skipif(jax.__version_info__ >= (0, 11), reason="the formula for CPUs describes jax 0.10")
SOON = ("scan and remat, the default model",)


@described
@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name in SOON else pytest.mark.slow) for name in NARROW])
def test_temporaries_by_formula_are_those_of_the_compiler_on_a_cpu(name):
    model = ModelConfig(vocabulary=256, sequence=128, layers=2, width=64, heads=4, ff=256, **NARROW[name])
    run = RUN.replace(model=model, data=dataclasses.replace(RUN.data, sequence=128), batch=16)
    made = plan(run, None)
    assert made.held.temporaries == pytest.approx(made.program.temporaries, rel=0.1)
    assert made.program.arguments == pytest.approx(made.held.state + made.held.batch, abs=128)


def test_kernels_keep_no_scores_and_chunks_no_logits():
    def held(platform, **compute):
        model = dataclasses.replace(LARGE.model, compute=dataclasses.replace(LARGE.model.compute, **compute))
        return temporaries(LARGE.replace(model=model, mesh=MeshConfig(fsdp=256)), platform)

    scores = 2048 * 2048 * 32
    for platform in ("tpu", "gpu"):
        # Scores, weights and the gradient of each; remat saves none of them.
        assert held(platform, attention="plain") - held(platform) == pytest.approx(16 * scores, rel=0.01)
        assert attention_form(LARGE, platform) == {"tpu": "splash", "gpu": "cudnn"}[platform]
    assert attention_form(LARGE, "cpu") == "blocked"
    assert attention_form(LARGE.replace(mesh=MeshConfig(sequence=2)), "tpu") == "plain"
    wide = LARGE.replace(model=dataclasses.replace(LARGE.model, layers=1, width=64, ff=64, vocabulary=2**20))
    uncut = dataclasses.replace(wide.model, compute=dataclasses.replace(wide.model.compute, loss_chunks=1))
    assert temporaries(wide.replace(model=uncut), "tpu") > 6 * 256 * 2048 * 2**20 > 10 * temporaries(wide, "tpu")


SIZES = runpy.run_path(str(Path(__file__).resolve().parents[2] / "experiments" / "bench" / "memory.py"))["study"]().runs


@described
@pytest.mark.slow
@pytest.mark.parametrize("run", [run for run in SIZES if run.name[0] in "SM"], ids=lambda run: run.name)
def test_temporaries_of_the_benchmark_sizes(run):
    made = plan(run, None)
    assert made.held.temporaries == pytest.approx(made.program.temporaries, rel=0.1)
