"""Executables that stand for tools."""

import pathlib


def script(path: pathlib.Path, text: str) -> None:
    """Writes an executable."""
    path.write_text(text)
    path.chmod(0o755)
