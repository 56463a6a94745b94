"""`jaxlm profile`: where the time and the memory of a run's training step go."""

import argparse
import dataclasses
import json
import typing
from typing import Any

from jaxlm import allocator
from jaxlm.cli import table
from jaxlm.config import override, require

DESCRIPTION = """\
Compiles the training step of a run, traces one call of it on the devices here with random tokens, and prints the
milliseconds of each part, its share of the step, and the rate of its products of matrices over the best that is
measured in the same process at the model's own shapes. Nothing is recorded.

  jaxlm profile STUDY:RUN                      on this machine
  jaxlm profile STUDY:RUN --allocator system   as a process that does not keep freed memory
  jaxlm profile STUDY:RUN --slice v5e-16       from the program compiled for a slice (extra `tpu`), not measured

Fields of the configuration are options as in `jaxlm train`."""
MOST_UPDATES = 4


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "profile", help="where a training step's time and memory go", allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter, description=DESCRIPTION)
    parser.add_argument("target", metavar="STUDY:RUN", help="study file or name, and the run's name")
    parser.add_argument("--updates", type=int, metavar="N",
                        help=f"in the traced call (default: the run's chunk, {MOST_UPDATES} at most)")
    parser.add_argument("--slice", metavar="NAME", help="v4-, v5p- (cores), v5e-, v6e- (chips)")
    parser.add_argument("--ops", type=int, metavar="N", default=5,
                        help="how many instructions to name, of all and of the part `other` (default: 5)")
    parser.add_argument("--allocator", choices=typing.get_args(allocator.Allocator), default="auto",
                        help="as in jaxlm train")
    parser.add_argument("--json", action="store_true", help="print plain data")
    parser.set_defaults(run=run, command="profile", takes_overrides=True)


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Runs the command."""
    from jaxlm.launch.libtpu import prepare_libtpu

    if args.slice:
        prepare_libtpu()
    else:
        allocator.choose(args.allocator)
    from jaxlm.cli.train import parse_overrides
    from jaxlm.sweep import load_study

    name, separator, run_name = args.target.rpartition(":")
    require(bool(separator and name and run_name), "target", args.target, "must be STUDY:RUN")
    require(args.ops >= 0, "ops", args.ops, "must not be negative")
    found = _attribution(override(load_study(name).run(run_name), parse_overrides(rest)), args)
    print(json.dumps(_data(found), indent=2) if args.json else _describe(found, args.ops))
    return 0


def _attribution(config: Any, args: argparse.Namespace) -> Any:
    import jax

    from jaxlm.launch import attribution
    from jaxlm.launch.layouts import best_layout
    from jaxlm.launch.slices import find_slice

    # Else a program from the cache could have the names of the source that it was first compiled from.
    jax.config.update("jax_compilation_cache_include_metadata_in_key", True)
    if args.slice:
        require(args.updates is None, "updates", args.updates, "nothing runs with --slice")
        where = find_slice(args.slice)
        return attribution.from_program(best_layout(config, where), where)
    updates = min(config.chunk, MOST_UPDATES) if args.updates is None else args.updates
    return attribution.measure(config, updates=updates)


def _data(found: Any) -> dict[str, Any]:
    def row(each: Any) -> dict[str, Any]:
        return {name: value for name, value in dataclasses.asdict(each).items() if value != ""} | {
            "share": each.seconds / found.seconds, "of_ceiling": found.of_ceiling(each)}

    return {
        "run": found.run.name, "device": found.device, "source": found.source, "updates": found.updates,
        "seconds": found.seconds, "flops": found.total.flops, "of_ceiling": found.of_ceiling(found.total),
        "ceiling": found.ceiling._asdict(), "usage": found.usage and found.usage._asdict(), "memory": found.memory,
        "parts": [row(each) for each in found.rows], "operations": [row(each) for each in found.operations]}


def _describe(found: Any, count: int) -> str:
    measured = found.source == "trace"
    how = (f"traced over {found.updates} update{'s' if found.updates > 1 else ''} in a call" if measured else
           "from the compiled program: the least times by peak figures, not measured")
    lines = [f"{found.run.name} on {found.device}: {how}", "", _table(found), ""]
    if measured:
        lines += _usage(found)
    lines += [f"ceiling {found.ceiling.flops_per_second / 1e9:,.4g} GFLOP/s: {found.ceiling.product}",
              _memory(found.memory)]
    others = [each for each in found.operations if each.part == "other"]
    for title, operations in (("largest instructions", found.operations), ("of other", others)):
        if count and operations:
            lines += ["", _operations(title, found, operations[:count])]
    return "\n".join(lines)


def _table(found: Any) -> str:
    """The parts, and their sum."""
    rows = [(each.part, *_figures(found, each), f"{each.moved / 1e6:,.1f}",
             table.size(each.buffer) if each.buffer else "-", each.name or "-") for each in found.rows]
    rows.append(("together", *_figures(found, found.total), f"{found.total.moved / 1e6:,.1f}", "", ""))
    titles = ["an update", "ms" if found.source == "trace" else "ms at least", "share", "GFLOP", "of ceiling",
              "MB moved", "largest result", "of"]
    return table.render(titles, rows, left=("an update", "of"))


def _figures(found: Any, each: Any) -> tuple[str, str, str, str]:
    rate = found.of_ceiling(each)
    return (f"{1e3 * each.seconds:.3f}", f"{each.seconds / found.seconds:.1%}",
            f"{each.flops / 1e9:,.3f}" if each.flops else "-", "-" if rate is None else f"{rate:.1%}")


def _usage(found: Any) -> list[str]:
    usage = found.usage
    cpu = usage.user + usage.system
    return [f"without the trace {1e3 * usage.wall:.3f} ms, {1e3 * cpu:.3f} ms of CPU time; of it in the system "
            f"{1e3 * usage.system:.3f} ms ({usage.system / cpu if cpu else 0:.1%}), with {usage.faults:,.0f} page "
            "faults: it is part of the times above"]


def _memory(memory: dict[str, int]) -> str:
    return "bytes: " + ", ".join(f"{name.replace('_', ' ')} {table.size(count)}" for name, count in memory.items())


def _operations(title: str, found: Any, operations: Any) -> str:
    rows = [(each.name, each.part, f"{1e3 * each.seconds:.3f}", f"{each.seconds / found.seconds:.1%}", each.op_name)
            for each in operations]
    return table.render([title, "part", "ms", "share", "made from"], rows, left=(title, "part", "made from"))
