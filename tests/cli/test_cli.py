"""The command line: help, options, text that cannot be read, signals; tests/cli/test_wrong_inputs.py has mistakes."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jaxlm.cli import main
from jaxlm.cli.train import parse_overrides
from jaxlm.config import ConfigError

TINY = str(Path(__file__).resolve().parents[1] / "sweep" / "tiny_study.py")


@pytest.mark.parametrize(("name", "content", "message"), [
    ("empty.txt", b"", "empty"), ("binary.txt", b"ab\0cd", "NUL"), ("short.txt", b"To be, or not to be.\n", "sequence")])
def test_text_that_cannot_be_read_is_named(name, content, message, tmp_path, capsys):
    path = tmp_path / name
    path.write_bytes(content)
    assert main(["data", "info", str(path), "--out", str(tmp_path / "runs")]) == 2
    stderr = capsys.readouterr().err
    assert message in stderr and stderr.count("\n") == 1, stderr


def test_help_shows_examples(capsys):
    for words in ([], ["study"], ["train"], ["data"], ["data", "prepare"], ["runs"]):
        with pytest.raises(SystemExit) as stop:
            main([*words, "--help"])
        assert stop.value.code == 0
    assert "--model.width=64" in capsys.readouterr().out


def test_show_prints_the_resolved_configuration(capsys):
    assert main(["train", f"{TINY}:trunk", "--optimizer.b2=0.99", "--show"]) == 0
    assert '"b2": 0.99' in capsys.readouterr().out


def test_overrides_take_both_forms():
    assert parse_overrides(["--a.b=1", "--c", "x"]) == {"a.b": "1", "c": "x"}
    with pytest.raises(ConfigError, match="options are written"):
        parse_overrides(["a.b=1"])


def test_data_info_describes_the_users_own_text(tmp_path, capsys):
    path = tmp_path / "own.txt"
    path.write_text("All the world's a stage, and all the men and women merely players.\n" * 300)
    assert main(["data", "info", str(path), "--out", str(tmp_path / "runs")]) == 0
    assert "digest" in capsys.readouterr().out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_during_imports_ends_in_one_line(number, code):
    # Importing the command modules takes a moment; the signal is sent from within it.
    # A shell starts background jobs with Ctrl-C ignored, and they hand that on; a terminal does not.
    program = ("import os, signal, sys; from jaxlm.cli import main\n"
               "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
               "class Hit:\n"
               "    def find_spec(self, name, path=None, target=None):\n"
               f"        if name == 'jaxlm.cli.study': os.kill(os.getpid(), {int(number)})\n"
               "sys.meta_path.insert(0, Hit())\n"
               "sys.exit(main(['runs']))")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
