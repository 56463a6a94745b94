"""The study of learning rate and batch: how its grids grow, what its laws predict, and what its report says."""

import importlib
import json
import pathlib
import sys

import numpy as np
import pytest

from jaxlm.config import ConfigError
from scaling.errors import InputError
from scaling.laws import basin

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "experiments"))
study = importlib.import_module("lr_batch")
grids = importlib.import_module("lr_batch_grid")
laws = importlib.import_module("lr_batch_laws")
plots = importlib.import_module("lr_batch_plot")
report = importlib.import_module("lr_batch_report")
seen = importlib.import_module("lr_batch_seen")
Point = grids.Point

# lr = e^a0 N^-0.5 D^0.25, batch in tokens = e^b0 D^0.5
TRUTH = {"lr_N": -0.5, "lr_D": 0.25, "batch_N": 0.0, "batch_D": 0.5}
BENDS = 0.03, -0.01, 0.02


def optimum(cell):
    rate = 0.016 * (cell.N / 8288) ** -0.5 * (cell.D / 2**17) ** 0.25
    return rate, 6 * (cell.D / 2**17) ** 0.5


def loss_at(cell, point, *, at=None):
    rate, batch = at or optimum(cell)
    u, v = np.log(point.rate / rate), np.log(point.batch / batch)
    return 2.0 * np.exp(BENDS[0] * u**2 + 2 * BENDS[1] * u * v + BENDS[2] * v**2)


def settled(cell, loss, steps=20):
    """Trains the cell on a landscape until it asks for nothing more; returns its losses and the steps that it took."""
    found = {}
    for step in range(steps):
        runs = cell.wanted(found)
        if not runs:
            return found, step
        for run in runs:
            found.setdefault(Point(run.schedule.peak_lr, run.batch), {})[run.seed] = loss(run)
    raise AssertionError("the cell never settled")


def landscape(cell, **options):
    return lambda run: loss_at(cell, Point(run.schedule.peak_lr, run.batch), **options) * (1 + 0.003 * run.seed)


@pytest.fixture(scope="module")
def small():
    return study.cell(16, 2**17, first=Point(1.6e-2, 8))


@pytest.mark.parametrize("at", [(0.016, 8.0), (0.1, 3.0), (0.002, 30.0)])
def test_a_cell_settles_with_its_best_inside(small, at):
    found, steps = settled(small, landscape(small, at=at))
    best = small.best(found)
    assert small.position(found) == "inside" and steps <= study.SHORT.steps
    assert abs(np.log2(best.rate / at[0])) <= 1 and abs(np.log2(best.batch / at[1])) <= 1
    assert set(small.around(best)) <= set(found)
    for point in (*small.around(best, corners=False), *small.named.values()):
        assert set(found[point]) == {0, 1, 2}


def test_the_smallest_batch_is_a_floor_and_said_to_be_one(small):
    found, _ = settled(small, landscape(small, at=(0.016, 0.2)))
    assert small.best(found).batch == 1 and small.position(found) == "at the floor, batch 1"
    assert min(point.batch for point in found) == 1


def test_the_largest_batch_is_bounded_by_the_number_of_updates(small):
    found, _ = settled(small, landscape(small, at=(0.016, 1e4)))
    assert small.position(found) == "at the largest batch allowed"
    assert max(run.batch for run in small.wanted({})) <= small.top == 2**17 // (16 * 128)


def test_rates_that_diverge_are_no_best(small):
    found, _ = settled(small, lambda run: float("inf") if run.schedule.peak_lr > 0.01 else landscape(small)(run))
    assert small.best(found).rate <= 0.01 and small.position(found) == "inside"


def test_a_best_that_moves_with_the_seeds_gets_its_own_neighbours(small):
    def loss(run):  # the first seed sees another optimum than the others
        shift = 1.0 if run.seed == 0 else 4.0
        return loss_at(small, Point(run.schedule.peak_lr, run.batch), at=(0.016 * shift, 8.0))

    found, _ = settled(small, loss)
    assert small.best(found).rate > 0.016 and small.position(found) == "inside"


