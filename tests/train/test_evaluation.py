"""Held-out loss is taken at the parameters that the optimizer names, not always at those it trains."""

import pytest
from tiny_run import RUN

from jaxlm import data
from jaxlm.optim import ScheduleFree
from jaxlm.train import CheckpointConfig, EvalConfig, train
from jaxlm.train.batches import heldout_batches
from jaxlm.train.start import step_config
from jaxlm.train.step import make_step


@pytest.mark.slow
def test_a_schedule_free_run_is_evaluated_at_its_average(tmp_path, monkeypatch):
    config = RUN.replace(updates=8, optimizer=ScheduleFree(b1=0.5), evaluation=EvalConfig(every=4, sequences=8),
                         checkpoint=CheckpointConfig())
    seen, rule = [], ScheduleFree.eval_params

    def eval_params(self, opt_state, params):
        seen.append((params, rule(self, opt_state, params)))
        return seen[-1][1]

    monkeypatch.setattr(ScheduleFree, "eval_params", eval_params)
    outcome = train(config, tmp_path, tmp_path)
    step = make_step(step_config(config))
    batches = heldout_batches(config, data.open_dataset(config.data, tmp_path), step.mesh)
    trained, averaged = (float(step.heldout_loss(params, batches)) for params in seen[-1])
    assert len(seen) == 2 and outcome.heldout_loss == averaged != trained
