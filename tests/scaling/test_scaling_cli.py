"""The command `scaling`: what it prints, saves, refuses, and its exit codes."""

import csv
import subprocess
import sys

import numpy as np
import pytest

import scaling
from scaling import record
from scaling.cli import main

SIZES = {1e5: "s", 3e5: "m", 1e6: "l"}


def truth(n, d):
    return 1.2 + (n / 1e5) ** -0.4 + 1.2 * (d / 5e6) ** -0.35


def make_run(folder, n, d, *, seed, state="finished"):
    updates = 20
    schedule = np.concatenate([np.linspace(1e-4, 1e-3, 3), np.full(7, 1e-3), np.linspace(1e-3, 1e-4, 10)])
    identity = {
        "name": folder.name,
        "study": "test",
        "seed": seed,
        "parent": None,
        "config": {},
        "config_hash": "0",
        "params": {"total": int(1.5 * n), "non_embedding": int(n), "with_head": int(1.2 * n)},
        "tokens_per_update": int(d) // updates,
        "flops_per_token": {},
        "corpus": {"name": "none", "digest": "0"},
        "loss_unit": "nats/token",
        "bytes_per_token": 1.0,
    }
    record.create(folder, identity, schedule, {})
    attempt = record.start_attempt(folder, {})
    loss = float(truth(n, d) * (1 + 1e-3 * (seed - 0.5)))
    s1 = np.cumsum(schedule)
    curve = loss + 0.1 * s1**-0.5
    rows = [{"step": s, "tokens": s + 1, "lr": schedule[s], "heldout_loss": curve[s]} for s in range(20)]
    record.write_segment(folder, attempt, rows)
    result = {"updates": updates, "tokens": int(d), "heldout_loss": loss, "params_digest": None}
    record.set_status(folder, state, result=result if state == "finished" else None)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for n, name in SIZES.items():
        for ratio in (10, 20, 40):
            for seed in (0, 1):
                make_run(root / f"{name}-{ratio}-{seed}", n, n * ratio, seed=seed)
    make_run(root / "broken", 1e5, 1e6, seed=0, state="diverged")
    return root


@pytest.fixture(scope="module")
def fit_file(runs, tmp_path_factory):
    path = tmp_path_factory.mktemp("fits") / "fit.json"
    command = ["fit", "chinchilla", str(runs), "--counting", "non_embedding", "--bootstrap", "20"]
    assert main([*command, "--out", str(path)]) == 0
    return path


def test_fit_from_run_folders_says_what_it_left_out(runs, capsys):
    assert main(["fit", "chinchilla", str(runs), "--counting", "non_embedding"]) == 0
    out = capsys.readouterr().out
    assert "18 of 19 runs used; left out: 1 diverged" in out
    assert "loss in nats/token, N = non_embedding parameters" in out


def test_several_folders_are_one_table_and_may_not_be_mixed_with_a_file(runs, capsys, tmp_path):
    some = [str(path) for path in sorted(runs.glob("[sml]-[24]0-?"))]
    assert main(["fit", "chinchilla", *some, "--counting", "total", "--out", str(tmp_path / "f.json")]) == 0
    assert "12 folders: 12 of 12 runs used" in capsys.readouterr().out
    assert scaling.load(tmp_path / "f.json").n_rows == 12
    (tmp_path / "x.csv").write_text("N,D,loss\n")
    assert main(["fit", "chinchilla", some[0], str(tmp_path / "x.csv"), "--counting", "total"]) == 2
    assert "folders of runs or one CSV file" in capsys.readouterr().err


def test_saved_fit_holds_the_runs_law(fit_file):
    fit = scaling.load(fit_file)
    assert scaling.predict(fit, N=1e6, D=4e7).point[0] == pytest.approx(truth(1e6, 4e7), rel=1e-3)
    assert fit.bootstrap == "20 bootstrap refits, rows resampled by single rows within each N, seed 0"


def test_counting_changes_n(runs, capsys, tmp_path):
    main(["fit", "chinchilla", str(runs), "--counting", "total", "--out", str(tmp_path / "f.json")])
    assert scaling.load(tmp_path / "f.json").ranges["N"] == (1.5e5, 1.5e6)


def test_predict_prints_the_interval_and_the_unit(fit_file, capsys):
    assert main(["predict", str(fit_file), "--N", "3e6", "--D", "6e7"]) == 0
    out = capsys.readouterr().out
    assert "loss at N = 3e+06 non_embedding parameters, D = 6e+07 tokens: " in out
    assert "[" in out and "(nats/token)" in out and "excludes model error" in out


def test_predict_at_a_budget_prints_n_and_d(fit_file, capsys):
    assert main(["predict", str(fit_file), "--C", "1e14"]) == 0
    assert "D/N at C = 1e+14: " in capsys.readouterr().out


def test_predict_from_published_coefficients(capsys):
    assert main(["predict", "chinchilla/besiroglu2024", "--N", "7e10", "--D", "1.4e12"]) == 0
    assert "interval: none: published coefficients without draws" in capsys.readouterr().out


