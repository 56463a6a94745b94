"""The mesh of a run and the placement of its batches; eight fake devices are in train/test_sharded.py."""

import jax
import pytest
from jax.sharding import AxisType, PartitionSpec

from jaxlm.config import ConfigError
from jaxlm.parallel import RULES, MeshConfig, batch_spec, make_mesh


def test_shape_and_batch_shards():
    mesh = MeshConfig(data=2, fsdp=3, tensor=5)
    assert (mesh.shape, mesh.batch_shards) == ((2, 3, 5), 6)


@pytest.mark.parametrize("axis", ["data", "fsdp", "tensor"])
def test_an_axis_without_devices_is_refused(axis):
    with pytest.raises(ConfigError, match=f"^mesh.{axis} = 0: must be at least 1$"):
        MeshConfig(**{axis: 0})


def test_default_mesh_is_one_device_with_auto_axes():
    mesh = make_mesh(MeshConfig())
    assert dict(mesh.shape) == {"data": 1, "fsdp": 1, "tensor": 1}
    assert mesh.devices.flatten().tolist() == jax.devices()[:1]
    assert mesh.axis_types == (AxisType.Auto,) * 3


def test_too_few_devices_are_named():
    with pytest.raises(ConfigError, match=rf"^mesh = \(64, 2, 1\): needs 128 devices, {jax.device_count()} are here$"):
        make_mesh(MeshConfig(data=64, fsdp=2))


@pytest.mark.parametrize(("leading", "spec"), [
    (0, PartitionSpec(("data", "fsdp"))), (2, PartitionSpec(None, None, ("data", "fsdp")))])
def test_batches_are_split_over_data_and_fsdp(leading, spec):
    assert batch_spec(leading) == spec


def test_rules_name_axes_of_the_mesh():
    assert set(RULES.values()) <= set(make_mesh(MeshConfig()).axis_names)
