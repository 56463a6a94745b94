"""Plans by the TPU compiler, without a TPU: needs libtpu (`pip install 'jaxlm[tpu]'`), minutes of a core and 2 GiB."""

import dataclasses

import pytest
from test_plan import RUN

from jaxlm.launch.plan import plan
from jaxlm.launch.slices import find_slice
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
    assert made.program.donated and made.fits
    assert made.program.aliased == pytest.approx(made.held.state, rel=0.05)
    assert made.program.temporaries < 2**28  # so small a model works in the chip's own memory, and needs none
    kinds = {(each.kind, each.devices) for each in made.program.collectives}
    assert ("all-gather", 2) in kinds and {("all-reduce", 2), ("reduce-scatter", 2)} & kinds
    # Two layers: each weight of a block is gathered in both of them, forward and backward.
    assert made.work.ici_bytes == pytest.approx(sum(each.bytes for each in made.program.collectives))


def test_a_program_that_is_too_large_is_refused_with_its_bytes():
    model = dataclasses.replace(RUN.model, width=4096, heads=32, ff=16384, layers=8, sequence=1024)
    run = RUN.replace(model=model, mesh=MeshConfig(data=4), data=dataclasses.replace(RUN.data, sequence=1024))
    made = plan(run, find_slice("v5e-4"))
    assert made.program is None and made.refused > find_slice("v5e-4").chip.usable_bytes
    assert not made.fits and made.over > 0
