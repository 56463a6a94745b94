"""A PATH without any cloud's tools, and the fake gcloud."""

import json
import pathlib
import shutil
import sys

import pytest

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))

from launch_stubs import script  # noqa: E402 - the folder of this file is on the path now


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """A folder that is the whole PATH; empty at first, but for what shell scripts need."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "sh", "env", "sed", "head", "cat", "cksum", "dirname", "seq", "date", "sleep", "uname"):
        if found := shutil.which(name):
            (folder / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(folder))
    return folder


class Gcloud:
    """The fake gcloud and its requests, as the test sees them."""

    def __init__(self, home):
        self.home = home

    def requests(self):
        """{identifier: state}."""
        found = {path.stem: json.loads(path.read_text()) for path in (self.home / "requests").glob("*.json")}
        return {name: entry["state"]["state"] for name, entry in sorted(found.items())}

    def set_state(self, name, state, **data):
        """Puts a request into a state."""
        path = self.home / "requests" / f"{name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"state": {"state": state, **data}}))

    def calls(self, action):
        """The words of the calls with that action so far."""
        lines = (self.home / "log").read_text().splitlines() if (self.home / "log").exists() else []
        return [words for words in map(json.loads, lines) if action in words]

    def switch(self, name, text=None):
        """Makes something fail, or (None) work again."""
        (self.home / name).unlink(missing_ok=True) if text is None else (self.home / name).write_text(text)


@pytest.fixture
def gcloud(tools, tmp_path, monkeypatch):
    """The fake gcloud on the PATH."""
    home = tmp_path / "gcloud"
    home.mkdir()
    script(tools / "gcloud", f'#!/bin/sh\nexec {sys.executable} -I -S {HERE / "fake_gcloud.py"} "$@"\n')
    monkeypatch.setenv("FAKE_GCLOUD", str(home))
    return Gcloud(home)
