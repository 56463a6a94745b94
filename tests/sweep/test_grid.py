"""Rate grids: how they grow, what they score, and when they refuse to answer."""

import importlib

import pytest

from jaxlm.config import ConfigError
from jaxlm.data import DataConfig, Synthetic
from jaxlm.model import ModelConfig
from jaxlm.schedules import Constant
from jaxlm.sweep import RateGrid, Stage, Study
from jaxlm.train import RunConfig
from scaling.errors import InputError

grid_module = importlib.import_module("jaxlm.sweep.grid")


def run(name, rate, seed):
    return RunConfig(name=f"{name}-{rate:g}-{seed}", seed=seed, updates=4, batch=2, schedule=Constant(peak_lr=rate),
                     model=ModelConfig(vocabulary=16, sequence=8, layers=1, width=8, heads=1, ff=8),
                     data=DataConfig(sources=(Synthetic(vocabulary=16),), sequence=8))


class Recorded:
    """A record as a grid reads it."""

    def __init__(self, loss, state="finished"):
        self.heldout_loss, self.state = loss, state


@pytest.fixture
def grid(monkeypatch):
    """A grid of two arms; `grid.losses` are the records, by (arm, rate, seed)."""
    losses = {}

    def recorded(self, root, name, rate, seed):
        loss = losses.get((name, rate, seed))
        return () if loss is None else (Recorded(loss, "diverged" if loss == float("inf") else "finished"),)

    monkeypatch.setattr(RateGrid, "recorded", recorded)
    monkeypatch.setattr(RateGrid, "losses", losses, raising=False)
    return RateGrid(arms={name: lambda rate, seed, name=name: (run(name, rate, seed),) for name in "ab"},
                    middle={"a": 2.0, "b": 1.0}, extensions=2)


def fill(grid, a, b=None):
    for k, loss in enumerate(b or [2.0, 1.0, 2.0]):
        grid.losses["b", 0.5 * 2**k, 0] = loss
    for rate, loss in a.items():
        grid.losses["a", rate, 0] = loss


def names(runs):
    return [run.name for run in runs]


def test_the_first_stage_has_three_rates_an_arm(grid):
    stages = grid.stages()
    assert names(stages[0].runs) == ["a-1-0", "a-2-0", "a-4-0", "b-0.5-0", "b-1-0", "b-2-0"]
    assert len(stages) == 4 and stages[-1].plan is not None


@pytest.mark.parametrize(("losses", "pushed"), [
    ({1.0: 1.0, 2.0: 2.0, 4.0: 3.0}, ["a-0.5-0"]), ({1.0: 3.0, 2.0: 2.0, 4.0: 1.0}, ["a-8-0"]),
    ({1.0: 3.0, 2.0: 2.0, 4.0: 1.0, 8.0: 0.5}, ["a-16-0"]), ({1.0: 3.0, 2.0: 1.0, 4.0: float("inf")}, [])])
def test_a_grid_grows_where_its_best_rate_is_at_an_edge(grid, losses, pushed):
    fill(grid, losses)
    assert names(grid.pushed(None)) == pushed


def test_the_other_seeds_join_at_the_best_rate(grid):
    fill(grid, {1.0: 3.0, 2.0: 1.0, 4.0: 2.0})
    assert names(grid.replicates(None)) == ["a-2-1", "a-2-2", "b-1-1", "b-1-2"]


def test_a_best_rate_at_the_edge_is_refused(grid):
    fill(grid, {1.0: 3.0, 2.0: 2.0, 4.0: 1.0})
    with pytest.raises(InputError, match="a: the best rate 4 is at the edge of its grid, 1, 2, 4"):
        grid.replicates(None)
    with pytest.raises(InputError, match="b: no run of its grid is on record"):
        grid.losses.clear()
        grid.best(None, "b")


def test_only_seeds_that_finished_count(grid):
    grid.losses.update({("a", 2.0, 0): 1.0, ("a", 2.0, 1): float("inf")})
    assert list(grid.finished(None, "a", 2.0)) == [0]


@pytest.mark.parametrize(("fields", "said"), [
    ({"arms": {}}, "arms = "), ({"factor": 1.0}, "factor = 1.0: must be above 1"), ({"seeds": (0, 0)}, "seeds = "),
    ({"middle": {"b": 1.0}}, "middle = "), ({"extensions": -1}, "extensions = -1")])
def test_bad_grids(fields, said):
    with pytest.raises(ConfigError, match=said):
        RateGrid(**{"arms": {"a": lambda rate, seed: ()}, "middle": 1.0} | fields)


def test_a_planned_run_that_the_study_has_is_not_added_twice(tmp_path):
    first, second = run("a", 1.0, 0), run("a", 2.0, 0)
    study = Study(name="s", question="?", stages=(
        Stage(title="one", runs=(first,)), Stage(title="two", plan=lambda root: (first, second, second))))
    assert study.planned(1, tmp_path).stages[1].runs == (second,)


def test_a_trunk_that_diverged_scores_its_rate_as_the_worst(tmp_path, monkeypatch):
    trunk, branch = run("trunk", 2.0, 0), run("branch", 2.0, 0)
    grid = RateGrid(arms={"a": lambda rate, seed: (trunk, branch)}, middle=2.0)
    state = {trunk.folder: "running"}
    monkeypatch.setattr(grid_module.record, "read", lambda folder: Recorded(None, state[folder.name]))
    (tmp_path / trunk.folder).mkdir()
    (tmp_path / trunk.folder / "run.json").touch()
    assert grid.recorded(tmp_path, "a", 2.0, 0) == ()  # the branch is to come
    state[trunk.folder] = "diverged"
    assert grid.scores(tmp_path, "a")[2.0] == float("inf") and grid.finished(tmp_path, "a", 2.0) == {}