def test_far_query_is_warned_about_and_exits_0(fit_file, capsys):
    assert main(["predict", str(fit_file), "--N", "1e9", "--D", "1e7"]) == 0
    assert "warning: N = 1e+09 lies more than 10 times outside" in capsys.readouterr().out


def test_fit_from_csv_computes_tokens_and_drops_the_highest(tmp_path, capsys):
    path = tmp_path / "points.csv"
    with open(path, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["Model Size", "FLOP", "loss"])
        table.writerows([n, 6 * n * n * r, truth(n, n * r)] for n in SIZES for r in (10, 20, 40))
        table.writerow([1e5, 6e12, 50.0])
    command = ["fit", "chinchilla", str(path), "--counting", "total", "--unit", "nats/token"]
    assert main([*command, "--drop-highest", "1", "--columns", "N=Model Size", "C=FLOP"]) == 0
    out = capsys.readouterr().out
    assert "D = C / (6 N)" in out and "9 rows, " in out


def test_exported_csv_can_be_fitted(runs, tmp_path, capsys):
    record.to_csv([record.read(folder) for folder in record.find(runs)], tmp_path / "runs.csv")
    command = ["fit", "chinchilla", str(tmp_path / "runs.csv"), "--counting", "with_head"]
    assert main([*command, "--unit", "nats/token"]) == 0
    assert "18 of 19 rows used" in capsys.readouterr().out


def test_annealing_fit_predicts_and_draws(runs, tmp_path, capsys):
    fit, schedule, picture = tmp_path / "curves.json", tmp_path / "schedule.npy", tmp_path / "curves.png"
    folders = [str(runs / "s-10-0"), str(runs / "s-10-1")]
    assert main(
        ["fit", "annealing", *folders, "--warmup", "drops", "--bootstrap", "5", "--out", str(fit)]
    ) == 0
    np.save(schedule, np.full(20, 1e-3))
    assert main(["predict", str(fit), "--schedule", str(schedule), "--step", "9", "19"]) == 0
    assert "loss at update 19: " in capsys.readouterr().out
    pytest.importorskip("matplotlib")
    assert main(["plot", str(fit), "--out", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_sparse_curve_says_that_its_schedule_was_interpolated(tmp_path, capsys):
    steps = np.arange(20, 400, 10)
    rates = np.where(steps < 200, 1e-3, 2e-4)
    np.savetxt(
        tmp_path / "drop.csv",
        np.column_stack([steps, rates, 3 + 0.5 * steps**-0.3 - 20 * (rates < 1e-3) * 1e-3]),
        delimiter=",",
        header="step,lr,loss",
        comments="",
    )
    command = ["fit", "annealing", str(tmp_path / "drop.csv"), "--unit", "nats/token", "--warmup-steps", "20"]
    assert main(command) == 0
    assert "rates between the 38 rows interpolated, warm-up 20 steps from 0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("fit chinchilla nowhere.csv --counting total --unit nats/token", "No such file"),
        ("fit chinchilla {runs}", "--counting: declare which parameters N counts"),
        ("fit chinchilla {runs} --counting total --unit bits/byte", "declared and recorded units differ"),
        ("fit kaplan {runs}", "invalid choice: 'kaplan'"),
        ("fit chinchilla {runs} --counting total --prior alpha=1", "must read NAME=VALUE:SD"),
        ("fit chinchilla {runs} --counting total --strata colour --bootstrap 5", "strata = 'colour'"),
        ("fit chinchilla {runs} --counting total --drop-highest 99", "drop-highest = 99"),
        ("predict nowhere.json --N 1 --D 1", "No such file"),
        ("predict chinchilla/nobody --N 1 --D 1", "published = 'nobody'"),
        ("predict {fit} --N 1", "--N, --D: give both"),
        ("predict {fit} --N 1 --D -1", "query D = -1.0"),
        ("plot nowhere.json --out x.png", "No such file"),
        ("plot chinchilla/hoffmann2022 --out x.png", "published coefficients carry none"),
        ("", "required"),
    ],
)
def test_mistakes_give_one_line_and_exit_2(runs, fit_file, capsys, command, message):
    assert main([part.format(runs=runs, fit=fit_file) for part in command.split()]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1 and err.startswith("scaling: ")


def test_missing_matplotlib_is_named_and_exits_1(fit_file, monkeypatch, capsys):
    for name in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["plot", str(fit_file), "--out", "x.png"]) == 1
    assert capsys.readouterr().err == "scaling: plots need matplotlib: pip install 'jaxlm[plots]'\n"


def test_interrupt_exits_130(fit_file, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("scaling.intervals.predict", interrupt)
    assert main(["predict", str(fit_file), "--N", "1e6", "--D", "1e7"]) == 130


def test_closed_pipe_leaves_no_traceback():
    query = ["predict", "chinchilla/besiroglu2024", "--N", "1e9", "--D", "1e10"]
    command = [sys.executable, "-m", "scaling", *query]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 0
    process.stderr.close()


@pytest.mark.parametrize("command", ["fit", "predict", "plot"])
def test_help_shows_an_example(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0 and f"scaling {command} " in capsys.readouterr().out.split("example")[1]
