"""`jaxlm plan`: whether runs fit on a slice, how fast they can be at most and what they cost, before it is rented."""

import argparse
import json
from typing import Any

from jaxlm.cli import table
from jaxlm.config import ConfigError, override, require

DESCRIPTION = """\
Compiles the training step of a run for a slice, without a TPU (extra `tpu`), and prints bytes per device,
collectives, the least time of an update and what the run costs. A compilation takes two or three minutes of
CPU time and 2 GiB. Without the compiler, or with --no-compile, all is by formula.

  jaxlm plan STUDY:RUN --slice v5e-256 --mesh.fsdp=64 --mesh.data=4 --price 1.2
  jaxlm plan STUDY:RUN --slice v5e-256 --layouts   meshes ranked by formula
  jaxlm plan STUDY --slice v5e-16                  every run, and their cost together
  jaxlm plan STUDY:RUN                             on the devices of this machine

A run that names no mesh gets the first of --layouts. Fields of the configuration are options as in
`jaxlm train`. Times are the least that peak figures allow; runs are slower."""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "plan", help="compile a run for a TPU slice that is not here: memory, times, cost", allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=DESCRIPTION)
    parser.add_argument("target", metavar="STUDY[:RUN]", help="study file or name, and a run's name")
    parser.add_argument("--slice", metavar="NAME", help="v4-, v5p- (cores), v5e-, v6e- (chips), h100-8, h200-8")
    parser.add_argument("--price", type=float, metavar="P", help="of a chip-hour, in your currency; none is built in")
    parser.add_argument("--layouts", action="store_true", help="rank meshes by formula and end")
    parser.add_argument("--no-compile", action="store_true", help="by formula alone, in a second")
    parser.add_argument("--json", action="store_true", help="print plain data")
    parser.set_defaults(run=run, command="plan", takes_overrides=True)


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Runs the command; a run that does not fit is a mistake, told in one line after its plan."""
    from jaxlm.cli.train import parse_overrides
    from jaxlm.launch.libtpu import prepare_libtpu
    from jaxlm.launch.slices import find_slice

    if args.slice:
        prepare_libtpu()
    require(args.price is None or args.price >= 0, "price", args.price, "must not be negative")
    where = find_slice(args.slice) if args.slice else None
    require(where is not None or not args.layouts, "layouts", True, "needs --slice")
    runs = [override(each, parse_overrides(rest)) for each in _runs(args.target)]
    if args.layouts:
        require(len(runs) == 1, "layouts", args.target, "ranks the meshes of one run: name STUDY:RUN")
        return _rank(runs[0], where, args)
    plans = _plans(runs, where, compiled=not args.no_compile)
    if args.json:
        print(json.dumps(_data(plans, args.price), indent=2))
    else:
        print(_describe(plans[0], args.price) if len(plans) == 1 else _overview(plans, args.price))
    _check_fit(plans)
    return 0


def _runs(target: str) -> list[Any]:
    from jaxlm.sweep import load_study

    name, separator, run_name = target.rpartition(":")
    if separator:
        require(bool(name and run_name), "target", target, "must be STUDY or STUDY:RUN")
        return [load_study(name).run(run_name)]
    study = load_study(target)
    require(bool(study.runs), "target", target, "names no run before its first stage has been trained")
    return list(study.runs)


def _plans(runs: list[Any], where: Any, *, compiled: bool) -> list[Any]:
    from jaxlm.launch.layouts import best_layout
    from jaxlm.launch.plan import plan_runs

    return plan_runs([best_layout(each, where) for each in runs] if where else runs, where, compiled=compiled)


def _check_fit(plans: list[Any]) -> None:
    """Raises `ConfigError` for the run that lacks most bytes, naming the smallest slice that holds it."""
    from jaxlm.launch.layouts import smallest_slice

    worst = max(plans, key=lambda each: (not each.fits, each.over))
    if worst.fits:
        return
    over = f"{table.size(worst.over)} over on each device" if worst.over else "the compiler refuses it"
    line = f"{worst.run.name} does not fit: {over}"
    if worst.where is not None:
        smallest = smallest_slice(worst.run, worst.where, but=worst.run.mesh)
        generation = worst.where.chip.generation
        line += (f"; by formula no {generation} slice holds it" if smallest is None else
                 f"; by formula another mesh of {smallest.name} holds it: --layouts" if smallest == worst.where else
                 f"; by formula the smallest {generation} slice that holds it is {smallest.name}")
    raise ConfigError(line)


def _data(plans: list[Any], price: float | None) -> dict[str, Any]:
    from jaxlm.launch.summary import summary

    return {"plans": [summary(each, price) for each in plans], "total": _total(plans, price)}


def _total(plans: list[Any], price: float | None) -> dict[str, Any]:
    hours = [each.chip_hours for each in plans]
    chip_hours = None if None in hours else sum(hours)
    return {"runs": len(plans), "chip_hours": chip_hours,
            "cost": None if price is None or chip_hours is None else chip_hours * price}


def _rank(config: Any, where: Any, args: argparse.Namespace) -> int:
    from jaxlm.launch.layouts import rank_layouts
    from jaxlm.launch.summary import summary

    plans = rank_layouts(config, where, slices=config.mesh.replica)
    if args.json:
        print(json.dumps([summary(each, args.price) for each in plans], indent=2))
        return 0
    print(f"{config.name} on {where.name}: layouts ranked by formula, not measured\n")
    rows = [(_mesh(each.run.mesh), table.size(each.needed), "yes" if each.fits else "no",
             *(_seconds(getattr(each.roofline, part)) for part in ("compute", "hbm", "ici", "dcn", "seconds")),
             _percent(each.mfu_ceiling)) for each in plans]
    print(table.render(["mesh", "bytes/device", "fits", "compute", "memory", "links", "network", "step at least",
                        "MFU at most"], rows, left=("mesh",)))
    return 0


def _overview(plans: list[Any], price: float | None) -> str:
    """The plans of a study, a line each, and their sum."""
    rows = [(each.run.name, _mesh(each.run.mesh), table.size(each.needed), "yes" if each.fits else "no",
             _seconds(each.seconds) if each.seconds else "-", str(each.updates), _hours(each.chip_hours),
             _money(each, price)) for each in plans]
    titles = ["run", "mesh", "bytes/device", "fits", "step at least", "updates", "chip-hours", "cost"]
    total = _total(plans, price)
    lines = [_title(plans[0]), "", table.render(titles, rows, left=("run", "mesh")), ""]
    if total["chip_hours"] is not None:
        cost = f", {total['cost']:.2f} at {price:g} per chip-hour" if price is not None else ""
        lines.append(f"together at least {_hours(total['chip_hours'])} chip-hours{cost}, without evaluation and starts")
    return "\n".join(lines)


def _describe(plan: Any, price: float | None) -> str:
    """One plan in full."""
    from jaxlm import model

    count = model.parameter_counts(plan.run.model).total
    lines = [f"{plan.run.name}: {_title(plan)}",
             f"mesh {_mesh(plan.run.mesh)}; {count / 1e6:.1f} M parameters; "
             f"{plan.run.tokens_per_update} tokens an update",
             "", _memory(plan)]
    if plan.program:
        lines += ["state donated: every array is written where it was read" if plan.program.donated else
                  "WARNING: the state is not donated, so a second copy of it is held", "", _collectives(plan)]
    lines += ["", _times(plan, price)]
    return "\n".join(lines)


def _title(plan: Any) -> str:
    where = plan.where
    place = "the devices here"
    if where:
        chips = f"{where.chips} chips, {where.hosts} host{'s' if where.hosts > 1 else ''}, {where.topology}"
        place = f"{plan.slices} x {where.name}" if plan.slices > 1 else where.name
        place += f" ({chips}{' each' if plan.slices > 1 else ''})"
    how = "compiled" if plan.program else "refused by the compiler" if plan.refused is not None else plan.note
    return f"{place}; {how}" + ("" if plan.source == "compiler" else "; by formula alone")


def _memory(plan: Any) -> str:
    """Bytes by formula, and beside them what the compiler says."""
    held, program, capacity = plan.held, plan.program, plan.capacity
    share = f"{plan.needed / capacity:.1%} of {table.size(capacity)}" if capacity else "capacity not known"
    figures = [("parameters", held.parameters, None, "exact"),
               ("optimizer state", held.optimizer, None, "exact"),
               ("batches of a call", held.batch, None, "exact"),
               ("all of these", held.state + held.batch, program and program.arguments, "exact"),
               ("temporaries", held.temporaries, program and program.temporaries, "an estimate"),
               ("together", held.total, None if plan.source == "formula" else plan.needed, share)]
    titles = ["bytes per device", "by formula", "by the compiler", "ratio", " "]
    rows = [(title, table.size(formula), table.size(compiled) if compiled else "-",
             f"{formula / compiled:.3f}" if compiled else "-", note) for title, formula, compiled, note in figures]
    kept = (0, 1, 4) if plan.source == "formula" else range(5)
    return table.render([titles[i] for i in kept], [[row[i] for i in kept] for row in rows],
                        left=("bytes per device", " "))


def _collectives(plan: Any) -> str:
    if not plan.program.collectives:
        return "no collectives"
    rows = [(each.kind, str(each.devices), "between slices" if each.crosses else "in a slice", str(each.count),
             table.size(int(each.bytes))) for each in plan.program.collectives]
    return table.render(["collectives of an update", "devices", "where", "count", "received by each"], rows,
                        left=("collectives of an update", "where"))


def _times(plan: Any, price: float | None) -> str:
    roofline = plan.roofline
    if roofline is None:
        return "no peak figures for these devices, so no times"
    parts = ", ".join(f"{title} {_seconds(seconds)}" for title, seconds in (
        ("compute", roofline.compute), ("memory", roofline.hbm), ("links", roofline.ici), ("network", roofline.dcn))
        if seconds)
    if plan.seconds is None:
        return f"no times, for the network between slices is not stated for {plan.chip.generation} ({parts})"
    lines = [f"an update takes at least {_seconds(plan.seconds)} ({parts})",
             f"MFU at most {_percent(plan.mfu_ceiling)}; at most {plan.tokens_per_day / 1e9:.2f} G tokens a day"]
    cost = f", {_money(plan, price)} at {price:g} per chip-hour" if price is not None else ""
    hours = plan.updates * plan.seconds / 3600
    lines.append(f"{plan.updates} updates take at least {_hours(hours)} hours, {_hours(plan.chip_hours)} chip-hours"
                 f"{cost}")
    return "\n".join(lines)


def _mesh(mesh: Any) -> str:
    from jaxlm.parallel import AXES

    lengths = zip(AXES, mesh.shape, strict=True)
    return " ".join(f"{axis}={length}" for axis, length in lengths if length > 1) or "1 device"


def _seconds(seconds: float) -> str:
    if seconds == float("inf"):
        return "not stated"
    if seconds and seconds < 0.0995:
        return f"{1e3 * seconds:.3g} ms"
    return f"{seconds:.3g} s"


def _hours(hours: float | None) -> str:
    if hours is None:
        return "-"
    return "under 0.01" if hours < 0.01 else f"{hours:.3g}" if hours < 100 else f"{hours:.0f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _money(plan: Any, price: float | None) -> str:
    cost = None if price is None else plan.cost(price)
    return "-" if cost is None else f"{cost:.2f}"
