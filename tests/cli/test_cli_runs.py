"""`jaxlm runs`: list, filter, show, compare, export; what it imports and reads, and one line for each mistake."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest

from jaxlm.cli import main
from jaxlm.cli.recorded import select
from jaxlm.config import ConfigError
from scaling import record

WIDTHS = {"a": 8, "b": 16, "c": 32}


def make(root, name, *, state="finished", config=None, loss=2.0, host="here"):
    width = WIDTHS.get(name, 8)
    folder = root / f"{name}-run"
    record.create(folder, {
        "name": folder.name, "study": "s", "seed": 0, "parent": None,
        "config": {"model": {"width": width, "norm": "rms"}, "optimizer": {"kind": "adamw", "b2": 0.95}}
        if config is None else config, "config_hash": name,
        "params": {"total": 1000 * width, "non_embedding": 900 * width, "with_head": 1000 * width},
        "tokens_per_update": 32, "flops_per_token": {"head": 1}, "corpus": {"name": "made", "digest": "0" * 64},
        "loss_unit": "nats/token", "bytes_per_token": 1.0}, np.linspace(1e-3, 1e-4, 4), {})
    attempt = record.start_attempt(folder, {"host": host, "versions": {"jax": "0.10.2"}, "first_step": 0})
    record.write_segment(folder, attempt, [
        {"step": step, "tokens": 32 * (step + 1), "train_loss": loss + 3 - step, "seconds": 0.25}
        | ({"heldout_loss": loss} if step == 3 else {}) for step in range(4)])
    if state == "finished":
        record.set_status(folder, state, result={
            "updates": 4, "tokens": 128, "heldout_loss": loss, "params_digest": name})
    else:
        record.set_status(folder, state, reason="SIGTERM")
    return folder


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "records"
    make(root, "a", loss=3.0)
    make(root, "b", loss=2.5)
    make(root, "c", loss=2.0, state="preempted", config={"model": {"width": 32}, "optimizer": {"kind": "muon"}})
    return root


def listed(capsys):
    return [line.split()[0] for line in capsys.readouterr().out.splitlines() if "-run " in line]


@pytest.mark.parametrize(("words", "wanted"), [
    ([], "abc"),
    (["--where", "state=finished"], "ab"),
    (["--where", "status!=finished"], "c"),
    (["--where", "N>8e3"], "bc"),
    (["--where", "N>=8000", "--where", "N<32000"], "ab"),
    (["--where", "config.optimizer.kind=muon"], "c"),
    (["--where", "config.optimizer.b2 = 0.95"], "ab"),
    (["--where", "config.optimizer.b2!=0.95"], "c"),
    (["--where", "run~B-"], "b"),
    (["--where", "result.heldout_loss<=2.5"], "b"),
    (["--where", "identity.parent=null"], "abc"),
    (["--where", "attempt.host=there"], ""),
    (["--where", "reason=SIGTERM"], "c"),
    (["--sort", "loss"], "cba"),
    (["--sort=-N"], "cba"),
    (["--sort=-config.optimizer.b2", "--limit", "2"], "ab"),
    (["--sort=loss", "--limit", "1"], "c"),
])
def test_which_runs_are_listed_in_which_order(root, capsys, words, wanted):
    assert main(["runs", str(root), *words]) == 0
    assert [name[0] for name in listed(capsys)] == list(wanted)


def test_the_table_and_the_bytes_of_each_study(root, capsys):
    (root / "a-run" / "checkpoints" / "4").mkdir(parents=True)
    (root / "a-run" / "checkpoints" / "4" / "data").write_bytes(b"0" * 3072)
    assert main(["runs", str(root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["run", "status", "updates", "N", "D", "peak", "lr", "nats/token", "bits/byte"]
    assert lines[1].split() == ["a-run", "finished", "4/4", "8,000", "128", "0.001", "3.0000", "4.3281"]
    assert lines[3].split() == ["c-run", "preempted", "4/4", "32,000", "128", "0.001", "2.0000", "2.8854"]
    assert lines[-1].startswith("s: 3 runs, checkpoints 3.0 KiB, metrics ")


def test_a_damaged_run_is_named_and_the_others_listed(root, capsys):
    (root / "b-run" / "run.json").write_text("{")
    assert main(["runs", str(root)]) == 0
    captured = capsys.readouterr()
    assert "a-run" in captured.out and "b-run/run.json: corrupt" in captured.err


def test_a_listing_imports_no_jax_and_reads_no_metrics_of_finished_runs(root):
    program = ("import sys; opened = []\n"
               "sys.addaudithook(lambda event, args: event == 'open' and opened.append(str(args[0])))\n"
               "from jaxlm.cli import main\n"
               f"assert main(['runs', {str(root)!r}]) == 0\n"
               "heavy = {'jax', 'flax', 'orbax', 'scipy', 'rich', 'matplotlib'} & set(sys.modules)\n"
               "assert not heavy, heavy\n"
               "read = [path for path in opened if path.endswith('.jsonl')]\n"
               "assert len(read) == 1 and 'c-run' in read[0], read")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_show(root, capsys, tmp_path):
    folder = root / "c-run"
    record.start_attempt(folder, {"host": "there", "versions": {"jax": "0.11.0"}, "first_step": 4})
    record.set_status(folder, "failed", reason="OSError: disk full")
    (folder / "checkpoints" / "4").mkdir(parents=True)
    (folder / "checkpoints" / "8.orbax-checkpoint-tmp").mkdir()
    (folder / "damaged" / "2-0").mkdir(parents=True)
    with open(folder / "metrics" / "0-0.jsonl", "a") as file:
        file.write("{\n")
    assert main(["runs", "show", "c-", "--under", str(root), "--plot", str(tmp_path / "p.png")]) == 0
    out = capsys.readouterr().out
    for text in ("failed: OSError: disk full, 4 of 4 updates", "model.width     32", "host: here -> there",
                 "versions.jax: 0.10.2 -> 0.11.0", "step         4", "not committed", "damaged/2-0",
                 "line 5: left out"):
        assert text in out, text
    assert any(line.split()[::2] == ["0", "here", "1.0"] for line in out.splitlines()), "four updates of 0.25 s"
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_compare_says_equal_or_how_many_fields_differ(root, capsys, tmp_path):
    make(tmp_path / "other", "a", loss=3.0, host="there")
    assert main(["runs", "compare", str(root / "a-run"), str(tmp_path / "other" / "a-run")]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "equal" and "host" in out and "conditions of the last attempt: 1 field differs" in out
    assert main(["runs", "compare", "a-run", "b", "--under", str(root)]) == 0
    out = capsys.readouterr().out
    count = len(record.equal(record.read(root / "a-run"), record.read(root / "b-run")))
    assert out.splitlines()[-1] == f"{count} result fields differ"
    assert "configuration: 1 field differs" in out and "model.width" in out
    assert "train_loss: differs at 4 of 4 steps, most at step 0: 6 against 5.5, 0.5 apart; first at step 0" in out


def test_csv_and_parquet_hold_what_is_listed(root, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    files = ["--csv", str(tmp_path / "t.csv"), "--parquet", str(tmp_path / "t.parquet")]
    assert main(["runs", str(root), "--where", "state=finished", *files]) == 0
    with open(tmp_path / "t.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == ["a-run", "b-run"]
    assert rows[0]["config.model.width"] == "8" and rows[0]["loss"] == "3.0" and rows[0]["N_total"] == "8000"
    assert parquet.read_table(tmp_path / "t.parquet").column("config.optimizer.b2").to_pylist() == [0.95, 0.95]
    assert main(["runs", str(root), "--rows", *files]) == 0
    with open(tmp_path / "t.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12 and rows[5]["run"] == "b-run" and rows[5]["step"] == "1" and rows[5]["heldout_loss"] == ""


def test_values_are_compared_as_what_they_are():
    def holds(value, text):
        return select.holds(value, select.parse(f"x{text}"))

    assert holds(10, ">9") and not holds(None, ">9") and not holds(float("nan"), "<9")
    assert holds("0.10", "=0.10") and not holds("0.10", "=0.1")
    assert holds(True, "=true") and not holds(1, "=true") and holds(None, "=null") and holds([1, 2], "=[1, 2]")
    assert holds("2026-11-21", ">2026-11") and holds(None, "!=3") and holds([{"kind": "corpus"}], "~corpus")
    with pytest.raises(ConfigError, match="is a number"):
        holds(1, "<x")


@pytest.mark.parametrize(("words", "message"), [
    (["ROOT", "--where", "N"], "where = 'N': must be FIELD OP VALUE"),
    (["ROOT", "--where", "N>many"], "where = 'N>many': N is a number"),
    (["ROOT", "--where", "config.optimzer.kind=muon"], "did you mean 'config.optimizer.kind'?"),
    (["ROOT", "--sort", "los"], "field = 'los': no run has it; did you mean 'loss'?"),
    (["ROOT", "--limit", "0"], "limit = 0: must be at least 1"),
    (["ROOT", "--rows"], "rows = True: needs --csv or --parquet"),
    (["ROOT", "--csv", "nowhere/x.csv"], "csv = 'nowhere/x.csv': must name a file in a folder that is there"),
    (["ROOT", "--plot", "x.png"], "--plot: not an option of jaxlm runs"),
    (["nowhere"], "root = 'nowhere': no such folder"),
    (["show"], "jaxlm runs show: takes 1 RUN, got 0"),
    (["show", "ROOT"], "a folder of 3 runs, not a run"),
    (["show", "bb-run", "--under", "ROOT"], "no such run under"),
    (["show", "a-run", "--under", "ROOT", "--plot", "x.txt"], "plot = 'x.txt': must end in .png"),
    (["show", "a-run", "--limit", "3"], "--limit: not an option of jaxlm runs show"),
    (["compare", "a-run"], "jaxlm runs compare: takes 2 RUN, got 1"),
    (["compare", "", "a", "--under", "ROOT"], "run = '': 3 runs are called so"),
])
def test_a_mistake_is_one_line(root, words, message, capsys):
    assert main(["runs", *[str(root) if word == "ROOT" else word for word in words]]) == 2
    stderr = capsys.readouterr().err
    assert message in stderr and stderr.count("\n") == 1, stderr


def test_a_run_that_holds_no_json_field_of_the_schema_is_one_line(root, capsys):
    content = json.loads((root / "a-run" / "run.json").read_text())
    content["schema_version"] = 99
    (root / "a-run" / "run.json").write_text(json.dumps(content))
    assert main(["runs", "show", str(root / "a-run")]) == 2
    assert "schema_version = 99" in capsys.readouterr().err


def test_show_tells_diagnostics_and_the_noise_scale(root, capsys):
    record.write_diagnostics(root / "a-run", 0, [
        {"step": 3, "small_batch": 1, "small_grad_sq": 5.0, "big_batch": 4, "big_grad_sq": 2.0,
         "block_update_rms": [0.5, 0.25], "block_param_rms": [2.0, 2.0]}])
    assert main(["runs", "show", str(root / "a-run")]) == 0
    out = capsys.readouterr().out
    # |G|^2 = (4 * 2 - 5) / 3 = 1 and tr(Sigma) = (5 - 2) / (1 - 1/4) = 4; sequences of 32 / 4 tokens.
    assert "noise scale          4 sequences, 32 tokens" in out and "update ratio         0.25 0.125" in out
    assert main(["runs", "show", str(root / "b-run")]) == 0
    assert "diagnostics, the last row" not in capsys.readouterr().out
