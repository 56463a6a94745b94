"""What a host of a pod does with the runs of a study."""

import json
import sys
import types

import pytest

from jaxlm.launch import work


def line(run, *, after=(), command=("true",), **environment):
    return {"run": run, "after": list(after), "command": list(command), "environment": environment}


def test_ended_runs_are_left_out_and_failed_ones_come_last_with_their_branches():
    lines = [line("a"), line("b", after=["a"]), line("c"), line("d"), line("e", after=["b"])]
    states = {"a": "failed", "c": "finished", "d": "preempted"}
    assert [each["run"] for each in work.ordered(lines, states)] == ["d", "a", "b", "e"]
    assert [each["run"] for each in work.ordered(lines, {"a": "diverged"})] == ["b", "c", "d", "e"]


def write(path, lines):
    path.parent.mkdir()
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    return str(path)


def exiting(codes, log):
    """A command that ends with the next of the codes each time, and writes its variable into the log."""
    program = ("import os, pathlib, sys; log = pathlib.Path(sys.argv[1]); n = log.read_text().count('\\n'); "
               "log.write_text(log.read_text() + os.environ['TOLD'] + '\\n'); sys.exit(int(sys.argv[2].split(',')[n]))")
    return (sys.executable, "-I", "-S", "-c", program, str(log), ",".join(map(str, codes)))


@pytest.mark.parametrize(("codes", "code", "starts"), [
    ((0, 0), 0, 2), ((3, 0), 0, 2), ((75, 0, 0), 0, 3), ((75, 1, 75), 75, 3), ((2, 0), 2, 1),
])
def test_runs_are_started_until_they_end(codes, code, starts, tmp_path):
    log = tmp_path / "log"
    log.write_text("")
    command = exiting(codes, log)
    path = write(tmp_path / "emit" / "runs.jsonl",
                 [line("a", command=command, TOLD="a"), line("b", after=["a"], command=command, TOLD="b")])
    assert work.main([path, "--pause", "0"]) == code
    assert len(log.read_text().splitlines()) == starts


def test_what_starts_from_a_diverged_run_is_skipped_and_the_rest_goes_on(tmp_path, capsys):
    log = tmp_path / "log"
    log.write_text("")
    origin = {"b": "a", "c": "b", "e": "a"}
    # The branch e left its trunk before that diverged: it finds its checkpoint, and says so by its code.
    path = write(tmp_path / "emit" / "runs.jsonl", [
        line(name, after=[origin[name]] if name in origin else [], command=exiting((3, 2, 2, 0, 0), log), TOLD=name)
        for name in "abced"])
    assert work.main([path, "--pause", "0"]) == 0
    assert log.read_text().split() == list("abced")
    assert "b is skipped, for a stopped short" in capsys.readouterr().out


def test_a_run_that_is_recorded_as_diverged_counts_as_such_where_it_is_not_listed(monkeypatch, tmp_path):
    log = tmp_path / "log"
    log.write_text("")
    branch = line("b", command=exiting((2,), log), TOLD="b") | {"checkpoint": {"run": "a", "step": 4}}
    states = {"a": types.SimpleNamespace(status={"state": "diverged"})}
    monkeypatch.setattr(work, "recorded", lambda root, names: {name: states[name] for name in names if name in states})
    assert work.main([write(tmp_path / "emit" / "runs.jsonl", [branch]), "--pause", "0"]) == 0


@pytest.mark.parametrize(("text", "words"), [(None, "no such file"), ("{}\n", "not what"), ("[1]\n", "not what")])
def test_what_is_no_list_of_runs_is_refused(text, words, tmp_path, capsys):
    path = tmp_path / "runs.jsonl"
    if text is not None:
        path.write_text(text)
    assert work.main([str(path)]) == 2
    err = capsys.readouterr().err
    assert words in err and len(err.splitlines()) == 1
