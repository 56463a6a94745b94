"""`jaxlm launch`: has a study, or one run of it, trained on slices that a cloud or a cluster lends."""

import argparse
import re
import sys
from typing import Any

from jaxlm.config import ConfigError, nearest, require

KINDS = ("queued", "xpk", "slurm")
# Which options belong to which tool; each is absent by default.
OPTIONS = {
    "project": ("queued", "xpk"), "zone": ("queued", "xpk"), "spot": ("queued", "xpk"),
    "code": ("queued",), "service_account": ("queued",), "internal_ips": ("queued",),
    "babysit": ("queued",), "poll": ("queued",), "attempts": ("queued",), "stall": ("queued",),
    "cluster": ("xpk",), "image": ("xpk",), "sbatch": ("slurm",),
}
POLICY = ("attempts", "stall", "poll")
DESCRIPTION = """\
Prints (--dry-run) or runs what makes a tool train a study, or one run STUDY:RUN, on slices:
  queued   Cloud TPU queued resources, by gcloud
  xpk      a JobSet on GKE, by xpk
  slurm    a batch script for GPU nodes, by sbatch
A run takes any field of its configuration as an option (--mesh.fsdp=64); the runs of a study take --mesh.* only.
The guide is tpu_setup/README.md."""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "launch", help="train a study on TPU slices or GPU nodes", allow_abbrev=False, description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", metavar="STUDY[:RUN]", help="study file or name, and the run's name for one run")
    parser.add_argument("--slice", required=True, metavar="NAME", help="such as v5e-256 or h100-8")
    parser.add_argument("--with", dest="kind", required=True, metavar="queued|xpk|slurm", help="the tool")
    parser.add_argument("--out", required=True, metavar="URL", help="where records go, gs://BUCKET/... for pods")
    parser.add_argument("--num-slices", type=int, default=1, metavar="N", help="slices, or nodes, in one job")
    parser.add_argument("--name", help="what the tool calls the job (default: jaxlm-STUDY)")
    parser.add_argument("--project", help="Google Cloud project")
    parser.add_argument("--zone", help="its zone")
    parser.add_argument("--spot", action="store_true", default=None, help="spot capacity, which may be taken back")
    parser.add_argument("--code", metavar="URL", help="queued: the source tree, gs://.../jaxlm.tar.gz")
    parser.add_argument("--service-account", metavar="EMAIL", help="queued: whose rights the hosts have")
    parser.add_argument("--internal-ips", action="store_true", default=None,
                        help="queued: hosts without external addresses (needs Cloud NAT)")
    parser.add_argument("--cluster", help="xpk: name of the cluster")
    parser.add_argument("--image", help="xpk: container image (tpu_setup/Dockerfile)")
    parser.add_argument("--sbatch", action="append", metavar="NAME=VALUE", help="slurm: a further option of sbatch")
    parser.add_argument("--babysit", action="store_true", default=None,
                        help="queued: stay, and ask again for slices that were taken back, until the runs have ended")
    parser.add_argument("--attempts", type=int, metavar="N", help="babysit: fruitless attempts in a row (default: 5)")
    parser.add_argument("--stall", type=float, metavar="S", help="babysit: seconds without an update (default: 7200)")
    parser.add_argument("--poll", type=float, metavar="S", help="babysit: seconds between two looks (default: 60)")
    parser.add_argument("--dry-run", action="store_true", help="print files and commands; create nothing")
    parser.set_defaults(run=run, command="launch", takes_overrides=True)


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Runs the command."""
    from jaxlm.launch.babysit import Policy, QueuedResources
    from jaxlm.launch.job import render
    from jaxlm.launch.tools import check_tools, run_launch

    _check_options(args)
    study, job, runs = _job(args, rest)
    launch, queued = _launch(job, args)
    given = {name: getattr(args, name) for name in POLICY if getattr(args, name) is not None}
    policy = Policy(**given)
    if args.babysit:
        _warn_of_unsaved(runs)
    if args.dry_run:
        print(render(launch), end="")
        return 0
    check_tools(args.kind)
    if args.babysit:
        return _babysit(study, QueuedResources(job=job, options=queued), policy, None if job.before else runs[0])
    run_launch(launch)
    return 0


def _check_options(args: argparse.Namespace) -> None:
    require(args.kind in KINDS, "with", args.kind, f"must be one of {', '.join(KINDS)}{_guess(args.kind)}")
    for name, kinds in OPTIONS.items():
        if getattr(args, name) is not None and args.kind not in kinds:
            raise ConfigError(f"--{name.replace('_', '-')}: not an option of --with {args.kind}")
    for name in POLICY:
        if getattr(args, name) is not None and not args.babysit:
            raise ConfigError(f"--{name}: goes with --babysit")


def _guess(kind: str) -> str:
    guess = nearest(kind, list(KINDS))
    return guess if "did you mean" in guess else ""


def _job(args: argparse.Namespace, rest: list[str]) -> tuple[Any, Any, list[Any]]:
    """Returns the study, the job, and the runs known so far that it trains."""
    from jaxlm import config as configs
    from jaxlm.cli.train import parse_overrides
    from jaxlm.launch.job import Job
    from jaxlm.launch.slices import find_slice
    from jaxlm.sweep import load_study

    where = find_slice(args.slice)
    target, separator, run_name = args.target.rpartition(":")
    require(args.kind == "slurm" or not target.startswith(("/", "..")), "study", target,
            "must lie in the tree that the hosts are given")
    study = load_study(target if separator else args.target)
    changes = parse_overrides(rest)
    options = [f"--{field}={value}" for field, value in changes.items()]
    out = args.out.rstrip("/")
    if separator:
        runs = [configs.override(study.run(run_name), changes)]
        command = ("jaxlm", "train", args.target, "--out", out, *options)
        before: tuple[tuple[str, ...], ...] = ()
    else:
        for field in changes:
            if not field.startswith("mesh."):
                raise ConfigError(f"--{field}: a study's runs take --mesh.* only; edit the study, or name one run")
        runs = [configs.override(each, changes) for each in study.runs]
        emit = ("jaxlm", "study", args.target, "--executor", "emit", "--out", out)
        before = ((*emit, *(["--option", f"arguments={' '.join(options)}"] if options else [])),)
        command = ("python", "-m", "jaxlm.launch.work", f"{out}/{study.name}/emit/runs.jsonl")
    for each in runs:
        _check_mesh(each, where, args.num_slices)
    name = args.name or _job_name("jaxlm", study.name, *([runs[0].folder] if separator else []))
    job = Job(name=name, command=command, where=where, slices=args.num_slices, out=out, before=before)
    return study, job, runs


def _job_name(*words: str) -> str:
    """Returns the words as a job's name; one that is too long ends in a hash of all of it."""
    import hashlib

    name = re.sub("[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")
    return name if len(name) <= 28 else f"{name[:21].rstrip('-')}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def _warn_of_unsaved(runs: list[Any]) -> None:
    unsaved = [run.name for run in runs if run.checkpoint.every == 0]
    if unsaved:
        more = f" and {len(unsaved) - 1} more" if len(unsaved) > 1 else ""
        print(f"jaxlm: warning: checkpoint.every = 0 in run {unsaved[0]}{more}: what a preemption stops begins anew",
              file=sys.stderr)


