"""`jaxlm runs`: its options, and what each of its actions takes."""

import argparse
from pathlib import Path

from jaxlm.config import ConfigError, require

EPILOG = """\
  jaxlm runs                                        the runs under ./runs
  jaxlm runs runs/quickstart --where state=finished --where 'N>1e5' --sort=-loss --limit 5
  jaxlm runs --where config.optimizer.kind=muon --csv muon.csv
  jaxlm runs --rows --parquet rows.parquet          every row of every run: run, step, ...
  jaxlm runs runs/quickstart --watch                what trains now, wherever it does; Ctrl-C ends the table only
  jaxlm runs show RUN --plot curve.png              one run: configuration, attempts, checkpoints
  jaxlm runs compare RUN RUN                        field by field

RUN is a folder, or the name of a run under --under (the beginning will do where no other run begins so).
Operators: = != < <= > >= and ~ (contains); quote those that the shell reads. Fields: run, study, status, N,
D, loss, peak_lr, updates, ... and config.a.b, identity.a.b, result.a, attempt.a.b (the latest)."""

# Which options an action takes; each has a default that stands for its absence.
OPTIONS = {
    "list": {"where": [], "sort": None, "limit": None, "csv": None, "parquet": None, "rows": False},
    "watch": {"watch": False, "every": 2.0},
    "show": {"plot": None, "under": None},
    "compare": {"under": None},
}
COUNTS = {"show": 1, "compare": 2}


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "runs", help="list, filter, show, compare and export recorded runs", allow_abbrev=False,
        usage="jaxlm runs [ROOT ...] [options] | jaxlm runs ROOT --watch | jaxlm runs show RUN | "
              "jaxlm runs compare RUN RUN",
        description="Lists the runs recorded under folders: status, parameters N (with the embedding), "
                    "tokens D, peak learning rate, and the held-out loss in nats per token and, for text, in bits "
                    "per byte.",
        epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="ROOT", help="folders, or show RUN, or compare RUN RUN "
                                                                 "(default: the folder runs)")
    parser.add_argument("--where", action="append", default=[], metavar="FIELD=VALUE",
                        help="only runs of which this holds; may be given again")
    parser.add_argument("--sort", metavar="FIELD", help="ascending; --sort=-FIELD descending")
    parser.add_argument("--limit", type=int, metavar="K", help="the first K runs only")
    parser.add_argument("--csv", metavar="FILE", help="also write the runs listed as a CSV file")
    parser.add_argument("--parquet", metavar="FILE", help="the same as a Parquet file (extra tables)")
    parser.add_argument("--rows", action="store_true", help="the files hold the metrics rows, not the runs")
    parser.add_argument("--watch", action="store_true", help="show the runs while they train, until all have ended")
    parser.add_argument("--every", type=float, default=2.0, metavar="S", help="with --watch: seconds between two looks "
                        "(default: 2)")
    parser.add_argument("--under", metavar="DIR", help="where RUN is looked for by its name (default: runs)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="with `show`: a picture of the losses")
    parser.set_defaults(run=run, command="runs")


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Runs the command."""
    first = args.words[0] if args.words else ""
    action = first if first in COUNTS else "watch" if args.watch else "list"
    for name in sorted({name for options in OPTIONS.values() for name in options} - set(OPTIONS[action])):
        default = next(options[name] for options in OPTIONS.values() if name in options)
        if getattr(args, name) != default:
            where = {"list": "jaxlm runs", "watch": "jaxlm runs --watch"}.get(action, f"jaxlm runs {action}")
            raise ConfigError(f"--{name}: not an option of {where}")
    if action == "list":
        from jaxlm.cli.recorded import listing

        require(args.limit is None or args.limit >= 1, "limit", args.limit, "must be at least 1")
        require(not args.rows or bool(args.csv or args.parquet), "rows", True, "needs --csv or --parquet")
        return listing.run(args, args.words or ["runs"])
    if action == "watch":
        from jaxlm.cli.recorded import watch

        require(args.every > 0, "every", args.every, "must be above 0 seconds")
        return watch.run(args.words or ["runs"], every=args.every)
    names = args.words[1:]
    if len(names) != COUNTS[action]:
        raise ConfigError(f"jaxlm runs {action}: takes {COUNTS[action]} RUN, got {len(names)}")
    if action == "show":
        from jaxlm.cli.recorded import show

        return show.run(names[0], args.under or "runs", plot=args.plot)
    from jaxlm.cli.recorded import compare

    return compare.run(names[0], names[1], args.under or "runs")
