"""The command line `jaxlm`."""

from jaxlm.cli.main import main

__all__ = ["main"]
