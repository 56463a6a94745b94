"""The order of training windows: a grain pipeline over window numbers, pure in (seed, i).

Only numbers pass through grain; tokens are gathered afterwards in one step, which keeps a batch of 16
near half a millisecond and the order exactly grain's. Below about 500 windows grain's shuffle itself is
slower: it walks a cycle of 65,536, which costs up to a millisecond per example.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxlm.config import require
from jaxlm.data.extras import load_extra

# grain shuffles with 32-bit indices.
_MAX_WINDOWS = 2**32


class WindowOrder:
    """An endless sequence of window numbers; sources are numbered one after the other.

    `windows` are the window counts of the sources. With `weights` None all windows are shuffled
    together and again for every epoch; otherwise each source is, and `MapDataset.mix` alternates.
    """

    def __init__(self, windows: Sequence[int], weights: Sequence[float] | None, seed: int) -> None:
        require(sum(windows) < _MAX_WINDOWS, "sequence", sum(windows),
                f"gives too many windows, grain shuffles fewer than {_MAX_WINDOWS}; use longer ones")
        grain = load_extra("grain", "train")
        if weights is None:
            joined = grain.MapDataset.range(sum(windows))
            self._examples = joined.shuffle(seed=shuffle_seed(seed, 0)).repeat()
        else:
            ends = np.cumsum(windows).tolist()
            ranges = [grain.MapDataset.range(end - count, end)
                      for count, end in zip(windows, ends, strict=True)]
            repeated = [numbers.shuffle(seed=shuffle_seed(seed, i)).repeat()
                        for i, numbers in enumerate(ranges)]
            # grain makes the smallest weight 100 and truncates the others: a hair saves their last unit.
            hair = [ratio + 1e-6 if ratio > 1 else 1.0 for ratio in ratios(weights)]
            self._examples = grain.MapDataset.mix(repeated, weights=hair)
        self._batched: dict[int, Any] = {}

    def batch(self, k: int, batch_size: int) -> np.ndarray:
        """Returns the numbers of examples k * batch_size .. (k + 1) * batch_size - 1, int64 [B]."""
        if batch_size not in self._batched:
            self._batched[batch_size] = self._examples.batch(batch_size)
        return np.asarray(self._batched[batch_size][k])


def ratios(weights: Sequence[float]) -> list[float]:
    """Returns the weights relative to the smallest, rounded to hundredths: what the mixture keeps.

    >>> ratios([0.5, 0.3, 0.2])
    [2.5, 1.5, 1.0]
    """
    return [round(weight / min(weights), 2) for weight in weights]


def shuffle_seed(seed: int, source: int) -> int:
    """Returns the 32-bit seed of one source's shuffle.

    grain shuffles epoch e with seed + e, so plain seeds 0 and 1 would repeat each other's epochs;
    hashing keeps the streams of neighbouring seeds and sources apart.
    """
    digest = hashlib.sha256(f"jaxlm data order {seed} {source}".encode()).digest()
    return int.from_bytes(digest[:4], "little")
