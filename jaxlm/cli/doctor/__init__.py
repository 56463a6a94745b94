"""`jaxlm doctor`: whether runs would be exact here."""

from jaxlm.cli.doctor.command import add_parser

__all__ = ["add_parser"]
