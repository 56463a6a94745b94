"""`jaxlm runs --watch`: what it shows, what it reads, when it ends."""

import importlib.util
import sys
from pathlib import Path

import pytest

from jaxlm.cli import main
from jaxlm.cli.recorded import watch
from jaxlm.cli.recorded.live import Live
from scaling import record

_spec = importlib.util.spec_from_file_location("watch_test_runs", Path(__file__).with_name("test_cli_runs.py"))
helpers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(helpers)


@pytest.fixture
def root(tmp_path):
    helpers.make(tmp_path / "s", "a")
    helpers.make(tmp_path / "s", "b", state="preempted")
    return tmp_path / "s"


def start(folder, first, *, updates=4, attempt=None):
    """Adds a segment of two rows to a run, started anew unless `attempt` is given."""
    attempt = record.start_attempt(folder, {"host": "here"}) if attempt is None else attempt
    record.write_segment(folder, attempt, [
        {"step": step, "tokens": 32 * (step + 1), "train_loss": 4.0 - step, "seconds": 0.5}
        for step in (first, first + 1)])
    return attempt


def rows(live):
    return {row.run.name[0]: row for row in live.poll()}


def test_speed_and_time_left_of_a_run_that_trains(root):
    live = Live([str(root)])
    with record.run_lock(root / "b-run"):
        start(root / "b-run", 0)
        row = rows(live)["b"]
        assert (row.run.state, row.run.updates, row.run.train_loss) == ("running", 2, 3.0)
        assert row.tokens_per_second == 64.0 and row.seconds_left == 1.0  # two of four updates at half a second
        assert watch.cells(row) == ["b-run", "running", "2/4", "3.0000", "64", "0:00:01"]
    row = rows(live)["b"]  # its process has ended, and nothing was written
    assert row.run.state == "interrupted" and watch.cells(row)[5] == ""
    assert watch.cells(rows(live)["a"]) == ["a-run", "finished", "4/4", "2.0000", "", ""]


def test_only_what_has_changed_is_read_again(root, monkeypatch):
    live, read = Live([str(root)]), []
    summarise = record.summarise
    monkeypatch.setattr(record, "summarise", lambda folder: read.append(folder.name) or summarise(folder))
    live.poll()
    assert sorted(read) == ["a-run", "b-run"]
    live.poll()
    assert len(read) == 2
    start(root / "b-run", 0)
    helpers.make(root, "c")
    assert len(live.poll()) == 3
    assert sorted(read[2:]) == ["b-run", "c-run"]


def test_a_damaged_record_is_named_and_the_others_shown(root):
    (root / "a-run" / "run.json").write_text("{")
    live = Live([str(root)])
    assert [row.run.name for row in live.poll()] == ["b-run"]
    assert "a-run/run.json: corrupt" in live.damaged[0]


def test_lines_until_all_have_ended(root, capsys):
    steps = iter([
        lambda: start(root / "b-run", 0), lambda: start(root / "b-run", 2, attempt=1),
        lambda: record.set_status(root / "b-run", "finished", result={
            "updates": 4, "tokens": 128, "heldout_loss": 1.5, "params_digest": "b"})])
    assert watch.run([str(root)], every=1.0, sleep=lambda seconds: next(steps)()) == 0
    assert [line.split()[:3] for line in capsys.readouterr().out.splitlines()] == [
        ["a-run", "finished", "4/4"], ["b-run", "preempted", "4/4"], ["b-run", "interrupted", "2/4"],
        ["b-run", "interrupted", "4/4"], ["b-run", "finished", "4/4"], ["2", "runs:", "2"]]


def test_it_goes_on_while_a_study_is_at_work(root, capsys):
    record.set_status(root / "b-run", "failed", reason="x")
    polls = []
    with record.run_lock(root):
        class Enough(Exception):
            pass

        def sleep(seconds):
            polls.append(seconds)
            if len(polls) == 3:
                raise Enough

        with pytest.raises(Enough):
            watch.run([str(root)], every=0.5, sleep=sleep)
    assert polls == [0.5] * 3
    assert watch.run([str(root)], every=0.5, sleep=sleep) == 0


def test_a_study_at_work_under_the_root_is_waited_for_before_its_first_record(tmp_path):
    (tmp_path / "runs" / ".cache").mkdir(parents=True)
    live = Live([str(tmp_path / "runs")])
    with record.run_lock(tmp_path / "runs" / "new"):
        assert live.poll() == [] and live.at_work()
        helpers.make(tmp_path / "runs" / "old", "a")
        assert not watch.over(live, live.poll())
    assert watch.over(live, live.poll())


