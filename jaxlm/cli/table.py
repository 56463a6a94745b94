"""Plain tables for the terminal; a thousand rows take milliseconds."""

from collections.abc import Sequence


def render(titles: Sequence[str], rows: Sequence[Sequence[str]], *, left: Sequence[str] = ()) -> str:
    """Returns `rows` under `titles` in columns two blanks apart, flush right but for the titles in `left`."""
    columns = [[title, *(row[i] for row in rows)] for i, title in enumerate(titles)]
    for column in columns:
        width = max(map(len, column))
        column[:] = [text.ljust(width) if column[0] in left else text.rjust(width) for text in column]
    return "\n".join("  ".join(cells).rstrip() for cells in zip(*columns, strict=True))


def size(count: int) -> str:
    """Returns a number of bytes in the largest binary unit that it reaches."""
    amount, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while amount >= 1024 and len(units) > 1:
        amount, units = amount / 1024, units[1:]
    return f"{amount:.0f} {units[0]}" if units[0] == "B" else f"{amount:.1f} {units[0]}"
