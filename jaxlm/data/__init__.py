"""Tokens and batches: sources of text, tokenizers, preparation once on disk, batches pure in (seed, k)."""

from jaxlm.data.config import DataConfig, Source
from jaxlm.data.corpus import Corpus, corpus_or_stdlib
from jaxlm.data.dataset import Dataset, open_dataset
from jaxlm.data.description import describe
from jaxlm.data.files import Files
from jaxlm.data.preparation import Prepared, Split, prepare, prepare_all
from jaxlm.data.standard_library import StandardLibrary
from jaxlm.data.synthetic import Synthetic, entropy_rate
from jaxlm.data.tokenizer import Bytes, HuggingFace, Tokenizer

__all__ = [
    "Bytes",
    "Corpus",
    "DataConfig",
    "Dataset",
    "Files",
    "HuggingFace",
    "Prepared",
    "Source",
    "Split",
    "StandardLibrary",
    "Synthetic",
    "Tokenizer",
    "corpus_or_stdlib",
    "describe",
    "entropy_rate",
    "open_dataset",
    "prepare",
    "prepare_all",
]
