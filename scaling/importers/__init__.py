"""Foreign logs as run records: MaxText's JSON lines, TensorBoard event files, exports of Weights & Biases."""

from scaling.importers.into_record import write_record
from scaling.importers.log import Log
from scaling.importers.maxtext import read_maxtext
from scaling.importers.tensorboard import read_tensorboard
from scaling.importers.wandb import read_wandb

__all__ = ["Log", "read_maxtext", "read_tensorboard", "read_wandb", "write_record"]