def test_what_cannot_be_read_is_told_once_and_the_watch_goes_on(root, monkeypatch, capsys):
    helpers.make(root, "c")
    (root / "c-run" / "run.json").write_text("{")
    poll, polls = Live.poll, []

    def failing(live):
        polls.append(live)
        if len(polls) in (2, 3):
            raise OSError("the store does not answer")
        return poll(live)

    monkeypatch.setattr(Live, "poll", failing)
    steps = iter([lambda: None, lambda: None, lambda: record.set_status(root / "b-run", "failed", reason="x")])
    assert watch.run([str(root)], every=1.0, sleep=lambda seconds: next(steps)()) == 0
    out, err = capsys.readouterr()
    assert len(polls) == 4 and out.endswith("2 runs: 1 failed, 1 finished\n")
    assert [line.split(": ")[:2] for line in err.splitlines()] == [["jaxlm", "cannot be read"]] * 2
    assert "c-run/run.json: corrupt" in err and "the store does not answer" in err


def test_on_a_terminal_the_table_is_drawn_again_until_all_have_ended(root, monkeypatch):
    import os

    reading, writing = os.openpty()
    steps = iter([
        lambda: start(root / "b-run", 0),
        lambda: record.set_status(root / "b-run", "finished", result={
            "updates": 4, "tokens": 128, "heldout_loss": 1.5, "params_digest": "b"})])
    with open(writing, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        monkeypatch.setenv("TERM", "xterm")
        assert watch.run([str(root)], every=1.0, sleep=lambda seconds: next(steps)()) == 0
        terminal.flush()
        text = os.read(reading, 65536).decode()
    os.close(reading)
    shown = [text.find(word) for word in ("1 preempted, 1 finished", "1 interrupted, 1 finished", "2 finished")]
    assert -1 < shown[0] < shown[1] < shown[2], text


def test_the_table_of_a_terminal_shows_what_trains_first(root, monkeypatch):
    from rich.console import Console

    with record.run_lock(root / "b-run"):
        start(root / "b-run", 0)
        live = Live([str(root)])
        console = Console(width=100, record=True, file=open("/dev/null", "w"))
        console.print(watch._table(live.poll(), live, height=5))
    text = console.export_text().splitlines()
    assert text[1].split() == ["b-run", "running", "2/4", "3.0000", "64", "0:00:01"]
    assert text[2].split(":")[0] == "2 runs" and "(1 not shown)" in text[2]


def test_on_an_object_store(root):
    pytest.importorskip("upath")
    url = "memory://watch-test/s"
    from scaling.record import files

    helpers.make(files.folder(url), "a")
    live = Live([url])
    assert [watch.cells(row)[:3] for row in live.poll()] == [["a-run", "finished", "4/4"]]
    start(files.folder(url) / "a-run", 0)
    assert [watch.cells(row)[:3] for row in live.poll()] == [["a-run", "interrupted", "2/4"]]


@pytest.mark.parametrize(("words", "message"), [
    (["EMPTY", "--watch"], "no study: it holds no run, and none is at work there"),
    (["nowhere", "--watch"], "root = 'nowhere': no such folder"),
    (["ROOT", "--watch", "--every", "0"], "every = 0.0: must be above 0 seconds"),
    (["ROOT", "--every", "3"], "--every: not an option of jaxlm runs"),
    (["ROOT", "--watch", "--limit", "3"], "--limit: not an option of jaxlm runs --watch"),
    (["show", "a-run", "--watch"], "--watch: not an option of jaxlm runs show"),
])
def test_a_mistake_is_one_line(root, tmp_path, words, message, capsys):
    (tmp_path / "empty").mkdir()
    places = {"ROOT": str(root), "EMPTY": str(tmp_path / "empty")}
    assert main(["runs", *[places.get(word, word) for word in words]]) == 2
    stderr = capsys.readouterr().err
    assert message in stderr and stderr.count("\n") == 1, stderr


def test_lines_need_no_jax(root):
    import subprocess

    program = ("import sys\nfrom jaxlm.cli import main\n"
               f"assert main(['runs', {str(root / 'a-run')!r}, '--watch']) == 0\n"
               "assert not {'jax', 'flax', 'scipy', 'rich'} & set(sys.modules)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
