"""Training on eight forced devices against one: losses, where parameters and optimizer state lie, and no warning of
the compiler that it had to gather a whole array ("involuntary full rematerialization")."""

import itertools
import json
import math
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from processes import FEWER_PASSES

HERE = pathlib.Path(__file__).parent
# Every axis alone, then mixtures. `full` jobs look at everything, `short` ones at losses and placement.
ALONE = [{"fsdp": 8}, {"tensor": 2}, {"sequence": 8}, {"replica": 2, "data": 4}]
MIXED = [{"data": 2, "fsdp": 2, "tensor": 2}, {"fsdp": 2, "tensor": 2, "sequence": 2},
         {"replica": 2, "fsdp": 2, "sequence": 2}]
MESHES = MIXED[:2]
DEFAULT = [("AdamW", ALONE[0]), ("AdamW", ALONE[1]), ("Muon", MIXED[0])]
PRODUCT = [*itertools.product(("Muon", "GaLore", "ScheduleFree"), (*ALONE, *MIXED)),
           *itertools.product(("Adafactor", "SOAP", "Dion"), MIXED),
           *(("AdamW", layout) for layout in ({"replica": 8}, {"data": 8}, *ALONE[2:], *MIXED))]
# State that lies on several devices: means over an axis, for the devices that split that axis.
REPEATED = {"Adafactor": r"\.(row|column)\."}
WARNING = "Involuntary full rematerialization"


def name_of(layout):
    return "-".join(f"{axis}{length}" for axis, length in layout.items()) or "one"


def train(jobs):
    """Runs the jobs in one process; returns what each found, with the compiler's warnings as "warnings"."""
    # The further flags make compilations a few times shorter.
    flags = f"--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0 {FEWER_PASSES}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "1",
                                "PYTHONPATH": str(HERE.parents[1])}
    done = subprocess.run([sys.executable, str(HERE / "layouts_program.py"), json.dumps(jobs)], env=environment,
                          capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stderr[-2000:]
    parts = re.split(r"^job \d+$", done.stderr, flags=re.MULTILINE)[1:]
    return [found | {"warnings": [line for line in part.splitlines() if WARNING in line]}
            for found, part in zip(json.loads(done.stdout), parts, strict=True)]


def train_short(jobs):
    """Returns {(optimizer, layout): found}, with each optimizer on one device as layout "one"."""
    jobs = [*((optimizer, {}) for optimizer in dict(jobs)), *jobs]
    found = train([["short", *job] for job in jobs])
    return {(optimizer, name_of(layout)): each for (optimizer, layout), each in zip(jobs, found, strict=True)}


def check_short(found, optimizer, layout):
    """The losses of one device; parameters and state over all devices that share a copy; no warning."""
    got = found[optimizer, name_of(layout)]
    # The same float32 sums in another order: 3e-7 was measured.
    np.testing.assert_allclose(got["train_loss"], found[optimizer, "one"]["train_loss"], rtol=2e-6)
    # Else gains, which have no axis for `tensor`, are all that lies on several devices.
    once = [path for path in got["replicated"] if not re.search(REPEATED.get(optimizer, "(?!)"), path)]
    assert [path for path in once if not path.endswith("scale")] == []
    assert bool(once) == ("tensor" in layout)
    assert got["warnings"] == []


@pytest.fixture(scope="module")
def runs():
    """What one device and each mesh did, by name; the second mesh in a process of its own, if it is asked for."""
    class Runs(dict):
        def __missing__(self, name):
            layouts = MESHES[1:] if name == name_of(MESHES[1]) else ({}, MESHES[0])
            self.update(zip(map(name_of, layouts), train([["full", "AdamW", layout] for layout in layouts]), strict=True))
            return self[name]

    return Runs()


@pytest.fixture(scope="module")
def short_runs():
    return train_short(DEFAULT)


@pytest.fixture(scope="module")
def product_runs():
    return train_short(PRODUCT)


def each(pairs):
    ids = [f"{optimizer}-{name_of(layout)}" for optimizer, layout in pairs]
    return pytest.mark.parametrize(("optimizer", "layout"), pairs, ids=ids)


meshes = pytest.mark.parametrize("mesh", [MESHES[0], pytest.param(MESHES[1], marks=pytest.mark.slow)], ids=name_of)


@each(DEFAULT)
def test_a_layout_trains_like_one_device_and_replicates_nothing(short_runs, optimizer, layout):
    check_short(short_runs, optimizer, layout)


@pytest.mark.slow
@each(PRODUCT)
def test_every_layout_trains_like_one_device_with_every_class_of_optimizer(product_runs, optimizer, layout):
    check_short(product_runs, optimizer, layout)


def test_a_placement_that_needs_rematerialization_is_seen():
    assert len(train([["bad", "", {}]])[0]["warnings"]) >= 1


@meshes
def test_the_compiler_rematerializes_nothing(runs, mesh):
    assert runs[name_of(mesh)]["warnings"] == []


# The same float32 sums in another order: 3e-7 was measured for the losses, 5e-7 for the rest.
TOLERANCES = {"train_loss": 2e-6, "heldout": 2e-6, "grad_l2": 5e-6, "grad_l1": 5e-6, "update_rms": 5e-6,
              "param_rms": 5e-6, "block_update_rms": 5e-6, "block_param_rms": 5e-6, "small_grad_sq": 5e-6,
              "attention_logit_max": 5e-6, "attention_entropy": 5e-6, "residual_rms": 5e-6, "sequence_grad_sq": 5e-6,
              "residual_kurtosis": 5e-5}  # of fourth powers


@meshes
@pytest.mark.parametrize("name", TOLERANCES)
def test_results_equal_those_of_one_device(runs, mesh, name):
    np.testing.assert_allclose(runs[name_of(mesh)][name], runs["one"][name], rtol=TOLERANCES[name])


@meshes
def test_a_mesh_uses_as_many_devices_as_it_needs(runs, mesh):
    assert sorted(runs[name_of(mesh)]["devices"]) == list(range(math.prod(mesh.values())))


@meshes
def test_parameters_start_the_same(runs, mesh):
    assert runs[name_of(mesh)]["init"] == runs["one"]["init"]


@meshes
@pytest.mark.parametrize("when", ["at init", "after two chunks"])
def test_state_lies_as_its_shardings_say(runs, mesh, when):
    assert runs[name_of(mesh)][f"kept {when}"]


@meshes
@pytest.mark.parametrize("when", ["at init", "after two chunks"])
def test_optimizer_state_is_split_like_its_parameters(runs, mesh, when):
    split = runs[name_of(mesh)][f"split {when}"]
    pieces = {path.removeprefix("params."): count for path, count in split.items() if path.startswith("params.")}
    for path, count in split.items():
        owner = next(name for name in pieces if path.endswith(name))
        assert count == pieces[owner], path
    assert len(split) == 3 * len(pieces)  # the parameters and both moments


@meshes
def test_matrices_and_tables_are_split_over_all_devices_that_share_a_copy(runs, mesh):
    width = mesh.get("fsdp", 1) * mesh.get("sequence", 1)
    for path, count in runs[name_of(mesh)]["split after two chunks"].items():
        # The table of positions and the gains have no axis for `tensor`.
        alone = path.endswith(("scale", "positions"))
        assert count == (width if alone else width * mesh.get("tensor", 1)), path
