"""Plans by formula and by the local compiler; those of TPU slices are in test_plan_compiler.py."""

import dataclasses
import json
import os
import subprocess
import sys

import jax
import pytest

from jaxlm.config import ConfigError
from jaxlm.data import DataConfig, Synthetic
from jaxlm.launch import estimate, layouts
from jaxlm.launch import plan as planner
from jaxlm.launch.plan import plan, plan_runs, refusal
from jaxlm.launch.slices import GIB, V4, V5E, find_slice
from jaxlm.launch.summary import summary
from jaxlm.model import ModelConfig, flops_per_token
from jaxlm.model.config import ComputeConfig
from jaxlm.parallel import MeshConfig
from jaxlm.train import EvalConfig, Parent, RunConfig

MODEL = ModelConfig(vocabulary=64, sequence=16, layers=2, width=16, heads=4, ff=32,
                    compute=ComputeConfig(scan_layers=True, remat=True))
RUN = RunConfig(name="tiny", updates=100, batch=32, chunk=2, model=MODEL, evaluation=EvalConfig(sequences=64),
                data=DataConfig(sources=(Synthetic(vocabulary=64, order=1, tokens=60_000),), sequence=16))
LARGE = RUN.replace(
    name="large", batch=256, evaluation=EvalConfig(sequences=2048), data=DataConfig(sequence=2048),
    model=ModelConfig(vocabulary=32000, sequence=2048, layers=32, width=4096, heads=32, ff=11008,
                      compute=ComputeConfig(scan_layers=True, remat=True, dtype="bfloat16")))
POD = find_slice("v5e-256")


def formula(run, where=POD):
    return plan(run, where, compiled=False)


def test_state_lies_in_as_many_parts_as_fsdp_tensor_and_sequence_have():
    whole = estimate.held_bytes(LARGE)
    split = estimate.held_bytes(LARGE.replace(mesh=MeshConfig(data=4, fsdp=16, tensor=2, sequence=2)))
    even = estimate.held_bytes(LARGE.replace(mesh=MeshConfig(data=4, fsdp=16, tensor=2, sequence=2)), even=True)
    # Float32 parameters and two moments.
    assert whole.parameters == 4 * 6_738_415_616 and whole.optimizer == pytest.approx(2 * whole.parameters)
    assert split.state == pytest.approx(whole.state / 64, rel=1e-3)  # gains are split over tensor by nothing
    assert even.state == pytest.approx(split.state, rel=1e-3)
    assert split.batch == 4 * 2 * 256 // 64 * 2049


def test_operations_are_those_of_the_formula_and_remat_runs_the_blocks_again():
    run = LARGE.replace(mesh=MeshConfig(data=4, fsdp=64))
    per_token, work = flops_per_token(run.model), estimate.work(run)
    assert work.model_flops == pytest.approx(256 * 2048 * sum(per_token.values()) / 256)
    # But for the last of the three products of swiglu.
    assert work.recomputed_flops == pytest.approx(2048 * (per_token["attention"] / 3 + per_token["feed_forward"] * 2 / 9))
    kept = run.replace(model=dataclasses.replace(run.model, compute=ComputeConfig(scan_layers=True, dtype="bfloat16")))
    assert estimate.work(kept).recomputed_flops == 0
    assert estimate.held_bytes(kept).temporaries > 2 * estimate.held_bytes(run).temporaries


def test_a_policy_of_remat_computes_less_again_and_holds_more():
    def planned(policy):
        compute = dataclasses.replace(LARGE.model.compute, remat_policy=policy)
        run = LARGE.replace(mesh=MeshConfig(data=4, fsdp=64),
                            model=dataclasses.replace(LARGE.model, kv_heads=8, compute=compute))
        return estimate.work(run).recomputed_flops / 2048, estimate.held_bytes(run).temporaries / 2048

    (block, attention, projections), held = zip(*map(planned, ("block", "attention", "projections")), strict=True)
    # One sequence a device, 32 layers: queries, keys and values; then the two products of swiglu and the last one.
    assert block - attention == 32 * 2 * 4096 * (4096 + 2 * 1024)
    assert projections == 32 * 2 * (2 * 2048 * 4096 + 4096 * 4096)  # scores, weighted values, output projection
    # Two bytes of queries, keys, values and output; then of the two products.
    assert (held[1] - held[0], held[2] - held[1]) == (32 * 2 * (2 * 4096 + 2 * 1024), 32 * 2 * 2 * 11008)


