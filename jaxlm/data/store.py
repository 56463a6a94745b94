"""Token arrays on disk: one-dimensional Zarr 3 arrays written and read through TensorStore."""

import contextlib
import hashlib
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxlm.data.extras import load_extra

# A shard is one file, written in one piece; a chunk is what reading a window costs.
SHARD_TOKENS = 2**22
CHUNK_TOKENS = 2**14
# Arrays below this many bytes are read whole, once.
MEMORY_LIMIT = 256 * 2**20
_CACHE_BYTES = 64 * 2**20


def token_dtype(vocabulary: int) -> np.dtype:
    """Returns the smallest of uint8, uint16, uint32 that holds ids 0..vocabulary-1."""
    return np.dtype("<u1" if vocabulary <= 2**8 else "<u2" if vocabulary <= 2**16 else "<u4")


class TokenWriter:
    """Appends tokens to a new array at `path`; `close` returns (tokens, SHA-256 of their bytes).

    The bytes hashed are the tokens in little-endian order in the array's own type.
    """

    def __init__(self, path: pathlib.Path, dtype: np.dtype) -> None:
        tensorstore = load_extra("tensorstore", "train")
        self._dtype = dtype
        with _one_line():
            self._array = tensorstore.open(_spec(path, dtype), create=True).result()
        self._pending: list[np.ndarray] = []
        self._pending_tokens = 0
        self._written = 0
        self._hash = hashlib.sha256()

    def append(self, tokens: np.ndarray) -> None:
        """Adds `tokens`, an integer array [n]; whole shards go to disk at once."""
        self._pending.append(tokens.astype(self._dtype, copy=False))
        self._pending_tokens += len(tokens)
        if self._pending_tokens >= SHARD_TOKENS:
            self._flush(self._pending_tokens - self._pending_tokens % SHARD_TOKENS)

    def close(self) -> tuple[int, str]:
        """Writes what is left; returns (number of tokens, hexadecimal SHA-256)."""
        self._flush(self._pending_tokens)
        return self._written, self._hash.hexdigest()

    def _flush(self, count: int) -> None:
        if count == 0:
            return
        joined = np.concatenate(self._pending)
        block, rest = joined[:count], joined[count:]
        with _one_line():
            self._array = self._array.resize(exclusive_max=[self._written + count]).result()
            self._array[self._written:self._written + count].write(block).result()
        self._hash.update(block.tobytes())
        self._written += count
        self._pending, self._pending_tokens = [rest], len(rest)


class TokenArray:
    """Read access to a stored array: whole in memory below `memory_limit` bytes, by window above."""

    def __init__(self, path: pathlib.Path, *, memory_limit: int = MEMORY_LIMIT) -> None:
        tensorstore = load_extra("tensorstore", "train")
        spec = {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": str(path)},
            # Keeps the shards' indices and recent chunks: reads by window take a third less time.
            "context": {"cache_pool": {"total_bytes_limit": _CACHE_BYTES}},
            "recheck_cached_data": "open",
        }
        self._array = tensorstore.open(spec, open=True, read=True).result()
        self.dtype = np.dtype(self._array.dtype.numpy_dtype)
        in_memory = len(self) * self.dtype.itemsize < memory_limit
        self._memory = self._array.read().result() if in_memory else None

    def __len__(self) -> int:
        return self._array.shape[0]

    @property
    def in_memory(self) -> bool:
        """Returns whether the whole array was read when it was opened."""
        return self._memory is not None

    def read(self, starts: Sequence[int], length: int) -> list[np.ndarray]:
        """Returns the windows [start, start + length) in the array's own type, one per start."""
        if self._memory is not None:
            return [self._memory[start:start + length] for start in starts]
        # All reads are under way before the first is awaited.
        futures = [self._array[start:start + length].read() for start in starts]
        return [future.result() for future in futures]

    def sha256(self) -> str:
        """Returns the SHA-256 of the tokens, as `TokenWriter.close` gave it."""
        digest = hashlib.sha256()
        for start in range(0, len(self), SHARD_TOKENS):
            length = min(SHARD_TOKENS, len(self) - start)
            digest.update(self.read([start], length)[0].tobytes())
        return digest.hexdigest()


def _spec(path: pathlib.Path, dtype: np.dtype) -> dict[str, Any]:
    chunks = {"chunk_shape": [CHUNK_TOKENS],
              "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}]}
    return {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(path)},
        "metadata": {
            "shape": [0],
            "data_type": dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [SHARD_TOKENS]}},
            "codecs": [{"name": "sharding_indexed", "configuration": chunks}],
        },
    }


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    """Turns TensorStore's error for a fault of the disk, a `ValueError` of many lines, into an `OSError`."""
    try:
        yield
    except ValueError as error:
        raise OSError(f"tokens cannot be written: {' '.join(str(error).split())[:300]}") from error
