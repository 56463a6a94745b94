"""Tokenizers: raw bytes, and any file of the `tokenizers` library."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import numpy as np

from jaxlm.config import ConfigError, require
from jaxlm.data.extras import load_extra

# Texts of end-of-document tokens in wide use, tried in this order.
COMMON_SEPARATORS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "[EOS]", "<|eot_id|>", "[SEP]")


class Encoder(Protocol):
    """Turns texts into token ids; `separator` is the id that ends each document."""

    vocabulary: int
    separator: int

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Returns one integer array of ids per text, without the separator."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bytes:
    """UTF-8 bytes as tokens: vocabulary 256; byte 0 ends a document, as text holds no NUL."""

    kind: ClassVar[str] = "bytes"

    @property
    def name(self) -> str:
        return "bytes"

    def fingerprint(self) -> dict[str, str]:
        """Returns nothing: the configuration says it all."""
        return {}

    def encoder(self) -> Encoder:
        """Returns the encoder; ids are 0..255."""
        return _ByteEncoder()


@dataclasses.dataclass(frozen=True, kw_only=True)
class HuggingFace:
    """A JSON file of the `tokenizers` library; its SHA-256 is part of the data's digest.

    `separator` is the text of the token that ends each document; None tries the common ones.
    """

    kind: ClassVar[str] = "huggingface"

    path: str
    separator: str | None = None

    def __post_init__(self) -> None:
        require(self.path != "", "tokenizer.path", self.path, "must name a tokenizer file")

    @property
    def name(self) -> str:
        return pathlib.Path(self.path).name

    def fingerprint(self) -> dict[str, str]:
        """Returns the SHA-256 of the tokenizer file; raises `ConfigError` if it cannot be read."""
        try:
            content = pathlib.Path(self.path).read_bytes()
        except OSError as error:
            raise ConfigError(f"tokenizer.path = {self.path!r}: {error.strerror}") from None
        return {"sha256": hashlib.sha256(content).hexdigest()}

    def encoder(self) -> Encoder:
        """Returns the encoder; raises `ConfigError` for a bad file or a missing separator."""
        self.fingerprint()
        tokenizers = load_extra("tokenizers", "tokenizers")
        try:
            loaded = tokenizers.Tokenizer.from_file(self.path)
        except Exception as error:  # the library raises bare Exception for any parse fault
            reason = " ".join(str(error).split())
            raise ConfigError(f"tokenizer.path = {self.path!r}: "
                              f"must be a tokenizers JSON file ({reason})") from None
        return _HuggingFaceEncoder(loaded, self._separator_id(loaded))

    def _separator_id(self, loaded: Any) -> int:
        candidates = (self.separator,) if self.separator is not None else COMMON_SEPARATORS
        for text in candidates:
            found = loaded.token_to_id(text)
            if found is not None:
                return found
        if self.separator is not None:
            rule = f"must be a token of {self.path}"
        else:
            rule = f"name the token that ends a document; {self.path} has none of " \
                   f"{', '.join(COMMON_SEPARATORS)}"
        raise ConfigError(f"tokenizer.separator = {self.separator!r}: {rule}")


Tokenizer = Bytes | HuggingFace


class _ByteEncoder:
    vocabulary = 256
    separator = 0

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [np.frombuffer(text.encode(), np.uint8) for text in texts]


class _HuggingFaceEncoder:
    def __init__(self, loaded: Any, separator: int) -> None:
        # A file may carry the truncation and padding of the model it was made for.
        loaded.no_truncation()
        loaded.no_padding()
        self._loaded = loaded
        self.separator = separator
        # Ids may have gaps, so the size is the largest id and not the count.
        self.vocabulary = max(loaded.get_vocab(with_added_tokens=True).values()) + 1

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        encoded = self._loaded.encode_batch(list(texts), add_special_tokens=False)
        return [np.asarray(item.ids, np.uint32) for item in encoded]
