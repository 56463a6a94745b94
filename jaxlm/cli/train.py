"""`jaxlm train`: trains one run of a study in this process, with any of its options overridden."""

import argparse
import signal
import typing
from typing import Any

from jaxlm import allocator
from jaxlm.cli.study import PREEMPTED, STOPPED, add_mirror, add_out, data_root
from jaxlm.config import ConfigError

CODES = {"finished": 0, "diverged": 3}


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "train", help="train one run of a study", allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Trains one run of a study on the devices of this process, or goes on with it.\n"
                    "Several hosts train one run together with the same command on each, but for --host-index;\n"
                    "only host 0 writes the record, and --out is a folder that all see.\n\n"
                    "Any field of its configuration is an option:\n"
                    "  jaxlm train quickstart:RUN --model.width=64 --schedule.peak_lr 1e-3 --optimizer.b2=0.99\n"
                    "A changed configuration is another run, in a folder of its own. --show lists the fields.")
    parser.add_argument("target", metavar="STUDY:RUN", help="study file or name, and the run's name")
    add_out(parser)
    parser.add_argument("--checkpoints", metavar="DIR",
                        help="where checkpoints lie, a local folder or gs:// (default: with the records)")
    parser.add_argument("--stop-at", type=int, metavar="K",
                        help="save the state after update K and end with exit code 75; started again, the run goes on")
    add_mirror(parser)
    parser.add_argument("--allocator", choices=typing.get_args(allocator.Allocator), default="auto",
                        help="keep freed memory for the next step: faster, for more memory (default: auto, on CPUs)")
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="of several hosts: where host 0 listens "
                        "(default: JAXLM_COORDINATOR)")
    parser.add_argument("--hosts", type=int, metavar="N", help="how many hosts there are (default: JAXLM_HOSTS)")
    parser.add_argument("--host-index", type=int, metavar="I", help="which of them this is, from 0 "
                        "(default: JAXLM_HOST_INDEX)")
    parser.add_argument("--host-timeout", type=float, metavar="S", default=300.0,
                        help="seconds to wait for the others to come (default: 300)")
    parser.add_argument("--show", action="store_true", help="print the resolved configuration and end")
    parser.set_defaults(run=run, command="train", takes_overrides=True)


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Runs the command, with the other hosts where there are some."""
    if not args.show:
        allocator.choose(args.allocator)
    from jaxlm.cli.failures import explain
    from jaxlm.train import agreement, hosts

    together = None if args.show else hosts.hosts_config(
        args.coordinator, args.hosts, args.host_index, timeout=args.host_timeout)
    with hosts.joined(together, explain):
        code = _train(args, rest)
        agreement.barrier("done")  # a mirror may close slowly, and leaving has a time limit
        return code


def _train(args: argparse.Namespace, rest: list[str]) -> int:
    import json

    from jaxlm import config as configs
    from jaxlm import data
    from jaxlm.sweep import load_study
    from jaxlm.sweep.progress import Display
    from jaxlm.train import hosts, train
    from jaxlm.train.mirrors import check_mirrors
    from scaling.record.files import folder as open_folder

    name, separator, run_name = args.target.rpartition(":")
    configs.require(bool(separator and name and run_name), "target", args.target, "must be STUDY:RUN")
    study = load_study(name)
    config = configs.override(study.run(run_name), parse_overrides(rest))
    if args.show:
        print(json.dumps(configs.to_dict(config), indent=2))
        return 0
    check_mirrors(args.mirror)
    out = open_folder(args.out)
    data.prepare_all(config.data, data_root(out))
    checkpoints = f"{args.checkpoints.rstrip('/')}/{study.name}" if args.checkpoints else None
    stop = _catch_signals()
    # A host that was killed may not have let go of its lease yet.
    wait = 2 * hosts.HEARTBEAT if hosts.team() else 0.0
    with Display(config.folder, work={config.folder: 1.0}) as display:
        display.started(config.folder, updates=config.updates, first=config.parent.step if config.parent else 0)
        outcome = train(
            config, out / study.name, data_root(out), checkpoint_root=checkpoints, stop=stop,
            stop_at=args.stop_at, wait=wait, mirrors=args.mirror, study=study.name,
            report=lambda p: display.progress(config.folder, p.step, p.loss, p.note))
        display.ended(config.folder, outcome.status, outcome.heldout_loss, outcome.reason)
    # Preempted by a signal, or by --stop-at.
    return CODES.get(outcome.status) if outcome.status in CODES else STOPPED.get(outcome.reason, PREEMPTED)


def parse_overrides(words: list[str]) -> dict[str, str]:
    """Returns {dotted field: text} of `--a.b=1` and `--a.b 1`; raises `ConfigError` on anything else."""
    changes: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or len(word) < 3:
            raise ConfigError(f"{word!r}: options are written --field=value or --field value")
        field, separator, value = word[2:].partition("=")
        if not separator:
            if not rest or rest[0].startswith("--"):
                raise ConfigError(f"--{field}: needs a value")
            value = rest.pop(0)
        changes[field] = value
    return changes


def _catch_signals() -> Any:
    """Makes SIGTERM and Ctrl-C stop the run at the next chunk; a second one stops it at once."""
    caught: list[str] = []

    def handle(number: int, frame: Any) -> None:
        caught.append(signal.Signals(number).name)
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
    return lambda: caught[0] if caught else None