def test_grids_whose_first_batch_is_odd(small):
    odd = study.cell(16, 2**17, first=Point(0.0123, 5))
    assert odd.batches[:4] == (1, 2, 5, 10) and 0.0246 in odd.rates
    with pytest.raises(ConfigError, match="first.batch = 0: must lie in 1..top = 64"):
        study.cell(16, 2**17, first=Point(0.01, 0))


def test_what_a_seed_does_everywhere_is_taken_out():
    full = {Point(1.0, 1): {0: 2.0, 1: 2.2}, Point(2.0, 1): {0: 3.0, 1: 3.3}}
    losses = grids.adjusted(full | {Point(4.0, 1): {0: 4.0}}, (0, 1))
    np.testing.assert_allclose([losses[Point(rate, 1)] for rate in (1.0, 2.0, 4.0)], np.array([2, 3, 4]) * 1.1**0.5)
    assert grids.noise([(full, (0, 1))]) == pytest.approx(0.0, abs=1e-12)
    assert np.isnan(grids.noise([({Point(1.0, 1): {0: 2.0}}, (0, 1))]))
    assert grids.adjusted({Point(1.0, 1): {0: float("inf"), 1: 2.0}}, (0, 1)) == {Point(1.0, 1): float("inf")}


def test_the_noise_of_seeds_is_recovered():
    rng = np.random.default_rng(0)
    losses = 2.0 * np.exp(0.01 * rng.standard_normal((400, 3)) + [0.0, 0.1, -0.1])
    found = {Point(float(i + 1), 1): dict(enumerate(row)) for i, row in enumerate(losses)}
    assert grids.noise([(found, (0, 1, 2))]) == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("batch", [1, 3, 8, 64])
