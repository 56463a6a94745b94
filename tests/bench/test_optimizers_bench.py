"""The benchmark of optimizers: its rows can be made, its floor is what the rules need, its verdict reads the figures."""

import importlib
import importlib.util
import pathlib
import sys

import jax
import jax.numpy as jnp
import pytest

from jaxlm.params import infer_info

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "experiments" / "bench"
sys.path.append(str(FOLDER))
rows = importlib.import_module("optimizer_rows")
# By its path, since the study beside it has the same name.
spec = importlib.util.spec_from_file_location("benchmark_of_optimizers", FOLDER / "optimizers.py")
bench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)
SHAPES = {"square": (32, 32), "wide": (32, 128)}


def flops(products):
    return sum(2 * times * p * q * r for times, (p, q, r) in products)


@pytest.mark.slow
def test_figures_of_a_row():
    figures = bench.measure(rows.contenders(32)["galore"], SHAPES, 2)
    assert all(figures[name] > 0 for name in ("step", "adamw", "products", "over", "refresh"))


@pytest.mark.parametrize("name", rows.contenders(32))
def test_every_row_makes_an_optimizer_and_states_its_products(name):
    row = rows.contenders(32)[name]
    params = {key: jax.ShapeDtypeStruct(shape, jnp.float32) for key, shape in SHAPES.items()}
    tx = row.make(infer_info(params, lambda path, x: "matrix"))
    updates, _ = jax.eval_shape(lambda p: tx.update(p, tx.init(p), p), params)
    assert jax.tree.map(lambda x: x.shape, updates) == SHAPES
    assert row.family in ("vector", *bench.TARGETS) and flops(row.products(32, 128)) >= 0


def test_products_do_not_depend_on_which_side_is_longer():
    for row in rows.contenders(32).values():
        if row.products is not rows.cosmos:  # its low rank is always on the input side
            assert flops(row.products(32, 128)) == flops(row.products(128, 32))


def test_muon_is_charged_the_cheapest_form():
    square, wide = flops(rows.newton_schulz(64, 64)), flops(rows.newton_schulz(64, 256))
    assert square == 5 * 3 * 2 * 64**3
    assert wide == (2 * 4 + 14 + 2 * 4) * 2 * 64**3 < 5 * (4 + 1 + 4) * 2 * 64**3


def test_the_verdict_names_what_misses():
    made = rows.contenders(32)
    figures = {"muon": {"over": 1.4, "step": 1.0, "refresh": 0.0}, "galore": {"over": 1.2, "step": 1.0, "refresh": 3.5}}
    assert bench.verdict(figures, made).splitlines() == [
        "matrix: target 1.3; missed by muon 1.40", "low rank: target 1.5; met by all",
        "refresh: target 3 steps; missed by galore 3.5"]
