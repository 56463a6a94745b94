"""Which checkpoints are kept: one policy for the trainer and for whoever clears up behind it."""

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any

from jaxlm.train.config import CheckpointConfig

HELDOUT = "heldout_loss"  # the metric that `best` goes by, as it is passed to Orbax with a checkpoint


@dataclasses.dataclass(frozen=True, kw_only=True)
class Saved:
    """A checkpoint as Orbax's policies see it: step (updates made), metrics (None: not evaluated), time."""

    step: int
    metrics: dict[str, float] | None
    time: datetime.datetime = datetime.datetime.fromtimestamp(0, datetime.timezone.utc)


def rules(config: CheckpointConfig) -> dict[str, Any]:
    """Returns Orbax's preservation policies by the name under which each keeps a checkpoint."""
    from orbax.checkpoint import checkpoint_managers as policies

    named = {f"latest {config.latest}": policies.LatestN(config.latest)}
    if config.keep_every:
        named[f"every {config.keep_every}"] = policies.EveryNSteps(config.keep_every)
    if config.best:
        # Orbax keeps the last n of the order; a checkpoint that was not evaluated has no place in it.
        named[f"best {config.best}"] = policies.BestN(
            get_metric_fn=heldout_loss, reverse=True, n=config.best, keep_checkpoints_without_metrics=False)
    if config.keep:
        named["pinned"] = policies.CustomSteps(list(config.keep))
    return named


def policy(config: CheckpointConfig) -> Any:
    """Returns Orbax's policy that keeps what any of `rules` keeps."""
    from orbax.checkpoint import checkpoint_managers as policies

    return policies.AnyPreservationPolicy(list(rules(config).values()))


def heldout_loss(metrics: Mapping[str, float]) -> float:
    """Returns the held-out loss among a checkpoint's metrics, in nats per token."""
    return metrics[HELDOUT]


def kept(config: CheckpointConfig, losses: Mapping[int, float | None]) -> dict[int, list[str]]:
    """Returns the names of the rules that keep each checkpoint, none for one that would go.

    Args:
      config: the policy.
      losses: held-out loss (None: not evaluated) of each checkpoint by its step, updates made.
    """
    from orbax.checkpoint import checkpoint_managers as policies

    saved = [Saved(step=step, metrics=None if losses[step] is None else {HELDOUT: losses[step]})
             for step in sorted(losses)]
    context = policies.PreservationContext()
    verdicts = {name: rule.should_preserve(saved, context=context) for name, rule in rules(config).items()}
    return {one.step: [name for name in verdicts if verdicts[name][i]] for i, one in enumerate(saved)}
