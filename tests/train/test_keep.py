"""Keep-policies: known answers, the same verdict from Orbax's manager in training, and combinations that cannot work."""

import jax.numpy as jnp
import numpy as np
import pytest
from tiny_run import RUN

from jaxlm.config import ConfigError
from jaxlm.schedules import WSD
from jaxlm.train import CheckpointConfig, EvalConfig, checkpoint, keep
from scaling import record

# The lowest loss stands at 30, then 60, 20; 50 was not evaluated.
LOSSES = {10: 3.0, 20: 2.5, 30: 2.0, 40: 2.7, 50: None, 60: 2.2, 70: 2.6}


@pytest.mark.parametrize(("policy", "wanted"), [
    (dict(latest=1), {70: ["latest 1"]}),
    (dict(latest=2), {60: ["latest 2"], 70: ["latest 2"]}),
    (dict(latest=9), {step: ["latest 9"] for step in LOSSES}),
    (dict(latest=1, keep_every=20), {20: ["every 20"], 40: ["every 20"], 60: ["every 20"], 70: ["latest 1"]}),
    (dict(latest=1, best=2), {30: ["best 2"], 60: ["best 2"], 70: ["latest 1"]}),
    (dict(latest=1, keep=(10, 30, 99)), {10: ["pinned"], 30: ["pinned"], 70: ["latest 1"]}),
    (dict(latest=1, keep_every=30, best=1, keep=(30,)),
     {30: ["every 30", "best 1", "pinned"], 60: ["every 30"], 70: ["latest 1"]}),
])
def test_known_answers(policy, wanted):
    found = keep.kept(CheckpointConfig(**policy), LOSSES)
    assert list(found) == sorted(LOSSES)
    assert {step: names for step, names in found.items() if names} == wanted


def test_nothing_saved_keeps_nothing():
    assert keep.kept(CheckpointConfig(best=1), {}) == {}


def test_training_keeps_what_the_dry_list_says(tmp_path):
    """Orbax's manager, asked after every save and reopened half-way, ends with what `kept` says at each save."""
    from jaxlm.train import TrainState

    config = CheckpointConfig(latest=1, keep_every=40, best=2, keep=(10,))
    expected: dict[int, float | None] = {}
    folder = checkpoint.checkpoint_folder(tmp_path, "run")
    for part in (list(LOSSES)[:4], list(LOSSES)[4:]):
        with checkpoint.open_checkpoints(folder, config) as manager:
            for step in part:
                state = TrainState(params={"w": np.ones(2, np.float32)}, opt_state={}, step=jnp.int32(step))
                checkpoint.save(manager, step, state, heldout_loss=LOSSES[step])
                checkpoint.finish(manager)
                expected[step] = LOSSES[step]
                expected = {s: expected[s] for s, names in keep.kept(config, expected).items() if names}
    assert checkpoint.steps(folder) == sorted(expected) == [10, 30, 40, 60, 70]


@pytest.mark.slow
def test_a_run_keeps_its_best_checkpoint_across_a_stop(tmp_path):
    """The loop passes on each checkpoint's held-out loss, and a resumed run still knows those of before."""
    from jaxlm import data
    from jaxlm.train import train

    config = RUN.replace(
        evaluation=EvalConfig(every=2, sequences=8), checkpoint=CheckpointConfig(every=4, latest=1, best=1),
        # The rate grows so high that the loss rises towards the end.
        schedule=WSD(peak_lr=0.5, warmup=24), clip_norm=None, chunk=2)
    data.prepare_all(config.data, tmp_path / "data")
    train(config, tmp_path, tmp_path / "data", stop_at=14)
    train(config, tmp_path, tmp_path / "data")
    metrics = record.read(tmp_path / config.folder).metrics
    losses = {step: metrics["heldout_loss"][step - 1] for step in range(4, 25, 4)}
    best = min(losses, key=losses.get)
    assert best != 24, f"the test needs a best checkpoint that is not the last: {losses}"
    assert checkpoint.steps(checkpoint.checkpoint_folder(tmp_path, config.folder)) == [best, 24]


@pytest.mark.parametrize(("changes", "message"), [
    (dict(checkpoint=CheckpointConfig(every=10, best=1)), "checkpoint.best = 1"),
    (dict(checkpoint=CheckpointConfig(best=1), evaluation=EvalConfig(every=2, sequences=8)), "checkpoint.best = 1"),
    (dict(checkpoint=CheckpointConfig(every=9, best=1), evaluation=EvalConfig(every=2, sequences=8)),
     "evaluation.every = 2 must divide checkpoint.every = 9"),
    (dict(checkpoint=CheckpointConfig(every=4, keep_every=6)), "must be a multiple of checkpoint.every = 4"),
    (dict(checkpoint=CheckpointConfig(keep_every=6)), "must be a multiple of checkpoint.every = 0"),
])
def test_a_policy_that_cannot_work_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        RUN.replace(**changes)


@pytest.mark.parametrize("field", ["keep_every", "best"])
def test_negative_counts_are_refused(field):
    with pytest.raises(ConfigError, match=f"checkpoint.{field} = -1: must not be negative"):
        CheckpointConfig(**{field: -1})


def test_policies_that_work_are_taken():
    RUN.replace(checkpoint=CheckpointConfig(every=4, keep_every=8, best=2), evaluation=EvalConfig(every=2, sequences=8))
