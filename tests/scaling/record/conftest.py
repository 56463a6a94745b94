"""Where the tests of records keep them: on a local path and on an object store."""

import os
from pathlib import Path

import pytest

from scaling.record import files


@pytest.fixture(params=["local", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path):
    """An empty folder, local and on fsspec's object store in memory, which is emptied afterwards."""
    if request.param == "local":
        yield tmp_path
        return
    folder = files.folder("memory://records")
    yield folder
    folder.fs.store.clear()
    folder.fs.pseudo_dirs[:] = [""]


@pytest.fixture(scope="module")
def store():
    """URL of an empty bucket on a local S3 server, which this process and those it starts can reach."""
    from moto.server import ThreadedMotoServer

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
    type(bucket.fs).clear_instance_cache()
    server.stop()
