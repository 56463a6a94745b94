"""The table of slices: arithmetic here, and against the compiler's own topologies where libtpu is installed."""

import math

import pytest

from jaxlm.config import ConfigError
from jaxlm.launch.slices import CHIPS, GIB, SLICES, find_slice

TPUS = [where for where in SLICES.values() if where.compiler_name]


@pytest.mark.parametrize("where", TPUS, ids=lambda where: where.name)
def test_names_topologies_and_hosts_agree(where):
    assert where.chips == math.prod(map(int, where.topology.split("x")))
    assert int(where.name.partition("-")[2]) == where.chips * (2 if where.chip.generation in ("v4", "v5p") else 1)
    assert where.compiler_name == f"{where.chip.generation}:{where.topology}"
    assert where.hosts * where.chips_per_host == where.chips and where.chips_per_host in (1, 4, 8)


def test_names_count_cores_on_v4_and_v5p_and_chips_elsewhere():
    named = [find_slice(name) for name in ("v5p-128", "v4-128", "v5e-256", "v6e-256")]
    assert [where.chips for where in named] == [64, 64, 256, 256]
    assert [where.topology for where in named] == ["4x4x4", "4x4x4", "16x16", "16x16"]
    assert [find_slice(name).hosts for name in ("v5e-1", "v5e-8", "v5e-16", "v5p-128", "v6e-256")] == [1, 1, 4, 16, 64]


def test_a_slice_is_found_by_its_accelerator_type_too():
    assert find_slice("v5litepod-256") is find_slice("v5e-256")
    assert find_slice("h100-8").compiler_name is None


@pytest.mark.parametrize(("name", "nearest"), [
    ("v5e-200", "nearest: v5e-256, v5e-128 (the number counts chips)"),
    ("v5p-100", "nearest: v5p-128, v5p-64 (the number counts cores)"),
    ("v5litepod-12", "nearest: v5e-16, v5e-8"),
    ("v5e256", "did you mean 'v5e-256'?"),
])
def test_a_slice_that_does_not_exist_names_the_nearest(name, nearest):
    with pytest.raises(ConfigError) as error:
        find_slice(name)
    assert str(error.value).startswith(f"slice {name!r}: no such slice; ") and nearest in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("chip", CHIPS, ids=lambda chip: chip.generation)
def test_chips_have_sources_and_plausible_figures(chip):
    assert chip.source
    assert 0.94 * chip.hbm_bytes < chip.usable_bytes < 1.01 * chip.hbm_bytes
    # Operations per byte of memory traffic: between 100 and 600 on every accelerator of these years.
    assert 100 < chip.peak_flops / chip.hbm_bandwidth < 600
    assert chip.ici_bandwidth < chip.hbm_bandwidth


@pytest.mark.tpu_compiler
@pytest.mark.parametrize("where", TPUS, ids=lambda where: where.name)
def test_the_compiler_knows_each_slice(where):
    from jaxlm.launch.topology import slice_devices

    devices = slice_devices(where)
    assert len(devices) == where.chips
    assert len({device.process_index for device in devices}) == where.hosts


@pytest.mark.tpu_compiler
@pytest.mark.parametrize("name", ["v4-8", "v5e-4", "v5p-8", "v6e-4"])
def test_the_compiler_gives_a_program_what_the_table_says(name):
    import jax

    from jaxlm.launch.topology import slice_devices

    where = find_slice(name)
    sharding = jax.sharding.SingleDeviceSharding(slice_devices(where)[0])
    double = jax.jit(lambda x: x + x, in_shardings=sharding, out_shardings=sharding)
    with pytest.raises(jax.errors.JaxRuntimeError, match=rf"available HBM \({where.chip.usable_bytes / GIB:.2f}G\)"):
        double.lower(jax.ShapeDtypeStruct((where.chip.usable_bytes // 4,), "float32")).compile()
