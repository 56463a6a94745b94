"""`jaxlm runs`: the table of runs, their bytes on disk, and files of them."""

import argparse
import collections
import math
import sys
from collections.abc import Sequence

from jaxlm.cli import disk
from jaxlm.cli.recorded.select import filtered
from jaxlm.cli.table import render, size
from scaling import record
from scaling.record import export
from scaling.record.summary import Summary

TITLES = ("run", "status", "updates", "N", "D", "peak lr", "nats/token", "bits/byte")


def run(args: argparse.Namespace, roots: Sequence[str]) -> int:
    """Prints the runs under `roots` that `args` selects, and writes the files that it asks for."""
    targets = {form: getattr(args, form) for form in ("csv", "parquet") if getattr(args, form)}
    for form, path in targets.items():
        export.check_target(path, form)
    found, damaged = record.summaries(*roots)
    runs = filtered(found, args.where, sort=args.sort)[:args.limit]
    if runs:
        print(render(TITLES, [cells(one) for one in runs], left=("run", "status")))
        print("\n" + "\n".join(study_lines(runs)))
    else:
        where = ", ".join(map(str, roots))
        print(f"none of the {len(found)} runs under {where} is so" if found else f"no runs under {where}")
    for line in damaged:
        print(f"damaged, left out: {line}", file=sys.stderr)
    if targets:
        columns = (export.metrics_table(record.read(one.folder) for one in runs) if args.rows
                   else export.run_table(runs))
        for form, path in targets.items():
            export.save(columns, path, form=form)
    return 0


def cells(one: Summary) -> list[str]:
    """Returns the row of one run."""
    loss, bits = ("" if math.isnan(value) else f"{value:.4f}"
                  for value in (one.heldout_loss, one.bits_per_byte))
    return [one.name, one.state, f"{one.updates}/{one.length}", f"{one.n('total'):,}", f"{one.tokens:,}",
            f"{one.peak_lr:.3g}", loss, bits]


def study_lines(runs: Sequence[Summary]) -> list[str]:
    """Returns a line for each study: its runs, and the bytes of their checkpoints and metrics."""
    studies = collections.defaultdict(list)
    for one in runs:
        studies[one.study or "(no study)"].append(one.folder)
    lines = []
    for study, folders in studies.items():
        saved, rows, more = (sum(disk.tree_bytes(folder / part) for folder in folders)
                             for part in ("checkpoints", "metrics", "diagnostics"))
        lines.append(f"{study}: {len(folders)} run{'s' * (len(folders) > 1)}, checkpoints {size(saved)}, "
                     f"metrics {size(rows + more)}")
    return lines
