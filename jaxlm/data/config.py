"""What a run reads: sources, their weights, the tokenizer, the window and the seed of the order."""

import dataclasses
import math

from jaxlm.config import require
from jaxlm.data.corpus import Corpus
from jaxlm.data.files import Files
from jaxlm.data.standard_library import StandardLibrary
from jaxlm.data.synthetic import Synthetic
from jaxlm.data.tokenizer import Bytes, Tokenizer

TextSource = Corpus | StandardLibrary | Files
Source = Corpus | StandardLibrary | Files | Synthetic


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The data of a run: `sources` mixed by `weights`, in windows of `sequence` predictions.

    With `weights` None every training window is read once per epoch. Otherwise window by window the
    sources alternate in the given proportions (kept to a hundredth of the smallest weight), each
    shuffled and repeated on its own. `seed` orders the windows and nothing else: neither the split
    nor the held-out windows depend on it. `heldout_fraction` is the share of bytes held out.
    """

    sources: tuple[Source, ...] = (Corpus(),)
    weights: tuple[float, ...] | None = None
    tokenizer: Tokenizer = Bytes()
    sequence: int
    seed: int = 0
    heldout_fraction: float = 0.1

    def __post_init__(self) -> None:
        require(len(self.sources) > 0, "sources", self.sources, "must name at least one source")
        require(len(set(self.sources)) == len(self.sources), "sources", self.sources,
                "must not repeat a source")
        synthetic = [source for source in self.sources if isinstance(source, Synthetic)]
        require(len(synthetic) in (0, len(self.sources)), "sources", self.sources,
                "synthetic tokens and text must not be mixed")
        require(len({source.vocabulary for source in synthetic}) <= 1, "sources", self.sources,
                "synthetic sources must share one vocabulary")
        if self.weights is not None:
            require(len(self.weights) == len(self.sources), "weights", self.weights,
                    f"must have one entry per source, {len(self.sources)}")
            require(all(math.isfinite(w) and w > 0 for w in self.weights), "weights", self.weights,
                    "must be positive and finite")
        require(self.sequence >= 1, "sequence", self.sequence, "must be at least 1")
        require(0 <= self.seed < 2**63, "seed", self.seed, "must lie in 0..2**63-1")
        require(0 < self.heldout_fraction <= 0.5, "heldout_fraction", self.heldout_fraction,
                "must lie in (0, 0.5]")
