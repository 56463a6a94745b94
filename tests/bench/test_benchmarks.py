"""The benchmark scripts measure and report; nothing here depends on how long anything takes."""

import functools
import importlib.util
import json
import math
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "experiments" / "bench"
TINY = {"layers": 2, "width": 16, "heads": 2, "feed_forward": 24, "vocabulary": 32, "sequence": 8, "batch": 2}


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


sys.path.append(str(FOLDER))  # for what the scripts import of each other
sides, machine = importlib.import_module("sides"), importlib.import_module("machine")
standard_step, imports = load("standard_step"), load("imports")


@pytest.fixture(scope="module")
def figures():
    contestants = [standard_step.Contestant(side=side) for side in ("plain", "jaxlm", "nanodo")]
    return standard_step.measure(TINY | {"layers": 1}, contestants, rounds=2)


@pytest.mark.slow
def test_every_contestant_has_a_turn_in_every_round(figures):
    assert {name: len(turns["seconds"]) for name, turns in figures["turns"].items()} == {"plain": 2, "jaxlm": 2}


@pytest.mark.slow
def test_a_peer_that_is_not_there_is_left_out_with_its_error(figures):
    assert figures["left_out"] == {"nanodo": "ModuleNotFoundError: No module named 'nanodo'"}


@pytest.mark.slow
def test_figures_are_positive_and_survive_their_file(figures, tmp_path):
    machine.write(tmp_path / "made" / "step.json", figures)
    written = json.loads((tmp_path / "made" / "step.json").read_text())
    assert written["sizes"] == figures["sizes"] and written["left_out"] == figures["left_out"]
    times = [step[kind] for step in written["first_step"].values() for kind in ("cold", "cached")]
    assert all(value > 0 for part in times for value in part.values())
    seconds = [turn for turns in written["turns"].values() for turn in turns["seconds"]]
    np.testing.assert_allclose(seconds, [turn for turns in figures["turns"].values() for turn in turns["seconds"]],
                               rtol=1e-4)


@pytest.mark.slow
def test_the_baseline_is_as_fast_as_itself(figures):
    assert figures["speed"]["plain"]["plain"]["seconds"]["paired"] == 1.0


@pytest.mark.slow
def test_peak_memory_holds_more_than_an_import_of_jax(figures):
    assert set(figures["peak_rss_bytes"]) == {"plain", "jaxlm"}
    # jaxlib alone maps more than 50 MB; a wrong unit of ru_maxrss would be off by 1024.
    assert all(50e6 < value < 50e9 for value in figures["peak_rss_bytes"].values())


@pytest.mark.slow
def test_both_sides_start_near_the_uniform_distribution(figures):
    losses = {side: first["loss"] for side, first in figures["first_step"].items()}
    # jaxlm's logits have unit variance, half a nat on average; 16 tokens scatter around it.
    assert all(abs(loss - math.log(TINY["vocabulary"])) < 1 for loss in losses.values()), losses


@pytest.mark.slow
def test_the_table_names_every_contestant_and_the_verdict(figures):
    text = standard_step.table(figures)
    assert all(f"\n{name} " in text for name in ("plain", "jaxlm"))
    assert "target: jaxlm at least 1.70 times as fast as plain: " in text and "left out: nanodo: Module" in text


def test_an_own_side_that_fails_ends_the_benchmark():
    with pytest.raises(standard_step.turns.Failed, match="heads = 3: must divide width = 16"):
        standard_step.measure(TINY | {"heads": 3}, [standard_step.Contestant(side="plain")], rounds=1)


def test_both_sides_compute_the_same_function_of_the_same_parameters():
    from jaxlm.train.step import loss_fn

    plain_step = load("plain_step")
    rng = np.random.default_rng(0)
    # Arrays from numpy, for the baseline's own start is drawn, and compiled, array by array.
    sizes = {name: size for name, size in TINY.items() if name not in ("heads", "batch")}
    shapes = jax.eval_shape(functools.partial(plain_step.init, **sizes), jax.random.key(0))
    plain = jax.tree.map(lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32), shapes)
    batch_BxS = rng.integers(0, TINY["vocabulary"], (TINY["batch"], TINY["sequence"] + 1), dtype=np.int32)

    def stacked(name):
        return np.stack([block[name] for block in plain["blocks"]])

    params = {
        "embedding": {"tokens": plain["embedding"], "positions": plain["positions"]},
        "blocks": {
            "attention_norm": {"scale": stacked("attention_norm")},
            "attention": {"query": stacked("query"), "key": stacked("key"), "value": stacked("value"),
                          "output": stacked("out")},
            "feed_forward_norm": {"scale": stacked("feed_norm")},
            "feed_forward": {"up": stacked("up"), "down": stacked("down")},
        },
        "final_norm": {"scale": plain["final_norm"]},
    }
    config, pair = sides.step_config(TINY), (batch_BxS[:, :-1], batch_BxS[:, 1:])
    own = jax.jit(lambda params: loss_fn(params, batch_BxS, None, config)[1])(params)
    expected, whole = (jax.jit(functools.partial(plain_step.loss_fn, heads=TINY["heads"], flat=flat))(plain, pair)
                       for flat in (True, False))
    np.testing.assert_allclose(whole, expected, rtol=1e-6)
    # The epsilons of the norms are 1e-6 and 1e-5. What they norm first, the embeddings, has a variance of
    # 2 * .3^2 = .18, so that activations differ by 1e-5 / .18 / 2 = 3e-5 of themselves and logits, of std 1.2
    # times a few gains below 1, by less than 1e-4.
    np.testing.assert_allclose(own, expected, atol=1e-4)


def test_refuses_no_rounds_in_one_line():
    for name in ("standard_step", "imports"):
        done = subprocess.run([sys.executable, str(FOLDER / f"{name}.py"), "--rounds", "0"], capture_output=True,
                              text=True)
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].endswith("error: --rounds = 0: must be at least 1")


def test_imports_are_measured_in_processes_of_their_own():
    seconds = imports.measure(("json", "csv"), rounds=2)
    assert set(seconds) == {"json", "csv"} and all(value > 0 for value in seconds.values())


def test_an_import_that_fails_is_an_error():
    with pytest.raises(subprocess.CalledProcessError):
        imports.import_seconds("no_such_module_of_any_kind")


def test_the_table_of_imports_compares_with_jax():
    text = imports.table({"jax": 2.0, "jaxlm.train": 3.0, "scaling": 5.0})
    rows = [line.split() for line in text.splitlines()[1:]]
    assert rows == [["jax", "2.00", "1.00"],
                    ["jaxlm.train", "3.00", "1.50", "target", "under", "2.5:", "met"],
                    ["scaling", "5.00", "2.50", "target", "under", "2.2:", "missed"]]
