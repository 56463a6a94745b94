"""Each host reads the sequences of its own devices, and together they read those of one host."""

import itertools

import numpy as np
import pytest
from tiny_run import RUN

from jaxlm import data
from jaxlm.parallel import MeshConfig, make_mesh
from jaxlm.train import DiagnosticsConfig, batches

CONFIG = RUN.replace(batch=16, accumulation=2, chunk=3)
EACH = CONFIG.replace(accumulation=1, diagnostics=DiagnosticsConfig(every=1, sequences=8), mesh=MeshConfig())


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return data.open_dataset(CONFIG.data, tmp_path_factory.mktemp("data"))


@pytest.fixture
def on_devices(monkeypatch):
    """A function that has another read for devices first..last-1 of so many that split the batch."""
    def read(make, first, last, total):
        def placed(read, shape, mesh):
            size = shape[-2] // total
            return np.concatenate([read(d * size, (d + 1) * size) for d in range(first, last)], axis=-2)

        with monkeypatch.context() as patch:
            patch.setattr(batches, "_placed", placed)
            return make()

    return read


@pytest.mark.parametrize(("total", "hosts"), [(1, 1), (4, 2), (8, 8)])
def test_hosts_together_read_the_batches_of_one(dataset, on_devices, total, hosts):
    def make():
        return batches.training_batches(CONFIG, dataset, make_mesh(CONFIG.mesh), step=5, count=2)

    share = total // hosts
    parts = [on_devices(make, host * share, (host + 1) * share, total) for host in range(hosts)]
    wanted = np.stack([dataset.batch(k, 16).reshape(2, 8, 9) for k in (5, 6)] + [np.zeros((2, 8, 9))])
    np.testing.assert_array_equal(np.concatenate(parts, axis=2), wanted)


@pytest.fixture
def reads(dataset, monkeypatch):
    """The sequences that have been read, a range a call."""
    found, batch = [], type(dataset).batch

    def recorded(self, k, size):
        found.append(range(k * size, (k + 1) * size))
        return batch(self, k, size)

    monkeypatch.setattr(type(dataset), "batch", recorded)
    return found


def test_a_host_reads_no_other_sequences(dataset, on_devices, reads):
    # The second of two hosts with two devices each; 8 sequences a micro-batch.
    on_devices(lambda: batches.training_batches(CONFIG, dataset, make_mesh(CONFIG.mesh), step=1, count=1), 2, 4, 4)
    assert sorted(itertools.chain(*reads)) == [20, 21, 22, 23, 28, 29, 30, 31]


def test_a_host_alone_reads_each_batch_once(dataset, reads):
    mesh = make_mesh(CONFIG.mesh)
    batches.training_batches(CONFIG, dataset, mesh, step=1, count=2)
    batches.diagnosed_batches(EACH, dataset, mesh, step=3)
    assert reads == [range(16, 32), range(32, 48), range(48, 64)]


def test_heldout_sequences_and_those_of_diagnostics(dataset, on_devices):
    mesh = make_mesh(CONFIG.mesh)
    held = [on_devices(lambda: batches.heldout_batches(CONFIG, dataset, mesh), d, d + 1, 2) for d in range(2)]
    np.testing.assert_array_equal(np.concatenate(held, axis=1).reshape(-1, 9), dataset.heldout(8))

    micro, each = batches.diagnosed_batches(EACH, dataset, mesh, step=3)
    np.testing.assert_array_equal(micro, dataset.batch(3, 16))
    np.testing.assert_array_equal(np.asarray(each).reshape(-1, 9), dataset.batch(3, 16)[:8])
    assert batches.diagnosed_batches(CONFIG, dataset, mesh, step=3)[1] is None
