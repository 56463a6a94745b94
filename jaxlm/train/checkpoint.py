"""Checkpoints of the training state by Orbax: asynchronous, committed atomically, checked when read.

Format 1, one Orbax item a step: {"params", "opt_state", "step", "checksum"}. The checksum came later than
the format; a checkpoint without it is read unchecked. Orbax itself meets files that are missing or cut
short, but returns wrong numbers without a word where a byte of a data file has changed (0.12).
"""

import contextlib
import functools
import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.config import ConfigError
from jaxlm.train import agreement, hosts, keep
from jaxlm.train.config import CheckpointConfig
from jaxlm.train.state import TrainState


class CheckpointError(OSError):
    """A checkpoint cannot be written or read; the text is one line."""


def checkpoint_folder(root: Any, run: str) -> Any:
    """Returns where the checkpoints of `run` lie under `root`, an `epath.Path`.

    Raises `ConfigError` for a place that Orbax cannot save to.
    """
    from etils import epath

    scheme = re.match(r"^([a-z0-9+.-]+)://", str(root))
    if scheme and scheme[1] != "gs":
        raise ConfigError(f"checkpoints = {str(root)!r}: Orbax saves to local folders and gs://; "
                          "name one with --checkpoints")
    path = epath.Path(str(root)) / run / "checkpoints"
    return path if scheme else path.absolute()


@contextlib.contextmanager
def open_checkpoints(folder: Any, config: CheckpointConfig) -> Iterator[Any]:
    """Yields the Orbax manager of a checkpoint folder; waits for saves under way when it closes."""
    import orbax.checkpoint as ocp

    # Orbax writes and reads a checkpoint's metrics only where it is told of a best one.
    best = {"best_fn": keep.heldout_loss, "best_mode": "min"} if config.best else {}
    options = ocp.CheckpointManagerOptions(
        preservation_policy=keep.policy(config), cleanup_tmp_directories=True, **best)
    with _one_line(f"checkpoints in {folder}"):
        manager = ocp.CheckpointManager(folder, options=options)
    to_close = True
    try:
        yield manager
    except BaseException:
        to_close = hosts.team() is None  # else closing may wait for a host that is gone
        raise
    finally:
        if to_close:
            with _one_line(f"checkpoints in {folder}"):
                manager.wait_until_finished()
                manager.close()


def save(manager: Any, step: int, state: TrainState, *, heldout_loss: float | None = None) -> None:
    """Starts saving `state`; returns once its values are safe from being donated.

    `heldout_loss` is that of `state` where it was evaluated; `CheckpointConfig.best` goes by it.
    """
    import orbax.checkpoint as ocp

    if step not in manager.all_steps():
        tree = state._asdict() | {"checksum": _checksum(state)}
        with _one_line(f"checkpoint {step}"):  # an earlier save that failed says so here
            metrics = None if heldout_loss is None else {keep.HELDOUT: heldout_loss}
            manager.save(step, args=ocp.args.StandardSave(tree), metrics=metrics, force=True)


def finish(manager: Any) -> None:
    """Waits until the saves under way are committed; raises `CheckpointError` where one failed."""
    with _one_line("checkpoint"):
        manager.wait_until_finished()


def steps(folder: Any) -> list[int]:
    """Returns the steps of the committed checkpoints of a folder, rising."""
    import orbax.checkpoint as ocp

    if not folder.is_dir():
        return []
    # Locally the name says it, on gs:// a marker file.
    return sorted(int(path.name) for path in folder.iterdir()
                  if path.name.isdecimal() and ocp.utils.is_checkpoint_finalized(path))


def restore(folder: Any, step: int, target: TrainState) -> TrainState:
    """Returns the state saved after `step` updates, placed like `target`.

    Raises `CheckpointError` where it cannot be read or its values have changed since they were saved,
    `ConfigError` where its arrays are of another model.
    """
    what, tree, failed = f"checkpoint {step} in {folder.parent.name} is damaged", {}, None
    try:
        with _one_line(what):
            tree = _read(folder, step, target)
    except CheckpointError as error:
        failed = str(error)
    # Each host reads its own part, and all must go on from the same state.
    if failures := [each for each in agreement.exchange("restored", failed) if each]:
        raise CheckpointError(failures[0])
    checksum = tree.pop("checksum", None)
    state = TrainState(**tree)
    if checksum is not None and not np.array_equal(checksum, found := _checksum(state)):
        names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)]
        wrong = np.flatnonzero(np.asarray(checksum) != np.asarray(found))
        raise CheckpointError(f"{what}: other values than were saved in {', '.join(names[i] for i in wrong)}")
    return state


