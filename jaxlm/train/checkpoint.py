"""Checkpoints of the training state by Orbax, asynchronous, committed atomically."""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxlm.config import ConfigError
from jaxlm.train.config import CheckpointConfig
from jaxlm.train.state import TrainState


@contextlib.contextmanager
def open_checkpoints(folder: Path, config: CheckpointConfig) -> Iterator[Any]:
    """Yields the Orbax manager of a run's folder; waits for saves under way when it closes."""
    import orbax.checkpoint as ocp
    from orbax.checkpoint import checkpoint_managers as policies

    keep = policies.AnyPreservationPolicy([policies.LatestN(config.latest),
                                           policies.CustomSteps(list(config.keep))])
    options = ocp.CheckpointManagerOptions(preservation_policy=keep, cleanup_tmp_directories=True)
    manager = ocp.CheckpointManager((folder / "checkpoints").absolute(), options=options)
    try:
        yield manager
    finally:
        manager.wait_until_finished()
        manager.close()


def save(manager: Any, step: int, state: TrainState) -> None:
    """Starts saving `state`; returns once its values are safe from being donated."""
    import orbax.checkpoint as ocp

    if step not in manager.all_steps():
        manager.save(step, args=ocp.args.StandardSave(state._asdict()), force=True)


def restore(folder: Path, step: int | None, target: TrainState) -> TrainState | None:
    """Returns the state saved after `step` updates (None: the newest), placed like `target`.

    Returns None where the folder has no checkpoint and `step` is None. Raises `ConfigError` where the
    step is not there or its arrays are of another model.
    """
    import orbax.checkpoint as ocp

    root = (folder / "checkpoints").absolute()
    if not root.is_dir():
        if step is None:
            return None
        raise ConfigError(f"parent.step = {step}: run {folder.name} has no checkpoints; train it first")
    with ocp.CheckpointManager(root, options=ocp.CheckpointManagerOptions(read_only=True)) as manager:
        steps = sorted(manager.all_steps())
        if step is None and not steps:
            return None
        if step is not None and step not in steps:
            raise ConfigError(f"parent.step = {step}: run {folder.name} has checkpoints at {steps}; train it first")
        chosen = steps[-1] if step is None else step
        _check_same_model(root / str(chosen) / "default", target)
        return TrainState(**manager.restore(chosen, args=ocp.args.StandardRestore(target._asdict())))


def params_digest(params: Any) -> str:
    """Returns the SHA-256 over paths, shapes, dtypes and bytes of all parameters."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        array = np.asarray(jax.device_get(leaf))
        digest.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _check_same_model(path: Path, target: TrainState) -> None:
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
        saved = checkpointer.metadata(path).item_metadata.tree
    shapes = {jax.tree_util.keystr(p, simple=True, separator="/"): tuple(leaf.shape)
              for p, leaf in jax.tree_util.tree_leaves_with_path(saved["params"])}
    wanted = {jax.tree_util.keystr(p, simple=True, separator="/"): tuple(leaf.shape)
              for p, leaf in jax.tree_util.tree_leaves_with_path(target.params)}
    if shapes != wanted:
        name = sorted(key for key in shapes.keys() | wanted.keys() if shapes.get(key) != wanted.get(key))[0]
        raise ConfigError(f"checkpoint {path.parent.parent.parent.name}/{path.parent.name} is of another model: "
                          f"{name} has shape {shapes.get(name)}, this run's has {wanted.get(name)}")