def test_links_carry_what_the_layout_asks_for():
    def moved(**mesh):
        work = estimate.work(LARGE.replace(mesh=MeshConfig(**mesh)))
        return work.ici_bytes, work.dcn_bytes

    parameters = 6_738_415_616
    assert moved() == (0, 0)
    assert moved(data=2)[0] == pytest.approx(2 / 2 * 4 * parameters)
    # Weights of the blocks and the head twice in bfloat16, gradients once in float32; not the embedding.
    assert moved(fsdp=256)[0] == pytest.approx(255 / 256 * 8 * (parameters - 32000 * 4096), rel=1e-3)
    assert moved(replica=2, fsdp=128) == pytest.approx((moved(fsdp=128)[0], 4 * parameters / 128))
    assert moved(tensor=2)[0] == pytest.approx(32 * 256 * 2048 * 4096 * 2 * 6)
    assert moved(sequence=2)[0] > moved(fsdp=2)[0]


def test_a_roofline_is_its_longest_part():
    work = estimate.Work(model_flops=197e12, recomputed_flops=0, hbm_bytes=2 * 819e9, ici_bytes=3 * 200e9, dcn_bytes=0)
    roofline = estimate.roofline(work, V5E)
    assert (roofline.compute, roofline.hbm, roofline.ici, roofline.dcn) == pytest.approx((1, 2, 3, 0))
    assert (roofline.seconds, roofline.limit) == (pytest.approx(3), "ici")
    # A network whose speed nobody states is not taken to be fast.
    assert estimate.roofline(dataclasses.replace(work, dcn_bytes=1), V4).limit == "dcn"


def test_time_and_cost_follow_from_the_roofline():
    made = formula(LARGE.replace(mesh=MeshConfig(fsdp=256)))
    assert made.mfu_ceiling == pytest.approx(made.work.model_flops / 197e12 / made.roofline.seconds)
    assert made.tokens_per_day == pytest.approx(256 * 2048 * 86400 / made.roofline.seconds)
    assert made.cost(2.0) == pytest.approx(2 * 100 * made.roofline.seconds * 256 / 3600)
    branch = LARGE.replace(mesh=MeshConfig(fsdp=256), parent=Parent(run="trunk", step=75))
    assert formula(branch).chip_hours == pytest.approx(made.chip_hours / 4)


@pytest.mark.parametrize(("mesh", "said"), [
    (MeshConfig(fsdp=64), r"^mesh = \(1, 1, 64, 1, 1\): covers 64 devices; v5e-256 has 256"),
    (MeshConfig(fsdp=256, tensor=2), r"^mesh = \(1, 1, 256, 2, 1\): covers 512 devices; v5e-256 has 256"),
    (MeshConfig(fsdp=16, tensor=16), r"^mesh.tensor = 16: must divide model.ff = 11000"),
])
def test_a_mesh_that_does_not_divide_is_one_line(mesh, said):
    run = LARGE.replace(mesh=mesh, model=dataclasses.replace(LARGE.model, ff=11000))
    with pytest.raises(ConfigError, match=said):
        formula(run)


def test_replicas_are_slices():
    made = formula(LARGE.replace(mesh=MeshConfig(replica=2, fsdp=128)), find_slice("v5e-128"))
    assert (made.slices, made.devices) == (2, 256)
    assert made.roofline.dcn > 0


def test_times_over_a_network_whose_speed_is_not_stated_are_not_known():
    made = formula(LARGE.replace(mesh=MeshConfig(replica=2, fsdp=64)), find_slice("v4-128"))
    assert made.roofline.ici > 0 and (made.seconds, made.mfu_ceiling, made.tokens_per_day) == (None, None, None)
    data = json.loads(json.dumps(summary(made, 1.0), allow_nan=False))
    assert data["step_seconds"]["dcn"] is None and data["step_seconds"]["compute"] == made.roofline.compute
    assert data["cost"] is None and data["hours"] is None


def test_layouts_cover_the_slice_and_the_first_is_taken():
    ranked = layouts.rank_layouts(LARGE, POD, count=3)
    assert len({each.run.mesh for each in ranked}) == 3
    assert all(each.devices == 256 and each.source == "formula" for each in ranked)
    assert layouts.best_layout(LARGE, POD).mesh == ranked[0].run.mesh == MeshConfig(fsdp=256)
    own = LARGE.replace(mesh=MeshConfig(data=4, fsdp=64))
    assert layouts.best_layout(own, POD) is own


def test_layouts_are_compiled_as_the_run_asks():
    run = LARGE.replace(mesh=MeshConfig(overlap="on"))
    assert all(each.run.mesh.overlap == "on" for each in layouts.rank_layouts(run, POD, count=3))
    assert layouts.best_layout(run, POD).mesh == MeshConfig(fsdp=256, overlap="on")


