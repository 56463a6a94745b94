"""One piece of text and the rule that divides text into training and held-out parts.

The rule works on keys, not on documents: what shares a key (one Bible book in two translations,
two copies of the same row) always falls on the same side.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping


@dataclasses.dataclass(frozen=True, kw_only=True)
class Document:
    """A text and the `key` by which it is assigned to a split."""

    key: str
    text: str


def sizes_of(documents: Iterable[Document]) -> dict[str, int]:
    """Returns the bytes of text under each key."""
    sizes: dict[str, int] = {}
    for document in documents:
        sizes[document.key] = sizes.get(document.key, 0) + len(document.text.encode())
    return sizes


def heldout_keys(sizes: Mapping[str, int], fraction: float) -> frozenset[str]:
    """Returns the keys held out: close to `fraction` of all bytes, the same on every machine.

    Keys are walked in the order of their SHA-256; one is taken when it brings the held-out bytes
    nearer to the target. `sizes` maps each key to the bytes of all its documents. The result is
    empty when every key is too large for that (at `fraction` .1: larger than a fifth of the text);
    then each document is cut instead (`cut`).

    >>> sorted(heldout_keys({name: 10 for name in "abcdefghij"}, 0.2))
    ['d', 'j']
    """
    target = fraction * sum(sizes.values())
    order = sorted(sizes, key=lambda key: hashlib.sha256(key.encode()).digest())
    chosen, held = [], 0
    for key in order:
        if abs(held + sizes[key] - target) < abs(held - target):
            chosen.append(key)
            held += sizes[key]
    # Taking every key would leave nothing to train on; only possible with a fraction above 1/2.
    return frozenset(chosen) if len(chosen) < len(sizes) else frozenset()


def cut(text: str, fraction: float) -> tuple[str, str]:
    """Returns `text` as (training, held-out): its last `fraction` of characters is held out.

    The cut moves back to the start of a line where there is one in the second half of the training
    part, so that the held-out part does not begin inside a sentence.

    >>> cut("one\\ntwo\\nthree\\nfour", 0.3)
    ('one\\ntwo\\n', 'three\\nfour')
    """
    place = round(len(text) * (1 - fraction))
    line = text.rfind("\n", place // 2, place) + 1
    place = line or place
    return text[:place], text[place:]
