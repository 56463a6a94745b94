"""The command line `jaxlm`."""

import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    # Until a command that has something to save puts its own in place, and while imports take their time.
    before = signal.signal(signal.SIGTERM, _preempted)
    try:
        from jaxlm.cli import commands

        return commands.run(argv)
    except KeyboardInterrupt:
        print("jaxlm: interrupted", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)


def _preempted(number: int, frame: object) -> NoReturn:
    print("jaxlm: preempted", file=sys.stderr)
    raise SystemExit(75)
