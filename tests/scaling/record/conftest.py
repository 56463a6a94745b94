"""Where the tests of records keep them: on a local path and on an object store."""

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
