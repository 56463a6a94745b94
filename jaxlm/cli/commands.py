"""Parses the command line, runs a command, and turns what it meets into an exit code.

0 done (warnings included), 1 the environment or a fault of ours, 2 the user's mistake, 3 diverged,
75 preempted (start it again), 130 Ctrl-C.
"""

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from jaxlm.cli import (
    checkpoints, data, doctor, failures, launch, memory, optimizers, plan, profile, recommend, refine, runs, study,
    train)
from jaxlm.config import ConfigError

DESCRIPTION = """\
Train families of language models, record every run, and go on from the records.

  jaxlm study quickstart            train a study and draw its report
  jaxlm runs runs/quickstart        what has been recorded
  jaxlm train quickstart:RUN        one run of a study, with options overridden
  jaxlm data info                   the text that runs read

Laws are fitted to the records by the command `scaling`.
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line, like every other mistake."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")


def run(argv: Sequence[str] | None) -> int:
    """Parses `argv`, runs its command and returns the exit code; Ctrl-C passes through."""
    parser = _Parser(prog="jaxlm", description=DESCRIPTION, allow_abbrev=False,
                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (study, train, plan, profile, launch, data, runs, checkpoints, recommend, refine, optimizers, memory,
                    doctor):
        command.add_parser(commands)
    _quieten()
    try:
        args, rest = parser.parse_known_args(argv)
        if rest and not getattr(args, "takes_overrides", False):
            raise ConfigError(f"{rest[0]}: no such option; see jaxlm {args.command} --help")
        code = args.run(args, rest)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except failures.KNOWN as error:
        code, line = failures.explain(error)
        print(f"jaxlm: {line}", file=sys.stderr)
        return code


def _quieten() -> None:
    """Keeps Orbax's and TensorStore's threads from printing: what a user must know comes in our own lines.

    They log warnings about uses that are meant, and a traceback each for a write that failed, whose
    error reaches us too.
    """
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", message="coroutine .* was never awaited")
    show = sys.unraisablehook
    sys.unraisablehook = lambda hook: None if str(hook.exc_value) == "Event loop is closed" else show(hook)
