"""The command `scaling import`."""

import argparse
from pathlib import Path

from scaling import importers
from scaling.errors import InputError
from scaling.importers import declared
from scaling.importers.log import METRICS

FORMATS = ("maxtext", "tensorboard", "wandb")

_DESCRIPTION = """Turns the log of another trainer into a run record. What the log does not say must be
declared with --set (the command without it names all that is missing): counts, unit and seed are never
guessed."""

_EXAMPLES = """examples:
  scaling import maxtext metrics.jsonl --out runs/m --set state=finished seed=0 params.total=124e6 \\
      params.non_embedding=85e6 params.with_head=124e6 tokens_per_update=524288 \\
      loss_unit=nats/token corpus.name=c4
  scaling import tensorboard logs/run --out runs/t --identity run.json \\
      --columns train_loss=learning/loss lr=learning/current_learning_rate
  scaling import wandb loss.csv lr.csv --run brisk-pond-1 --out runs/w --identity run.json \\
      --columns train_loss=train/loss lr=train/lr --first-step 1

run.json holds the fields of --set: {"state": "finished", "seed": 0, "params": {"total": ...}, ...}"""


def add_to(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the subcommands of `scaling`."""
    parser = commands.add_parser(
        "import", help="turn another trainer's log into a run record", description=_DESCRIPTION,
        epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    help_format = "maxtext: JSON lines; tensorboard: event file or folder; wandb: CSV of charts, or a history"
    parser.add_argument("format", choices=FORMATS, help=help_format)
    parser.add_argument("source", nargs="+", type=Path, metavar="SOURCE", help="file or folder of the log")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder of the new record")
    names = ", ".join(field.name for field in declared.FIELDS)
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE",
                        help=f"what the log does not say: {names}")
    parser.add_argument("--identity", type=Path, metavar="FILE.json", help="JSON file with fields of --set")
    parser.add_argument("--columns", nargs="+", action="extend", default=[], metavar="METRIC=NAME",
                        help=f"where the log calls them otherwise: {', '.join(METRICS)}")
    parser.add_argument("--run", dest="run_name", help="run to take from a file of several (maxtext, wandb)")
    parser.add_argument("--schedule", type=Path, metavar="FILE.npy",
                        help="rate of every update, where the log lacks it (default: the log's lr, "
                        "interpolated linearly between rows)")
    parser.add_argument("--updates", type=int, metavar="T",
                        help="updates made, where the log ends earlier (default: last row, or the schedule)")
    parser.add_argument("--first-step", type=int, choices=(0, 1), default=0,
                        help="number that the log gives to the first update (default: 0)")
    parser.set_defaults(run=_import)


def _import(arguments: argparse.Namespace) -> None:
    log = _read(arguments)
    given = declared.declarations(arguments.set, arguments.identity)
    notes = importers.write_record(
        log, arguments.out, given, schedule=arguments.schedule, updates=arguments.updates,
        first_step=arguments.first_step)
    rows = sum(len(attempt) for attempt in log.attempts)
    print(f"{rows} rows of {', '.join(name for name in log.columns if name != 'step')}")
    for note in notes:
        print(f"note: {note}")
    print(f"saved: {arguments.out}")


def _read(arguments: argparse.Namespace) -> importers.Log:
    columns = dict(_column(text) for text in arguments.columns)
    if arguments.format == "maxtext":
        return importers.read_maxtext(arguments.source, columns, run=arguments.run_name)
    if arguments.format == "wandb":
        return importers.read_wandb(arguments.source, columns, run=arguments.run_name)
    if arguments.run_name is not None:
        raise InputError("--run: a TensorBoard folder is one run; give the folder of the run that you want")
    if len(arguments.source) > 1:
        raise InputError(f"SOURCE: {len(arguments.source)} given: tensorboard takes one file or folder")
    return importers.read_tensorboard(arguments.source[0], columns)


def _column(text: str) -> tuple[str, str]:
    metric, equals, name = text.partition("=")
    if not (metric and equals and name):
        raise InputError(f"--columns {text}: must read METRIC=NAME")
    return metric, name
