"""`jaxlm study`: trains the runs of a study that have not ended and draws its report."""

import argparse
import sys
from pathlib import Path

STOPPED = {"SIGINT": 130, "SIGTERM": 75}


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "study", help="train a study and draw its report", allow_abbrev=False,
        description="Trains the runs of a study that have not ended, one pinned process per core, then lets the "
                    "study fit, predict and draw. Interrupted, it goes on when started again; finished runs are "
                    "never repeated.")
    parser.add_argument("study", metavar="FILE|NAME", help="a study file, or the name of one in ./experiments")
    add_out(parser)
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes; 0 (default): one per core")
    parser.set_defaults(run=run, command="study")


def add_out(parser: argparse.ArgumentParser) -> None:
    """Adds the option that says where runs lie."""
    parser.add_argument("--out", type=Path, default=Path("runs"), metavar="DIR",
                        help="the folder of all studies (default: runs)")


def data_root(out: Path) -> Path:
    """Where prepared tokens lie for runs under `out`."""
    return out / ".cache" / "data"


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Runs the command."""
    from jaxlm import data
    from jaxlm.sweep import Pool, PoolConfig, load_study
    from scaling.errors import InputError

    study = load_study(args.study)
    root = args.out / study.name
    root.mkdir(parents=True, exist_ok=True)
    print(f"{study.name}: {study.question}")
    for config in dict.fromkeys(run.data for run in study.runs):
        data.prepare_all(config, data_root(args.out))
    diverged: list[str] = []
    with Pool(study, root, data_root(args.out), pool=PoolConfig(workers=args.workers)) as pool:
        for stage in study.stages:
            outcome = pool.run_stage(stage)
            if outcome.stopped:
                print(f"jaxlm: stopped by {outcome.stopped}; the same command goes on from here", file=sys.stderr)
                return STOPPED[outcome.stopped]
            diverged += outcome.diverged
            if outcome.failed:
                print(f"jaxlm: did not end: {', '.join(outcome.failed)}; see {root / 'logs'}", file=sys.stderr)
                return 1
            try:
                if stage.then is not None:
                    stage.then(root)
            except InputError as error:
                if not diverged:
                    raise
                print(f"jaxlm: no answer, for runs diverged: {', '.join(diverged)}: {error}", file=sys.stderr)
                return 3
    if diverged:
        print(f"jaxlm: warning: diverged and left out: {', '.join(diverged)}", file=sys.stderr)
    return 0
