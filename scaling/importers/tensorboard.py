"""Reads scalars from TensorBoard event files, with the reader of the package `tensorboard` itself.

Both kinds of scalar are read: `simple_value` and tensors of one number. Files of one folder are read
in the order of their names, as TensorBoard does; an event that says that a session starts begins a
new attempt (tensorboard/backend/event_processing/plugin_event_accumulator.py).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scaling.errors import InputError
from scaling.importers import log
from scaling.importers.log import METRICS, Log

# The tags that jaxlm's mirror writes. A tag holds float32, which counts tokens only up to 2^24.
COLUMNS = {metric: metric for metric in METRICS if metric not in ("step", "tokens")}

_DT_STRING = 7  # tensorflow/core/framework/types.proto


def read_tensorboard(source: Path, columns: Mapping[str, str]) -> Log:
    """Returns the log in `source`, an event file or a folder of event files of one run.

    Args:
      source: file or folder; its own subfolders are other runs to TensorBoard and are not read.
      columns: metric -> tag where the tag is not the metric's own name.

    Raises `InputError` where no event file or no such tag is there, `ModuleNotFoundError` without
    the package tensorboard.
    """
    if "step" in columns:
        raise InputError("--columns step=...: an event has its own step")
    files = _event_files(source)
    events = [event for path in files for event in _events(path)]
    tags = {value.tag for event in events for value in event.summary.value if _is_scalar(value)}
    if not tags:
        raise InputError(f"{source}: no scalars in {len(files)} event files")
    found = log.chosen_columns(source, columns, COLUMNS, tags)
    return Log(format="tensorboard", files=log.digests(files), columns=found,
               attempts=log.split_attempts(_points(events, {tag: metric for metric, tag in found.items()})))


def _event_files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise InputError(f"source = {str(source)!r}: no such file or folder")
    files = sorted(path for path in source.iterdir() if path.is_file() and "tfevents" in path.name)
    if not files:
        below = sorted({str(path.parent) for path in source.rglob("*tfevents*") if path.is_file()})
        more = f"; there are some in {', '.join(below[:8])}" if below else ""
        raise InputError(f"source = {str(source)!r}: no file named *tfevents* in this folder{more}")
    return files


def _events(path: Path) -> Iterator[Any]:
    try:
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    except ModuleNotFoundError as error:
        if error.name != "tensorboard":
            raise
        raise ModuleNotFoundError("the package 'tensorboard' is not installed: pip install 'jaxlm[track]'",
                                  name=error.name) from None
    # The loader turns every simple value into a tensor with the metadata of a scalar, and stops
    # silently at a record that a killed writer left torn.
    yield from EventFileLoader(str(path)).Load()


def _is_scalar(value: Any) -> bool:
    plugin = value.metadata.plugin_data.plugin_name  # stands in the first event of a tag only
    return (value.HasField("tensor") and plugin in ("", "scalars") and not value.tensor.tensor_shape.dim
            and value.tensor.dtype != _DT_STRING)


def _points(events: list[Any], metric: Mapping[str, str]) -> Iterator[tuple[int, dict[str, float]] | None]:
    from tensorboard.util import tensor_util

    for event in events:
        if event.HasField("session_log") and event.session_log.status == event.session_log.START:
            yield None
        values = {metric[value.tag]: float(tensor_util.make_ndarray(value.tensor).item())
                  for value in event.summary.value if value.tag in metric and value.HasField("tensor")}
        if values:
            yield event.step, values
