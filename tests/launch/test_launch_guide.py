"""The guide: every command of ours that it shows is one that the command line takes."""

import importlib
import pathlib
import shlex
import types

import pytest

from jaxlm.cli import commands

GUIDE = pathlib.Path(__file__).resolve().parents[2] / "tpu_setup" / "README.md"


def shown(program):
    """The words of the commands of `program` in the guide, continued lines joined."""
    text = GUIDE.read_text().replace("\\\n", "")
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    return [shlex.split(line)[1:] for line in lines if line.split()[:1] == [program]]


@pytest.fixture
def parsed(monkeypatch):
    """The namespaces of the command lines that were parsed; no command runs."""
    found = []
    for module in list(vars(commands).values()):
        if isinstance(module, types.ModuleType) and hasattr(module, "add_parser") and hasattr(module, "run"):
            monkeypatch.setattr(module, "run", lambda args, rest: found.append((args, rest)) or 0)
    return found


def test_every_jaxlm_command_of_the_guide_is_parsed(parsed, capsys):
    lines = shown("jaxlm")
    for words in lines:
        assert commands.run(words) == 0, (words, capsys.readouterr().err)
    assert len(parsed) == len(lines) >= 10
    assert commands.run(["launch", "quickstart", "--slices", "v5e-16"]) == 2  # an unknown option is seen


# What makes a command safe to run here: it creates nothing, compiles nothing for a slice, and needs no tool.
SAFE = {"launch": ["--dry-run"], "plan": ["--no-compile"], "study": []}
SHOWN = [words + [word for word in SAFE[words[0]] if word not in words] for words in shown("jaxlm")
         if words[0] in SAFE and (words[0] != "study" or "--estimate" in words)]


@pytest.mark.parametrize("words", SHOWN, ids=[f"{number}-{words[0]}" for number, words in enumerate(SHOWN)])
def test_a_launch_a_plan_and_an_estimate_of_the_guide_run(words, tools, monkeypatch, capsys):
    monkeypatch.chdir(GUIDE.parents[1])
    code = commands.run(words)
    said = capsys.readouterr()
    assert code == 0 and said.out, said.err


def test_the_guide_shows_all_kinds_of_them():
    assert sorted(words[0] for words in SHOWN) == ["launch"] * 6 + ["plan"] * 2 + ["study"]


def test_every_scaling_command_of_the_guide_is_parsed():
    parser = importlib.import_module("scaling.cli.main")._parser()
    lines = shown("scaling")
    assert [words[0] for words in lines] == ["fit", "predict", "optimal"]
    for words in lines:
        parser.parse_args(words)


def test_files_that_the_guide_names_are_there():
    for name in ("setup_host.sh", "run_on_host.sh", "xpk_dry_run.sh", "Dockerfile", "manifests"):
        assert name in GUIDE.read_text() and (GUIDE.parent / name).exists()
