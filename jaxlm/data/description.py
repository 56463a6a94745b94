"""Tables of what a configuration reads and of what was prepared, for people."""

from collections.abc import Sequence

from jaxlm.config import ConfigError
from jaxlm.data.config import DataConfig, Source
from jaxlm.data.dataset import Dataset
from jaxlm.data.preparation import Prepared
from jaxlm.data.split_writer import survey
from jaxlm.data.synthetic import Synthetic, entropy_rate


def describe(data: DataConfig | Dataset | Prepared | Sequence[Prepared]) -> str:
    """Returns a table, one row per source, without a final newline.

    A configuration is read but not tokenised, and a source that cannot be read says why in its row;
    prepared data gives tokens, documents, bytes per token and digest.
    """
    if isinstance(data, DataConfig):
        header = ("source", "documents", "bytes", "held-out keys", "held-out share", "note")
        return _table([header, *(_surveyed(source, data) for source in data.sources)])
    if isinstance(data, Dataset):
        heading = f"{data.name}: {data.train_windows} training windows of {data.config.sequence}, " \
                  f"{data.heldout_windows} held out, digest {data.digest[:16]}"
        return heading + "\n" + describe(data.prepared)
    prepared = (data,) if isinstance(data, Prepared) else tuple(data)
    header = ("source", "train tokens", "held-out tokens", "documents", "vocabulary", "bytes/token",
              "digest", "folder", "note")
    return _table([header, *(_measured(source) for source in prepared)])


def _measured(source: Prepared) -> tuple[str, ...]:
    per_token = source.bytes_per_token
    return (source.name, f"{source.train.tokens:,}", f"{source.heldout.tokens:,}",
            f"{source.train.documents} + {source.heldout.documents}", str(source.vocabulary),
            "-" if per_token is None else f"{per_token:.4g}", source.digest[:16], source.folder.name,
            source.meta["note"] or "")


def _surveyed(source: Source, config: DataConfig) -> tuple[str, ...]:
    if isinstance(source, Synthetic):
        note = f"{source.tokens:,} tokens, entropy rate {entropy_rate(source):.4f} nats per token"
        return (source.name, "-", "-", "-", f"{config.heldout_fraction:.1%}", note)
    try:
        found = survey(source, config.heldout_fraction)
    except ConfigError as error:
        return (source.name, "-", "-", "-", "-", str(error))
    if found.heldout:
        held = sum(size for key, size in found.sizes.items() if key in found.heldout)
        keys, share = f"{len(found.heldout)} of {len(found.sizes)}", f"{held / found.bytes:.1%}"
    else:
        keys, share = "documents cut", f"{config.heldout_fraction:.1%}"
    return (source.name, str(found.documents), f"{found.bytes:,}", keys, share, source.note or "")


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
             for row in rows]
    return "\n".join(lines)
