"""The study of optimizers: its runs, and what its report says."""

import importlib
import importlib.util
import pathlib
import sys

import numpy as np
import pytest

from scaling.errors import InputError

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "experiments"
sys.path.append(str(FOLDER))


@pytest.fixture(scope="module")
def study():
    # The benchmark of the same name may have been imported in this process.
    spec = importlib.util.spec_from_file_location("study_of_optimizers", FOLDER / "optimizers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def report():
    return importlib.import_module("optimizers_report")


def test_every_optimizer_starts_with_three_rates(study):
    kinds = [run.optimizer.kind for run in study.study().runs]
    assert {kind: kinds.count(kind) for kind in kinds} == dict.fromkeys(study.MIDDLE, 3)
    assert all(run.optimizer.weight_decay == 0 for run in study.study(full=True).runs)


def row(report, kind, finals, *, half=None, seeds=(0, 1, 2), seconds=0.01):
    curves = np.stack([np.array([3.0, final + 0.5, half or final + 0.2, final]) for final in finals])
    return report.Row(kind=kind, rate=1.0, grid={1.0: 2.0}, seeds=seeds, steps=np.arange(1, 5) * 10,
                      tokens=np.arange(1, 5) * 100, curves=curves, step_seconds=seconds, state_bytes=2048)


def test_lower_null_and_higher(report):
    base = row(report, "adamw", [2.0, 2.1, 2.2])
    verdicts = {}
    for kind, finals in {"a": [1.90, 2.01, 2.10], "b": [2.2, 2.0, 2.1], "c": [2.1, 2.21, 2.3]}.items():
        verdicts[kind] = report.line(row(report, kind, finals), base)["verdict"]
    assert verdicts == {"a": "lower", "b": "null", "c": "higher"}


def test_differences_are_paired_by_the_seeds_that_both_have(report):
    base = row(report, "adamw", [2.0, 2.1, 2.2])
    np.testing.assert_allclose(report.paired(row(report, "a", [2.2, 2.5], seeds=(1, 2)), base), [0.1, 0.3])
    with pytest.raises(InputError, match="a: fewer than two seeds finished beside the baseline"):
        report.paired(row(report, "a", [2.2, 2.5], seeds=(2, 3)), base)


def test_findings_name_nulls_reversals_and_what_time_takes_back(report):
    base = row(report, "adamw", [2.0, 2.1, 2.2])
    slow = row(report, "soap", [1.5, 1.6, 1.7], seconds=0.05)
    turned = row(report, "lion", [2.3, 2.4, 2.5], half=1.0)
    notes = " ".join(report.findings([base, slow, turned, row(report, "muon", [2.2, 2.0, 2.1])], base))
    assert "Not told apart from adamw by 3 seeds: muon" in notes
    assert "turns between half the tokens and the end: lion (" in notes
    assert "not per second on a core: soap" in notes


def test_tokens_to_the_baselines_loss(report):
    base = row(report, "adamw", [2.0, 2.0, 2.0])
    assert report.tokens_to(row(report, "a", [1.8, 1.8, 1.8]), base) == "75%"
    assert report.tokens_to(row(report, "b", [2.1, 2.1, 2.1]), base) == "not reached"