def _read(folder: Any, step: int, target: TrainState) -> dict[str, Any]:
    """Returns the tree of a checkpoint, placed like `target`, with its checksum where it has one."""
    import orbax.checkpoint as ocp

    # As if this host were alone: Orbax would wait for the others, of which one may have met damage.
    alone = ocp.options.MultiprocessingOptions(primary_host=jax.process_index(), active_processes={jax.process_index()})
    options = ocp.CheckpointManagerOptions(read_only=True, multiprocessing_options=alone)
    with ocp.CheckpointManager(folder, options=options) as manager:
        saved = _saved_tree(folder / str(step) / "default")
        _check_same_model(saved, target, f"checkpoint {folder.parent.name}/{step}")
        wanted = target._asdict()
        if "checksum" in saved:
            shape = (len(jax.tree.leaves(target)),)
            wanted["checksum"] = jax.ShapeDtypeStruct(shape, jnp.uint32, sharding=target.step.sharding)
        return manager.restore(step, args=ocp.args.StandardRestore(wanted))


def restore_newest(folder: Any, target: TrainState) -> tuple[TrainState | None, dict[int, str]]:
    """Returns the newest state that can be read (None: there is none), and {step: why} of damaged newer ones."""
    damaged: dict[int, str] = {}
    for step in reversed(steps(folder)):
        try:
            return restore(folder, step, target), damaged
        except CheckpointError as error:
            damaged[step] = str(error)
    return None, damaged


def set_aside(folder: Any, step: int) -> str:
    """Moves a damaged checkpoint out of Orbax's sight; returns its new place within the run."""
    aside = folder.parent / "damaged"
    aside.mkdir(parents=True, exist_ok=True)
    name = f"{step}-{sum(1 for path in aside.iterdir() if path.name.startswith(f'{step}-'))}"
    (folder / str(step)).rename(aside / name)
    return f"damaged/{name}"


def params_digest(params: Any) -> str:
    """Returns the SHA-256 over paths, shapes, dtypes and bytes of all parameters."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.shape} {leaf.dtype}".encode())
        for piece in _pieces(leaf):
            digest.update(piece.tobytes())
    return digest.hexdigest()


def _pieces(array: jax.Array) -> Iterator[np.ndarray]:
    """Yields the values in order; where several hosts hold them, a layer of a stack at a time is sent to all."""
    from jax.experimental import multihost_utils

    if getattr(array, "is_fully_addressable", True):
        yield np.asarray(jax.device_get(array))
    else:
        for piece in (array[i] for i in range(len(array))) if array.ndim > 2 else (array,):
            yield np.asarray(multihost_utils.process_allgather(piece, tiled=True))


def _checksum(state: TrainState) -> jax.Array:
    """Returns uint32 [arrays], whole on every device: per array the sum of its bits times odd numbers modulo 2^32.

    Each place has a number of its own. A sum of whole numbers has no order, so it is the same on every mesh;
    one changed bit always shows.
    """
    return _compiled_checksum(state.step.sharding)(state)


@functools.lru_cache(maxsize=8)
def _compiled_checksum(whole: jax.sharding.Sharding) -> Callable[[TrainState], jax.Array]:
    def checksum(state: TrainState) -> jax.Array:
        return jnp.stack([_array_checksum(leaf) for leaf in jax.tree.leaves(state)])

    return jax.jit(checksum, out_shardings=whole)


def _array_checksum(array: jax.Array) -> jax.Array:
    bits = array.view(f"uint{8 * array.dtype.itemsize}").astype(jnp.uint32)
    place, stride = jnp.zeros(array.shape, jnp.uint32), 1
    for axis in reversed(range(array.ndim)):
        place += jax.lax.broadcasted_iota(jnp.uint32, array.shape, axis) * np.uint32(stride % 2**32)
        stride *= array.shape[axis]
    return jnp.sum(bits * (2 * place + 1), dtype=jnp.uint32)


@contextlib.contextmanager
def _one_line(what: str) -> Iterator[None]:
    """Turns whatever Orbax and TensorStore raise about files into one line."""
    try:
        yield
    except (ConfigError, PermissionError, MemoryError):
        raise
    except Exception as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            raise
        text = " ".join(str(error).split())
        raise CheckpointError(f"{what}: {text[:200] or type(error).__name__}") from error


def _saved_tree(path: Any) -> Any:
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.metadata(path).item_metadata.tree


def _check_same_model(saved: Any, target: TrainState, name: str) -> None:
    shapes, wanted = ({jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape)
                       for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
                      for tree in (saved["params"], target.params))
    if shapes != wanted:
        key = sorted(key for key in shapes.keys() | wanted.keys() if shapes.get(key) != wanted.get(key))[0]
        raise ConfigError(f"{name} is of another model: {key} has shape {shapes.get(key)}, "
                          f"this run's has {wanted.get(key)}")
