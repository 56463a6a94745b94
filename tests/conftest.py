"""The order of the tests, and a local object store for those that keep records on one."""

import os

import pytest

# What takes longest goes first, so that the processes end together: files of half a minute, then these folders.
LONG = ("test_suite_values", "test_suite_contract", "test_sharded", "test_suite_golden", "test_hosts", "test_pool",
        "test_suite_sharded", "test_diagnostics", "test_loop", "test_layer_statistics", "test_low_rank", "test_evaluation",
        "test_step", "test_cut_cross_entropy", "test_model_forward")
FIRST = ("tests/train/", "tests/sweep/", "tests/optim/")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: (item.path.stem not in LONG, not item.nodeid.startswith(FIRST)))


@pytest.fixture(scope="module")
def store():
    """URL of an empty bucket on a local S3 server, which this process and those it starts can reach."""
    from moto.server import ThreadedMotoServer

    from scaling.record import files

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("NO_PROXY", "127.0.0.1," + os.environ.get("NO_PROXY", ""))
        bucket = files.folder("s3://records")
        bucket.fs.mkdir(bucket.path)
        yield str(bucket).rstrip("/")
        bucket.fs.rm(bucket.path, recursive=True)  # moto's stores outlive its server
    type(bucket.fs).clear_instance_cache()
    server.stop()
