"""`jaxlm runs`: a table of what has been recorded."""

import argparse
import math
from pathlib import Path


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "runs", help="list recorded runs: status, N, D, loss", allow_abbrev=False,
        description="Lists the runs recorded under a folder: status, parameters N (with the embedding), tokens D, "
                    "peak learning rate, and the held-out loss in nats per token and, for text, in bits per byte.")
    parser.add_argument("root", nargs="?", type=Path, default=Path("runs"), help="a folder (default: runs)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the table as a CSV file")
    parser.set_defaults(run=run, command="runs")


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Runs the command."""
    from rich.console import Console
    from rich.table import Table

    from jaxlm.train.lock import is_locked
    from scaling import record
    from scaling.errors import InputError

    table = Table(box=None, header_style="bold")
    for title in ("run", "status", "updates", "N", "D", "peak lr", "nats/token", "bits/byte"):
        table.add_column(title, justify="left" if title in ("run", "status") else "right", no_wrap=True)
    runs, damaged = [], []
    for folder in record.find(args.root):
        try:
            runs.append(record.read(folder))
        except InputError as error:
            damaged.append(str(error))
    for one in runs:
        # The lock of a live process is the proof that a run is really being trained.
        status = one.state if one.state != "running" or is_locked(one.folder) else "interrupted"
        done = int(one.metrics["step"][-1]) + 1 if one.metrics["step"].size else 0
        known, size = not math.isnan(one.heldout_loss), one.identity["bytes_per_token"]
        loss = f"{one.heldout_loss:.4f}" if known else ""
        bits = f"{one.heldout_loss / size / math.log(2):.4f}" if known and size else ""
        table.add_row(one.name, status, f"{done}/{len(one.schedule)}", f"{one.n('total'):,}", f"{one.tokens:,}",
                      f"{one.peak_lr:.3g}", loss, bits)
    console = Console(highlight=False)
    console.width = max(console.width, 110)  # a row that a narrow terminal wraps is still whole
    console.print(table if runs else f"no runs under {args.root}")
    for one in runs:
        for note in one.notes:
            console.print(f"{one.name}: {note}", style="yellow", markup=False)
    for line in damaged:
        console.print(line, style="yellow", markup=False)
    if args.csv:
        record.to_csv(runs, args.csv)
    return 0
