"""`jaxlm refine`: the refined schedule of a recorded run."""

import argparse
import warnings
from pathlib import Path


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "refine", help="refine the schedule of a recorded run by its gradient norms", allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Prints the schedule that the gradient norms of a finished linear-decay run ask for (Defazio et\n"
                    "al. 2023, arXiv 2310.07831): where warm-up and annealing emerge, and whether norms collapse,\n"
                    "where refinement was measured to lose to linear decay. The next run takes it as an option:\n\n"
                    "  jaxlm refine RUN --out refined --plot refined.png\n"
                    "  jaxlm train STUDY:RUN --schedule.kind=array --schedule.path=refined")
    parser.add_argument("target", metavar="RUN", help="a run's folder, or the name of a run under --under")
    parser.add_argument("--under", default="runs", metavar="DIR",
                        help="where RUN is looked for by its name (default: runs)")
    parser.add_argument("--out", metavar="FOLDER", help="write schedule.npy and schedule.json there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw norms and schedules (.png, .pdf, .svg)")
    parser.add_argument("--norm", choices=("l1", "l2"),
                        help="default: by the run's optimizer, l1 for Adam's kind, l2 for SGD")
    parser.add_argument("--peak-lr", type=float, metavar="RATE", help="default: the run's own peak")
    parser.add_argument("--smoothing", type=float, default=0.1, metavar="SHARE",
                        help="window of the running median as a share of the run (default: 0.1)")
    parser.add_argument("--updates", type=int, metavar="T", help="length of the schedule (default: the run's)")
    parser.add_argument("--floor", type=float, default=0.0, metavar="QUANTILE",
                        help="raise smaller norms to this quantile (default: 0, off)")
    parser.add_argument("--cap", type=float, metavar="FACTOR", help="at most so many times linear decay (default: off)")
    parser.set_defaults(run=run, command="refine")


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Runs the command."""
    from jaxlm.cli.recorded.select import find_run
    from jaxlm.recipes import RefinementWarning, refine

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RefinementWarning)  # the table says them
        found = refine(find_run(args.target, args.under), norm=args.norm, peak_lr=args.peak_lr,
                       smoothing=args.smoothing, updates=args.updates, floor=args.floor, cap=args.cap)
    print(found.table())
    if args.plot is not None:  # first, for it may refuse its path
        found.plot(args.plot)
        print(f"drawn: {args.plot}")
    if args.out is not None:
        found.save(args.out)
        print(f"written: {args.out}")
    return 0
