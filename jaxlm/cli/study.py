"""`jaxlm study`: trains the runs of a study that have not ended and draws its report."""

import argparse
import sys
from pathlib import Path
from typing import Any

from jaxlm.config import ConfigError, require

PREEMPTED = 75
STOPPED = {"SIGINT": 130, "SIGTERM": PREEMPTED}

EPILOG = """\
  jaxlm study quickstart                                     on the cores of this machine, one run each
  jaxlm study quickstart --estimate --flops-per-second 5e9   what it will cost; nothing is trained
  jaxlm study quickstart --executor slurm --option partition=cpu --option minutes=60
  jaxlm study quickstart --executor emit --out gs://bucket/runs --option arguments=--mesh.fsdp=16

Executors and their options (--option NAME=VALUE, may be given again):
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "study", help="train a study and draw its report", allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Trains the runs of a study that have not ended, then lets the study fit, predict and draw.\n"
                    "Interrupted, or by another executor, it goes on from the records when started again; finished\n"
                    "runs are never repeated. Jobs of Slurm outlive their driver: while they are in the queue, it\n"
                    "does not start.",
        epilog=EPILOG + OPTIONS)
    parser.add_argument("study", metavar="FILE|NAME", help="a study file, or the name of one in ./experiments")
    add_out(parser)
    parser.add_argument("--executor", default="pool", metavar="NAME", help="pool (default), slurm or emit")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="of the executor")
    parser.add_argument("--workers", metavar="N",
                        help="the pool's option workers: processes; 0 (default): one per core")
    parser.add_argument("--retries", type=int, default=1, metavar="N",
                        help="how often a failed run is started again (default: 1); a preempted one always is")
    parser.add_argument("--retry-diverged", action="store_true", help="start runs again that diverged")
    parser.add_argument("--estimate", action="store_true", help="print what the study will cost and end")
    parser.add_argument("--flops-per-second", type=float, metavar="F",
                        help="with --estimate: the speed of one run (default: as recorded on this machine)")
    add_mirror(parser)
    parser.set_defaults(run=run, command="study")


OPTIONS = """\
  pool    workers, platform, cache, allocator (auto, keep or system)
  slurm   minutes, partition, account, qos, constraint, gres, cpus, gpus, memory_gb, parallel, grace, poll, cluster
          (slurm; local runs the jobs here), cache
  emit    program, arguments, checkpoints, cache; writes emit/runs.jsonl, a line a run with its command, what it waits
          for and its estimate; trains nothing

cache: folder or URL (gs://, s3://) of the compilations that all runs share (default: beside the studies)."""


def add_out(parser: argparse.ArgumentParser) -> None:
    """Adds the option that says where runs lie."""
    parser.add_argument("--out", default="runs", metavar="DIR", help="the folder of all studies (default: runs)")


def add_mirror(parser: argparse.ArgumentParser) -> None:
    """Adds the option that copies records elsewhere."""
    parser.add_argument("--mirror", action="append", default=[], metavar="tensorboard|wandb",
                        help="also copy the rows of the records there; may be given twice (extra `track`)")


def data_root(out: Any) -> Path:
    """Where prepared tokens lie for runs under `out`: on a local disk, whatever `out` is."""
    return (out if isinstance(out, Path) else Path("runs")) / ".cache" / "data"


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Runs the command."""
    from jaxlm import data
    from jaxlm.sweep import RetryPolicy, load_study, make_executor
    from jaxlm.train.mirrors import check_mirrors
    from scaling import record
    from scaling.record.files import folder as open_folder

    require(args.flops_per_second is None or (args.estimate and args.flops_per_second > 0), "flops-per-second",
            args.flops_per_second, "must be positive, and goes with --estimate")
    policy, options = RetryPolicy(failed=args.retries, diverged=args.retry_diverged), _options(args)
    study, out = load_study(args.study), open_folder(args.out)
    require(isinstance(out, Path) or args.executor == "emit" or args.estimate, "out", args.out,
            "a study and its report need a local folder; `--executor emit` and `jaxlm train STUDY:RUN` take a URL")
    root = out / study.name
    if args.estimate:
        from jaxlm.cli import estimate

        return estimate.run(study, root, flops_per_second=args.flops_per_second)
    check_mirrors(args.mirror)
    executor = make_executor(args.executor, study, root, data_root(out), options=options, policy=policy,
                             mirrors=tuple(args.mirror))
    if isinstance(root, Path):
        root.mkdir(parents=True, exist_ok=True)
    print(f"{study.name}: {study.question}")
    with record.run_lock(root):
        if args.executor != "emit":  # which trains nothing here
            for config in dict.fromkeys(run.data for run in study.runs):
                data.prepare_all(config, data_root(out))
        with executor:
            return _run_stages(study, root, executor)


def _options(args: argparse.Namespace) -> dict[str, str]:
    """Returns the options of the executor as text by name; raises `ConfigError` for what is none."""
    words = [*args.option, *([f"workers={args.workers}"] if args.workers is not None else [])]
    options = {}
    for word in words:
        name, separator, value = word.partition("=")
        if not (separator and name):
            raise ConfigError(f"option = {word!r}: must be NAME=VALUE")
        options[name] = value
    return options


def _run_stages(study: Any, root: Any, executor: Any) -> int:
    """Has one stage after another trained and calls its hook; returns the exit code."""
    from scaling.errors import InputError

    diverged: list[str] = []
    emitted: list[str] = []
    for index in range(len(study.stages)):
        try:
            if emitted and study.stages[index].plan is not None:
                return _tell_emitted(study, root, emitted, index)
            study = study.planned(index, root)
            stage = study.stages[index]
            outcome = executor.run_stage(stage)
            if outcome.stopped:
                print(f"jaxlm: stopped by {outcome.stopped}; the same command goes on from here{outcome.when}",
                      file=sys.stderr)
                return STOPPED[outcome.stopped]
            diverged += outcome.diverged
            emitted += outcome.emitted
            if outcome.failed:
                return _tell_failed(outcome)
            if stage.then is not None and not emitted and isinstance(root, Path):
                stage.then(root)
        except InputError as error:
            if not diverged:
                raise
            print(f"jaxlm: no answer, for runs diverged: {', '.join(diverged)}: {error}", file=sys.stderr)
            return 3
    if emitted:
        return _tell_emitted(study, root, emitted, len(study.stages))
    if diverged:
        print(f"jaxlm: warning: diverged and left out: {', '.join(diverged)}", file=sys.stderr)
    if not isinstance(root, Path):
        print(f"all runs have ended; the report is drawn from a local copy of {root}")
    return 0


def _tell_failed(outcome: Any) -> int:
    for name in outcome.failed:
        reason = outcome.reasons.get(name, "without a reason")
        print(f"jaxlm: {name}: {outcome.statuses[name]}, {reason}", file=sys.stderr)
    print(f"jaxlm: did not end: {', '.join(outcome.failed)}; see {outcome.logs}", file=sys.stderr)
    return 1


def _tell_emitted(study: Any, root: Any, emitted: list[str], after: int) -> int:
    """Says what was written and what comes after it; `after` is the index of the first stage that is not."""
    print(f"{len(emitted)} run{'s' * (len(emitted) > 1)} to train, written to {root / 'emit' / 'runs.jsonl'}")
    left = [stage.title for stage in study.stages[after:]]
    following = f"plans the stage{'s' * (len(left) > 1)} {', '.join(left)}" if left else "draws the report"
    print(f"when they have ended, the same command goes on from their records and {following}")
    return 0