def _check_mesh(config: Any, where: Any, slices: int) -> None:
    import math

    shape, devices = config.mesh.shape, where.chips * slices
    require(math.prod(shape) == devices, f"mesh of run {config.name}", tuple(shape),
            f"has {math.prod(shape)} devices, {slices} x {where.name} {devices}: give --mesh.fsdp and others")
    tpu = where.compiler_name is not None  # whose slices are joined by the data-centre network alone
    require(not tpu or config.mesh.replica % slices == 0, "mesh.replica", config.mesh.replica,
            f"must be divisible by num-slices = {slices}: other axes do not reach across slices")


def _launch(job: Any, args: argparse.Namespace) -> tuple[Any, Any]:
    """Returns the launch, and the options of queued resources, None for another tool."""
    if args.kind == "queued":
        from jaxlm.launch.queued_resources import QueuedOptions, queued_launch

        queued = QueuedOptions(project=args.project, zone=args.zone, code=args.code, spot=bool(args.spot),
                               service_account=args.service_account, internal_ips=bool(args.internal_ips))
        return queued_launch(job, queued), queued
    if args.kind == "xpk":
        from jaxlm.launch.xpk import XpkOptions, xpk_launch

        return xpk_launch(job, XpkOptions(project=args.project, zone=args.zone, cluster=args.cluster, image=args.image,
                                          spot=bool(args.spot))), None
    from jaxlm.launch.slurm_script import SlurmOptions, slurm_launch

    return slurm_launch(job, SlurmOptions(sbatch=tuple(args.sbatch or ()))), None


def _babysit(study: Any, cloud: Any, policy: Any, run: Any | None) -> int:
    """Watches the job until `run`, or all runs of the study stage by stage, have ended; returns the exit code."""
    from jaxlm.launch.babysit import babysit
    from jaxlm.launch.progress import read_progress
    from jaxlm.launch.tools import run as run_tool
    from jaxlm.sweep import load_study
    from scaling.record.files import folder as open_folder

    job = cloud.job
    root = open_folder(job.out) / study.name
    progress, known = None, set()
    while True:
        for words in job.before:  # writes down also what a stage has planned from the records of those before
            run_tool(words)
        runs = [run] if run else load_study(f"{root}/emit/study.json").runs
        names = {each.folder for each in runs}
        if names == known:
            return 3 if progress and {*progress.diverged, *progress.lost} == names else 0
        known = names
        try:
            decision, progress = babysit(cloud, lambda runs=runs: read_progress(root, runs), policy,
                                         say=lambda line: print(line, flush=True))
        except KeyboardInterrupt:
            print("jaxlm: the slices are left as they are; the same command goes on watching", file=sys.stderr)
            raise
        if decision.phase == "failed":
            print(f"jaxlm: {job.name}: {decision.reason}", file=sys.stderr)
            return 1
        for what in ("diverged", "lost"):
            if found := getattr(progress, what):
                print(f"jaxlm: warning: {what}: {', '.join(found)}", file=sys.stderr)
