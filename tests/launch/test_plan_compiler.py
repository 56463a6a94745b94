"""Plans by the TPU compiler, without a TPU: needs libtpu (`pip install 'jaxlm[tpu]'`), minutes of a core and 2 GiB."""

import dataclasses

import pytest
from test_plan import RUN

from jaxlm.launch import estimate
from jaxlm.launch.plan import plan
from jaxlm.launch.slices import find_slice
from jaxlm.model import parameter_counts
from jaxlm.model.config import ComputeConfig
from jaxlm.parallel import MeshConfig

pytestmark = pytest.mark.tpu_compiler


def test_a_small_slice_compiles_with_its_state_in_parts():
    # Widths of whole tiles, so that layouts on the chip pad little.
    model = dataclasses.replace(RUN.model, width=512, heads=4, ff=1024, vocabulary=1024, sequence=128,
                                compute=ComputeConfig(scan_layers=True, remat=True, dtype="bfloat16"))
    run = RUN.replace(model=model, mesh=MeshConfig(data=2, fsdp=2))
    made = plan(run, find_slice("v5e-4"))
    assert made.source == "compiler" and made.note is None
    assert made.program.donated and made.program.total <= made.capacity == find_slice("v5e-4").chip.usable_bytes
    assert made.program.arguments == pytest.approx(made.held.state + made.held.batch, rel=0.01)
    assert made.program.aliased == pytest.approx(made.held.state, rel=0.05)
    assert made.program.temporaries < 2**28  # so small a model works in the chip's own memory, and needs none
    # Over fsdp each weight of the blocks is gathered in bfloat16, forward and backward, a half from the other device;
    # gradients are summed over fsdp and over data; nothing else moves.
    moved = {(each.kind, each.devices): each.bytes for each in made.program.collectives}
    counts = parameter_counts(run.model)
    assert 1 <= moved["all-gather", 2] / (2 * counts.total - 2 * counts.embedding) < 1.5, moved
    assert moved["all-reduce", 2] > 0 and {kind for kind, _ in moved} <= {"all-gather", "all-reduce", "reduce-scatter"}
    assert sum(moved.values()) == pytest.approx(estimate.work(run).ici_bytes, rel=0.3)


def test_a_program_that_is_too_large_is_refused_with_its_bytes():
    model = dataclasses.replace(RUN.model, width=4096, heads=32, ff=16384, layers=8, sequence=1024)
    run = RUN.replace(model=model, mesh=MeshConfig(data=4), data=dataclasses.replace(RUN.data, sequence=1024))
    made = plan(run, find_slice("v5e-4"))
    assert made.program is None and made.refused > find_slice("v5e-4").chip.usable_bytes
    assert not made.fits and made.over > 0
