"""Branches of a trunk, trained: each equals the uninterrupted run of its schedule bit for bit, at every end."""

import numpy as np
import pytest
from tiny_run import RUN

from jaxlm.config import ConfigError
from jaxlm.schedules import Constant
from jaxlm.sweep import Trunk
from jaxlm.train import CheckpointConfig, EvalConfig, train
from jaxlm.train import checkpoint as checkpoints
from scaling import record

EACH = RUN.tokens_per_update
ENDS = (8, 14, 24)
BASE = RUN.replace(name="trunk", schedule=Constant(peak_lr=1e-2, warmup=3), checkpoint=CheckpointConfig(),
                   evaluation=EvalConfig(sequences=8))
TRUNK = (Trunk(BASE).hold_at(14 * EACH).decay_at(20 * EACH, fraction=0.3)
         .cycle([end * EACH for end in ENDS], fraction=0.5, rewarmup=1))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(root, records by name): the runs of TRUNK and, beside each branch, the uninterrupted run."""
    root, data_root = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("data")
    trunk, *branches = TRUNK.runs
    whole = [run.replace(name=f"{run.name}-whole", parent=None) for run in branches]
    runs = {run.name: run for run in (trunk, *branches, *whole)}
    for run in runs.values():
        assert train(run, root, data_root).status == "finished"
    return root, {name: record.read(root / run.folder) for name, run in runs.items()}, data_root


@pytest.mark.parametrize("name", ["trunk-t20", "trunk-cycles-t24"])
def test_a_branch_equals_the_uninterrupted_run(trained, name):
    branch, whole = trained[1][name], trained[1][f"{name}-whole"]
    first = branch.identity["parent"]["step"]
    assert branch.result == whole.result  # the digest of the parameters among it
    np.testing.assert_array_equal(branch.schedule, whole.schedule)
    for field in record.schema.METRICS:
        if field.kind == "result":
            np.testing.assert_array_equal(branch.metrics[field.name], whole.metrics[field.name][first:])


def test_cycles_are_evaluated_and_kept_at_every_end(trained):
    root, records, _ = trained
    run = TRUNK.runs[-1]
    seen = records[run.name].metrics
    np.testing.assert_array_equal(seen["step"][np.isfinite(seen["heldout_loss"])] + 1, ENDS)
    assert checkpoints.steps(checkpoints.checkpoint_folder(root, run.folder)) == list(ENDS)


def test_the_trunk_is_evaluated_where_branches_leave_and_where_it_is_a_result(trained):
    seen = trained[1]["trunk"].metrics
    np.testing.assert_array_equal(seen["step"][np.isfinite(seen["heldout_loss"])] + 1, [4, 14])
    assert seen["step"][-1] + 1 == 14


def test_a_branch_with_another_past_is_refused_at_its_start(trained):
    root, _, data_root = trained
    branch = TRUNK.runs[1].replace(schedule=Constant(peak_lr=1e-2, warmup=2))
    with pytest.raises(ConfigError, match="its rates until then; at update 0 the rate is 0.005, the parent's 0.0033"):
        train(branch, root, data_root)
    assert not (root / branch.folder).exists()
