"""The command line `jaxlm`."""

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    try:
        from jaxlm.cli import commands  # inside, so that Ctrl-C during imports ends in one line too

        return commands.run(argv)
    except KeyboardInterrupt:
        print("jaxlm: interrupted", file=sys.stderr)
        return 130