def test_equal_tokens_at_every_batch(batch):
    run = study.run(16, 2**17, Point(0.01, batch), 1)
    assert abs(run.updates * run.tokens_per_update - 2**17) <= run.tokens_per_update / 2
    assert run.schedule.warmup == max(1, run.updates // 16) and run.schedule.decay == run.updates // 5
    assert (run.seed, run.data.seed) == (1, 1)


def test_the_rules_are_asked_in_their_own_counts(small):
    assert small.N == 2 * (4 * 16**2 + 3 * 16 * 32) + 5 * 16  # matrices of two layers, and norms
    point = small.named["Step Law"]
    assert point.rate == pytest.approx(1.79 * small.N**-0.713 * (2**17) ** 0.307, rel=5e-3)
    assert point.batch == round(0.58 * (2**17) ** 0.571 / 128)
    assert "Kaplan" not in small.named and "Zhang, ceiling" not in small.named
    rows = {row.rule: row for row in laws.rules(N=small.N, D=small.D, flops=small.flops)}
    assert rows["Kaplan"].batch_tokens is None and "times below" in rows["Step Law"].in_range


@pytest.fixture(scope="module")
def trained():
    """The cells to fit on a landscape that obeys the law, with the losses of each."""
    cells = study.fitted(study.SHORT)
    return cells, [settled(one, landscape(one))[0] for one in cells]


@pytest.fixture
def recorded(trained, monkeypatch):
    """The same as if on record; other cells are added by `recorded[name] = losses`."""
    found = {one.name: losses for one, losses in zip(*trained)}
    monkeypatch.setattr(grids.Cell, "read", lambda self, root: found.get(self.name, {}))
    return found


def test_the_own_law_is_recovered_and_predicts_the_larger_cell(trained):
    cells, found = trained
    fits, missing = laws.fits(cells, found)
    assert not missing and set(fits) == {"step_law_basin", "step_law", "batch_rate_cells"}
    for name, value in TRUTH.items():
        assert fits["step_law_basin"].params[name] == pytest.approx(value, abs=1e-6), name
    target = study.cell(48, 2**19)
    row = laws.rules(N=target.N, D=target.D, flops=target.flops, fits=[fits["step_law_basin"]])[0]
    assert (row.lr, row.batch_tokens / 128) == pytest.approx(optimum(target), rel=1e-6)
    assert row.lr_interval[0] <= row.lr <= row.lr_interval[1] and "extrapolates" in row.in_range
    # At a given batch the best rate moves along the tilt of the basin.
    assert fits["batch_rate_cells"].params["lr_B"] == pytest.approx(-BENDS[1] / BENDS[0], abs=1e-6)


def test_noisier_runs_widen_the_basin(trained):
    cells, found = trained
    assert laws.scale(cells, found) == basin.SCALE
    rng = np.random.default_rng(0)
    noisy = [{point: {seed: loss * np.exp(0.01 * rng.standard_normal()) for seed, loss in by_seed.items()}
              for point, by_seed in losses.items()} for losses in found]
    assert laws.scale(cells, noisy) == pytest.approx(0.02, rel=0.3)


def test_a_prediction_is_never_rewritten(trained, recorded, tmp_path, capsys):
    cells, target = trained[0], study.cell(48, 2**19)
    with pytest.raises(InputError, match="no such file; the larger cell is trained after it is written"):
        study.larger(tmp_path, form=study.SHORT)
    laws.predict(tmp_path, cells=cells, target=target)
    before = (tmp_path / laws.PREDICTION).read_text()
    recorded[cells[0].name] = {point: dict.fromkeys(by_seed, 2.0 + point.rate)
                               for point, by_seed in recorded[cells[0].name].items()}
    assert study.grown(tmp_path, cells=cells) == ()  # what it rests on grows no more
    laws.predict(tmp_path, cells=cells, target=target)
    assert (tmp_path / laws.PREDICTION).read_text() == before
    assert json.loads(before)["counting"] == "non_embedding" and "step_law_basin (fit)" in capsys.readouterr().out
    names = {run.name for run in study.larger(tmp_path, form=study.SHORT)}
    rate, batch = optimum(target)
    assert f"w48-d524288-lr{rate:.3g}-b{round(batch)}-s0" in names
    assert len(names) == len({*study.predicted(tmp_path, form=study.SHORT).named.values()}) + 8


def test_the_report_follows_the_figures(trained, recorded, tmp_path, capsys):
    cells, target = trained[0], study.cell(48, 2**19)
    laws.predict(tmp_path, cells=cells, target=target)
    larger = study.predicted(tmp_path, form=study.SHORT)
    recorded[larger.name] = settled(larger, landscape(larger, at=(optimum(larger)[0] / 4, optimum(larger)[1])))[0]
    report.draw(tmp_path, cells=cells, larger=lambda root: study.predicted(root, form=study.SHORT))
    text = (tmp_path / "report.md").read_text()
    assert "Best strictly inside in rate and batch in 5 of 5 cells." in text
    assert "told apart from it by 3 seeds" in text and "the best rate lies outside its 90% interval" in text
    assert "excludes" in text and "Step Law: N " in text
    assert {"table.csv", "points.csv", "grids.png"} <= {path.name for path in tmp_path.iterdir()}
    assert capsys.readouterr().out.count("step_law_basin (fit)") > 1


def test_regrets_are_paired_and_read_off_the_grid_where_a_rule_gives_one_value(small):
    found, _ = settled(small, landscape(small))
    one = seen.Seen(cell=small, found=found, best=small.best(found), losses=grids.adjusted(found, small.seeds),
                      rules=laws.rules(N=small.N, D=small.D, flops=small.flops))
    rows = {row.rule: row for row in one.rules}
    cost, at = seen.regret(one, rows["Step Law"]), small.named["Step Law"]
    assert cost.mean == pytest.approx(loss_at(small, at) / loss_at(small, one.best) - 1) and cost.half < 1e-12
    kaplan = seen.regret(one, rows["Kaplan"])  # a rate below the grid, 0.0019
    assert kaplan.mean > 0 and kaplan.how == "grid's edge" and np.isnan(kaplan.half)
    assert seen.measured(one, one.best).how == "the best itself"


def test_the_best_rate_of_a_batch_is_the_vertex(small):
    found, _ = settled(small, landscape(small))
    one = seen.Seen(cell=small, found=found, best=small.best(found), losses={
        point: 2.0 + np.log(point.rate / 0.02) ** 2 for point in found}, rules=[])
    assert plots.best_rate(one, 8) == pytest.approx(0.02)
    assert plots.best_rate(one, 63) is None
