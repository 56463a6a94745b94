"""The mesh of a run and the placement of batches and activations; eight forced devices are in train/test_sharded.py."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from jaxlm.config import ConfigError
from jaxlm.parallel import ACTIVATIONS, AXES, RULES, MeshConfig, batch_spec, make_mesh
from jaxlm.params import activations
from jaxlm.train.diagnostics import sequence_grad_sq


def test_shape_and_batch_shards():
    mesh = MeshConfig(replica=7, data=2, fsdp=3, tensor=5, sequence=11)
    assert (mesh.shape, mesh.batch_shards) == ((7, 2, 3, 5, 11), 42)


@pytest.mark.parametrize("axis", AXES)
def test_an_axis_without_devices_is_refused(axis):
    with pytest.raises(ConfigError, match=f"^mesh.{axis} = 0: must be at least 1$"):
        MeshConfig(**{axis: 0})


def test_default_mesh_is_one_device_with_auto_axes():
    mesh = make_mesh(MeshConfig())
    assert dict(mesh.shape) == dict.fromkeys(AXES, 1)
    assert mesh.devices.flatten().tolist() == jax.devices()[:1]
    assert mesh.axis_types == (AxisType.Auto,) * 5


def test_too_few_devices_are_named():
    with pytest.raises(ConfigError) as error:
        make_mesh(MeshConfig(data=64, fsdp=2))
    assert str(error.value) == f"mesh = (1, 64, 2, 1, 1): needs 128 devices, {jax.device_count()} are here"


def fake_devices(slices, each, platform="tpu"):
    """Stand-ins for the devices of several slices, or nodes of GPUs, as `mesh_utils` reads them."""
    return [types.SimpleNamespace(id=each * index + i, slice_index=index, process_index=index, platform=platform,
                                  device_kind=platform, coords=(i, 0, 0), core_on_chip=0)
            for index in range(slices) for i in range(each)]


def test_replicas_must_fill_the_slices():
    with pytest.raises(ConfigError) as error:
        make_mesh(MeshConfig(fsdp=8), fake_devices(slices=2, each=4))
    assert str(error.value) == "mesh.replica = 1: must be a multiple of the 2 slices that the devices lie on"


@pytest.fixture
def arrange(monkeypatch):
    """`make_mesh`, which returns the devices as they are arranged."""
    monkeypatch.setattr("jaxlm.parallel.mesh.Mesh", lambda arranged, *_, **__: arranged)
    return make_mesh


def test_each_slice_holds_whole_replicas(arrange):
    arranged = arrange(MeshConfig(replica=4, fsdp=2), fake_devices(slices=2, each=4))
    slices = np.vectorize(lambda device: device.slice_index)(arranged).reshape(4, 2)
    assert slices.tolist() == [[0, 0], [0, 0], [1, 1], [1, 1]]


def test_nodes_of_gpus_are_no_slices(arrange):
    arranged = arrange(MeshConfig(fsdp=8), fake_devices(slices=2, each=4, platform="gpu"))
    assert [device.id for device in arranged.flat] == list(range(8))


@pytest.mark.parametrize("leading", [0, 2])
def test_batches_are_split_over_replica_data_and_fsdp(leading):
    assert batch_spec(leading) == PartitionSpec(*(None,) * leading, ("replica", "data", "fsdp"))


def test_rules_name_axes_of_the_mesh():
    named = {axis for rules in (RULES, ACTIVATIONS) for axes in rules.values() for axis in axes}
    assert named == set(AXES)


# Activations.

def traced(fn, mesh, *shapes):
    return str(jax.make_jaxpr(fn if mesh is None else activations.on_mesh(fn, mesh, ACTIVATIONS))(
        *(jnp.zeros(shape) for shape in shapes)))


def test_one_device_and_no_mesh_add_nothing_to_the_program():
    fn = lambda x: activations.constrain_rows(activations.rows(x))  # noqa: E731
    assert activations.on_mesh(fn, make_mesh(MeshConfig()), ACTIVATIONS) is fn
    assert "sharding_constraint" not in traced(fn, None, (4, 8, 2))


@pytest.mark.parametrize(("lengths", "shape", "axes", "spec"), [
    ({"fsdp": 2}, (32, 2), ("batch", None), (("replica", "data", "fsdp"), None)),
    ({"sequence": 4}, (4, 8, 2), ("batch", "time", None), (("replica", "data", "fsdp"), ("sequence",), None)),
    ({"tensor": 2}, (32, 6), ("batch", "ff"), (("replica", "data", "fsdp"), ("tensor",))),
    # What the devices do not divide is the compiler's to place: one sequence, taken alone.
    ({"data": 2, "sequence": 4}, (1, 8), ("batch", "time"), (PartitionSpec.UNCONSTRAINED, ("sequence",))),
])
def test_activations_are_split_by_their_axes(lengths, shape, axes, spec):
    place = activations.Place(AbstractMesh(MeshConfig(**lengths).shape, AXES), ACTIVATIONS)
    assert place.spec(shape, axes) == PartitionSpec(*spec)


def test_sequences_taken_alone_lie_side_by_side_and_are_whole():
    def gradient(batch_1xS, key):
        return activations.constrain_rows(activations.rows(batch_1xS[..., None]))

    def fn(sequences_CxPxS):
        return sequence_grad_sq(gradient, sequences_CxPxS, jax.random.key(0))

    mesh = AbstractMesh(MeshConfig(data=2, fsdp=2, tensor=2).shape, AXES, axis_types=(AxisType.Auto,) * len(AXES))
    assert "(('replica', 'data', 'fsdp'), None, None)" in traced(fn, mesh, (3, 4, 8))
