"""Two revisions against each other: each from its own files, in pairs."""

import importlib
import pathlib
import subprocess
import sys

import pytest

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "experiments" / "bench"
sys.path.append(str(FOLDER))
compare = importlib.import_module("compare")
TINY = {"layers": 1, "width": 16, "heads": 2, "feed_forward": 24, "vocabulary": 32, "sequence": 8, "batch": 2}


def git(folder, *words):
    subprocess.run(["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True,
                   capture_output=True)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """Two commits and a change that is in none; the first is tagged."""
    folder = tmp_path_factory.mktemp("repository")
    git(folder, "init")
    for text in ("one", "two", "three"):
        for name in ("jaxlm", "scaling", "experiments/bench"):
            (folder / name).mkdir(parents=True, exist_ok=True)
            (folder / name / "it.py").write_text(text)
        if text != "three":
            git(folder, "add", ".")
            git(folder, "commit", "-m", text)
    git(folder, "tag", "old", "HEAD~1")
    return folder


def test_a_revision_is_unpacked_without_touching_the_working_tree(repository, tmp_path):
    compare.unpack(repository, "old", tmp_path / "old")
    compare.unpack(repository, "HEAD", tmp_path / "new")
    found = [(tmp_path / name / "experiments" / "bench" / "it.py").read_text() for name in ("old", "new")]
    assert found == ["one", "two"] and (repository / "jaxlm" / "it.py").read_text() == "three"


def test_an_unknown_revision_is_named_in_one_line(repository, tmp_path):
    with pytest.raises(ValueError, match="^revision = nowhere: .*nowhere[^\n]*$"):
        compare.unpack(repository, "nowhere", tmp_path)


def test_the_last_line_says_how_much_longer_the_second_takes():
    times = {"first": [{"seconds": 1.0, "cpu_seconds": 2.0}] * 3, "second": [{"seconds": 1.1, "cpu_seconds": 2.5}] * 3}
    figures = {"rounds": 3, "summary": {name: compare.turns.summary(own) for name, own in times.items()},
               "ratio": {key: compare.turns.ratios(times["second"], times["first"], key)
                         for key in ("seconds", "cpu_seconds")}}
    assert compare.line(figures, ["old", "."]).splitlines()[-1] == (
        ". takes 1.100 times as long as old (quartiles 1.100 to 1.100, range 1.100 to 1.100, 3 pairs); "
        "1.250 times the CPU time")


@pytest.mark.slow
def test_the_tree_at_hand_is_compared_with_itself():
    figures = compare.measure([FOLDER.parents[1]] * 2, TINY, rounds=3)
    assert figures["ratio"]["seconds"]["paired"] > 0 and len(figures["turns"]["second"]["seconds"]) == 3