def test_layouts_that_do_not_fit_stand_behind_those_that_do():
    ranked = layouts.rank_layouts(LARGE.replace(batch=16), find_slice("v5e-16"), count=20)
    assert [each.fits for each in ranked] == [True] * 17 + [False] * 3  # of 35
    assert all(each.run.mesh.data >= 4 for each in ranked[17:])  # copies that leave a part too large


def test_no_layout_says_why():
    with pytest.raises(ConfigError, match="^no layout of 256 chips divides the run: batch = 3: "):
        layouts.rank_layouts(RUN.replace(batch=3), POD)


def test_what_does_not_fit_names_the_bytes_and_the_slice_that_holds_it():
    run, small = LARGE.replace(batch=512), find_slice("v5e-16")
    made = formula(layouts.best_layout(run, small), small)
    assert not made.fits and made.over == made.needed - small.chip.usable_bytes > 0
    holds = layouts.smallest_slice(run, small)
    assert small.chips < holds.chips <= 256
    assert layouts.rank_layouts(run, holds, count=1)[0].fits
    assert layouts.smallest_slice(run, find_slice("h100-8")) is None


@pytest.mark.parametrize(("message", "gib"), [
    ("RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (71.88G) exceeds "
     "available HBM (15.75G).", 71.88),
    ("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 512.50M of 15.75G hbm.", 512.5 / 1024),
    ("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 1.50T of 15.75G hbm.", 1536),
    ("INTERNAL: something else", None),
])
def test_a_refusal_states_its_bytes(message, gib):
    found = refusal(message, estimate.held_bytes(RUN))
    assert found == (None if gib is None else int(gib * GIB))


@pytest.mark.parametrize(("where", "error", "note"), [
    ("v5e-16", ModuleNotFoundError("the package 'libtpu' is not installed: pip install 'jaxlm[tpu]'"),
     "no compiler: the package 'libtpu' is not installed: pip install 'jaxlm[tpu]'"),
    ("h100-8", None, "there is no compiler here for h100-8"),
])
def test_without_a_compiler_the_formula_part_says_so(monkeypatch, where, error, note):
    def absent(where, slices):
        raise error

    monkeypatch.setattr(planner, "slice_devices", absent)
    where = find_slice(where)
    made = plan(RUN.replace(mesh=MeshConfig(fsdp=where.chips)), where)
    assert (made.source, made.note, made.program) == ("formula", note, None)
    assert made.fits and made.roofline.seconds > 0


@pytest.fixture
def quick_compilation():
    """XLA without its costly passes, as in tests/train."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def test_a_plan_for_this_machine_is_compiled_here(quick_compilation):
    made, again = plan_runs([RUN, RUN.replace(name="other", seed=1, updates=50)], None)
    assert again.program is made.program and again.updates == 50
    assert made.source == "compiler" and made.program.donated and made.fits
    assert made.program.aliased == made.held.state + 4  # and the step
    assert made.program.arguments == pytest.approx(made.held.state + made.held.batch, abs=64)
    assert made.program.collectives == ()
    assert made.roofline is None and made.cost(1.0) is None  # nobody states peak figures of a CPU
    data = summary(made, 1.0)
    assert json.loads(json.dumps(data)) == data and data["fits"] is True and data["cost"] is None


SHARDED = """
import json
from test_plan import RUN
from jaxlm.launch.plan import plan
from jaxlm.launch.summary import summary
from jaxlm.parallel import MeshConfig
print(json.dumps(summary(plan(RUN.replace(mesh=MeshConfig(data=2, fsdp=2, tensor=2)), None))))
"""


@pytest.mark.slow
def test_eight_devices_hold_what_the_formula_says_and_exchange_over_the_axes_of_the_mesh():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu",
                                "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
                                "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])}
    done = subprocess.run([sys.executable, "-c", SHARDED], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    held = found["bytes_per_device"]
    assert held["aliased"] == held["parameters"] + held["optimizer"] + 4  # and the step
    assert found["donated"] is True and found["devices"] == 8
    groups = {(each["kind"], each["devices"]) for each in found["collectives"]}
    assert ("all-reduce", 2) in groups and not any(each["crosses"] for each in found["collectives"])


def test_a_plan_allocates_nothing():
    before = len(jax.live_arrays())
    formula(LARGE.replace(mesh=MeshConfig(fsdp=256)))
    assert len(jax.live_arrays()) == before
