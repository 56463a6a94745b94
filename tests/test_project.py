"""The project's own files: locked versions, set-up commands, the layout that the README describes."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_constraints_lock_versions_and_name_no_host():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert lines
    for line in lines:
        assert re.fullmatch(r"[a-z0-9._-]+==[\w.+]+( ; .+)?", line), line
        assert "://" not in line and "@" not in line


def test_every_dependency_that_make_installs_is_locked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(one for name in ("train", "corpus", "plots", "tables", "tokenizers", "dev")
                                          for one in extras[name])]
    locked = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    names = {re.match(r"[A-Za-z0-9._-]+", one).group().lower() for one in wanted}
    assert names <= locked, names - locked


def test_the_readmes_commands_are_targets_of_the_makefile():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = set(re.findall(r"\bmake ([a-z-]+)", (ROOT / "README.md").read_text()))
    assert {"study", "test"} <= used <= targets, used - targets


def test_ci_runs_the_readmes_test_command():
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_the_top_level_holds_what_the_design_names():
    allowed = {"pyproject.toml", "constraints.txt", "Makefile", "README.md", "LICENSE", ".gitignore", ".ci", "jaxlm",
               "scaling", "experiments", "tests", "tpu_setup"}
    ignored = {".git", ".venv", "runs", ".pytest_cache", "build", "__pycache__"}
    there = {path.name for path in ROOT.iterdir()} - ignored
    assert {name for name in there if not name.endswith(".egg-info")} <= allowed
