"""Tokenises a source once into a training and a held-out array."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jaxlm.config import require
from jaxlm.data.config import Source, TextSource
from jaxlm.data.corpus import Corpus
from jaxlm.data.document import cut, heldout_keys
from jaxlm.data.store import TokenWriter, token_dtype
from jaxlm.data.synthetic import Synthetic
from jaxlm.data.tokenizer import Encoder, Tokenizer

# Called with (name of the source, bytes or tokens done, bytes or tokens in all).
Progress = Callable[[str, int, int], None]

# Texts are handed to the tokenizer in groups of about this many bytes.
_GROUP_BYTES = 2**20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Survey:
    """What a first pass over a source finds: sizes per key, and which keys are held out.

    `heldout` is empty when no key is small enough; then every document is cut.
    """

    sizes: dict[str, int]
    documents: int
    heldout: frozenset[str]

    @property
    def bytes(self) -> int:
        """The bytes of all text."""
        return sum(self.sizes.values())


@dataclasses.dataclass(kw_only=True)
class _Side:
    """One split on its way to disk."""

    writer: TokenWriter
    documents: int = 0
    bytes: int = 0
    pending: list[str] = dataclasses.field(default_factory=list)
    pending_bytes: int = 0

    def add(self, text: str, encoder: Encoder) -> None:
        size = len(text.encode())
        self.documents += 1
        # A separator stands for one byte, so that byte tokens have exactly one byte per token.
        self.bytes += size + 1
        self.pending.append(text)
        self.pending_bytes += size
        if self.pending_bytes >= _GROUP_BYTES:
            self.encode(encoder)

    def encode(self, encoder: Encoder) -> None:
        for ids in encoder.encode(self.pending):
            self.writer.append(np.append(ids, ids.dtype.type(encoder.separator)))
        self.pending, self.pending_bytes = [], 0

    def close(self) -> dict[str, Any]:
        tokens, sha256 = self.writer.close()
        return {"tokens": tokens, "documents": self.documents, "bytes": self.bytes, "sha256": sha256}


def survey(source: TextSource, heldout_fraction: float) -> Survey:
    """Returns sizes and split of `source`, read once; raises `ConfigError` for bad input."""
    sizes: dict[str, int] = {}
    documents = 0
    for document in source.documents():
        sizes[document.key] = sizes.get(document.key, 0) + len(document.text.encode())
        documents += 1
    if isinstance(source, Corpus):
        heldout = source.heldout(heldout_fraction)
    else:
        heldout = heldout_keys(sizes, heldout_fraction)
    return Survey(sizes=sizes, documents=documents, heldout=heldout)


def write_splits(source: Source, tokenizer: Tokenizer, folder: pathlib.Path, *,
                 heldout_fraction: float, progress: Progress | None) -> dict[str, Any]:
    """Writes arrays `train` and `heldout` under `folder`; returns what meta.json says of them.

    Keys: vocabulary, separator, dtype, split ("keys", "cut" or "paths"), train, heldout.
    """
    if isinstance(source, Synthetic):
        return _write_synthetic(source, folder, heldout_fraction, progress)
    encoder = tokenizer.encoder()
    found = survey(source, heldout_fraction)
    dtype = token_dtype(encoder.vocabulary)
    train = _Side(writer=TokenWriter(folder / "train", dtype))
    heldout = _Side(writer=TokenWriter(folder / "heldout", dtype))
    done = 0
    for text, is_heldout in _assigned(source, found, heldout_fraction):
        (heldout if is_heldout else train).add(text, encoder)
        done += len(text.encode())
        if progress is not None:
            progress(source.name, done, found.bytes)
    for side in (train, heldout):
        side.encode(encoder)
    return _checked(source, {
        "vocabulary": encoder.vocabulary,
        "separator": encoder.separator,
        "dtype": dtype.name,
        "split": "keys" if found.heldout else "cut",
        "train": train.close(),
        "heldout": heldout.close(),
    })


def splits_digest(meta: dict[str, Any], tokenizer: dict[str, str]) -> str:
    """Returns the SHA-256 that names the tokens: both splits, where they end, and the tokenizer file.

    The token bytes enter through the SHA-256 of each split.
    """
    parts = [meta["dtype"], str(meta["vocabulary"]), tokenizer.get("sha256", "")]
    parts += [f"{side} {meta[side]['tokens']} {meta[side]['sha256']}" for side in ("train", "heldout")]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _assigned(source: TextSource, found: Survey, heldout_fraction: float) -> Iterator[tuple[str, bool]]:
    for document in source.documents():
        if found.heldout:
            yield document.text, document.key in found.heldout
        else:
            for text, is_heldout in zip(cut(document.text, heldout_fraction), (False, True), strict=True):
                if text:
                    yield text, is_heldout


def _write_synthetic(source: Synthetic, folder: pathlib.Path, heldout_fraction: float,
                     progress: Progress | None) -> dict[str, Any]:
    dtype = token_dtype(source.vocabulary)
    sides, done = {}, 0
    for side, tokens in zip(("train", "heldout"), source.split_tokens(heldout_fraction), strict=True):
        writer = TokenWriter(folder / side, dtype)
        writer.append(tokens)
        count, sha256 = writer.close()
        sides[side] = {"tokens": count, "documents": 1, "bytes": None, "sha256": sha256}
        done += count
        if progress is not None:
            progress(source.name, done, source.tokens)
    return _checked(source, {"vocabulary": source.vocabulary, "separator": None, "dtype": dtype.name,
                             "split": "paths", **sides})


def _checked(source: Source, meta: dict[str, Any]) -> dict[str, Any]:
    for side in ("train", "heldout"):
        require(meta[side]["tokens"] > 0, "sources", source.name,
                f"too small to divide: its {side} split has no token")
    return meta
