"""Batches: training windows in grain's order, and fixed held-out windows."""

import hashlib
import json
import os
from collections.abc import Sequence
from typing import Literal

import numpy as np

from jaxlm.config import require
from jaxlm.data.config import DataConfig
from jaxlm.data.order import WindowOrder, ratios
from jaxlm.data.preparation import Prepared, prepare_all
from jaxlm.data.split_writer import Progress
from jaxlm.data.store import MEMORY_LIMIT
from jaxlm.data.synthetic import Synthetic


class Dataset:
    """The data of a run. `batch(k, B)` is a pure function of (the tokens, `config`, k, B).

    A window is `sequence` + 1 tokens; window w of a source starts at token w * sequence, so inputs
    never overlap and each window's last target is the next one's first input.

    Attributes:
      config: the configuration.
      prepared: the sources on disk, in order.
      train_windows: training windows of all sources; without weights this is one epoch.
      heldout_windows: held-out windows of all sources.
    """

    def __init__(self, config: DataConfig, prepared: Sequence[Prepared], *,
                 memory_limit: int = MEMORY_LIMIT) -> None:
        self.config = config
        self.prepared = tuple(prepared)
        self._train = _Windows(self.prepared, "train", config.sequence, memory_limit)
        self._heldout = _Windows(self.prepared, "heldout", config.sequence, memory_limit)
        self._order = WindowOrder(self._train.counts, config.weights, config.seed)
        self.train_windows = sum(self._train.counts)
        self.heldout_windows = sum(self._heldout.counts)

    @property
    def name(self) -> str:
        """One readable line: sources, weights where given, tokenizer."""
        names = [source.name for source in self.prepared]
        if self.config.weights is not None:
            names = [f"{weight:.3g} x ({name})"
                     for weight, name in zip(self.weights, names, strict=True)]
        synthetic = isinstance(self.config.sources[0], Synthetic)
        return " + ".join(names) + ("" if synthetic else f", {self.config.tokenizer.name}")

    @property
    def digest(self) -> str:
        """The SHA-256 of the sources' digests and their weights; the order's seed is not part of it."""
        weights = None if self.config.weights is None else ratios(self.config.weights)
        text = json.dumps([[source.digest for source in self.prepared], weights])
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def weights(self) -> tuple[float, ...] | None:
        """The proportions as kept, summing to 1; None where all windows are read once per epoch."""
        if self.config.weights is None:
            return None
        kept = ratios(self.config.weights)
        return tuple(round(ratio / sum(kept), 12) for ratio in kept)

    @property
    def vocabulary(self) -> int:
        """The number of token ids; every token is below it."""
        return max(source.vocabulary for source in self.prepared)

    @property
    def train_tokens(self) -> int:
        """The training tokens of all sources."""
        return sum(source.train.tokens for source in self.prepared)

    @property
    def heldout_tokens(self) -> int:
        """The held-out tokens of all sources."""
        return sum(source.heldout.tokens for source in self.prepared)

    @property
    def bytes_per_token(self) -> float | None:
        """Bytes of text per token of the held-out split, a separator counting one; None without text.

        Held-out, because bits per byte are reported for the held-out loss.
        """
        sizes = [source.heldout.bytes for source in self.prepared]
        return None if None in sizes else sum(sizes) / self.heldout_tokens

    def batch(self, k: int, batch_size: int) -> np.ndarray:
        """Returns examples k * B .. (k + 1) * B - 1 of the endless training order, int32 [B, T + 1].

        Example i does not depend on B, hosts, workers or earlier calls; any k costs the same.
        """
        require(k >= 0, "k", k, "must be at least 0")
        require(batch_size >= 1, "batch_size", batch_size, "must be at least 1")
        return self._train.gather(self._order.batch(k, batch_size))

    def heldout(self, sequences: int, which: np.ndarray | None = None) -> np.ndarray:
        """Returns `sequences` windows evenly spaced over all held-out text, int32 [n, T + 1].

        `which` are the numbers of those wanted, in 0..sequences-1; all by default.

        They do not depend on the seed or the weights: each source has its share by length. Raises
        `ConfigError` when the held-out split has fewer windows.
        """
        have = self.heldout_windows
        require(sequences >= 1, "sequences", sequences, "must be at least 1")
        require(sequences <= have, "sequences", sequences,
                f"the held-out split of {self.heldout_tokens} tokens has {have} windows of "
                f"sequence {self.config.sequence}")
        # Middles of equal stretches; distinct, as no stretch is shorter than one window.
        which = np.arange(sequences) if which is None else which
        return self._heldout.gather((2 * which + 1) * have // (2 * sequences))


def open_dataset(config: DataConfig, root: str | os.PathLike, *, progress: Progress | None = None,
                 memory_limit: int = MEMORY_LIMIT) -> Dataset:
    """Returns the dataset of `config`, its sources prepared under `root` where they are not yet.

    Arrays below `memory_limit` bytes are read whole and checked against their digest, larger ones are
    read by window (`Prepared.verify` checks them). Raises `ConfigError` for bad input, damaged data,
    and where a source is shorter than one window.
    """
    return Dataset(config, prepare_all(config, root, progress=progress), memory_limit=memory_limit)


class _Windows:
    """The windows of one split of all sources, numbered one source after the other."""

    def __init__(self, prepared: Sequence[Prepared], side: Literal["train", "heldout"], sequence: int,
                 memory_limit: int) -> None:
        self._sequence = sequence
        self._arrays = [source.open(side, memory_limit=memory_limit) for source in prepared]
        self.counts = [(len(array) - 1) // sequence for array in self._arrays]
        for source, array, count in zip(prepared, self._arrays, self.counts, strict=True):
            # A source without a held-out window only matters once held-out windows are asked for.
            require(count > 0 or side == "heldout", "sequence", sequence,
                    f"needs {sequence + 1} training tokens, {source.name} has {len(array)}")
        self._ends = np.cumsum(self.counts)

    def gather(self, numbers: np.ndarray) -> np.ndarray:
        """Returns the windows of these numbers, int32 [len(numbers), sequence + 1]."""
        tokens = np.empty((len(numbers), self._sequence + 1), np.int32)
        sources = np.searchsorted(self._ends, numbers, side="right")
        for source, array in enumerate(self._arrays):
            rows = np.flatnonzero(sources == source)
            first = self._ends[source] - self.counts[source]
            starts = ((numbers[rows] - first) * self._sequence).tolist()
            for row, window in zip(rows.tolist(), array.read(starts, self._sequence + 1), strict=True):
                tokens[row] = window
        return tokens
