"""The table of `jaxlm doctor`, and its verdict."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from jaxlm.cli import disk
from jaxlm.cli.study import add_out, data_root
from jaxlm.cli.table import render, size
from scaling.record import files

if TYPE_CHECKING:
    from jaxlm.cli.doctor.facts import Facts
    from jaxlm.cli.doctor.place import Place
    from jaxlm.cli.doctor.requirements import Package


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "doctor", help="whether runs would be exact here", allow_abbrev=False,
        description="Shows versions, devices, threads, memory, disk, caches and extras, trains a tiny run "
                    "twice and once with a stop, and says why runs would not be exact here; then the exit "
                    "code is 1.")
    add_out(parser)
    parser.set_defaults(run=run, command="doctor")


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Runs the command."""
    from jaxlm.cli.doctor.facts import gather
    from jaxlm.cli.doctor.problems import problems

    facts = gather(args.out)
    rows = [list(row) for row in report(facts, args.out)]
    print(render(("what", "found"), rows, left=("what", "found")))
    reasons = problems(facts)
    print("\nruns would not be exact here:" if reasons else "\nruns are exact here")
    for line in reasons:
        print(f"  {line}")
    return 1 if reasons else 0


def report(facts: "Facts", out: str) -> list[tuple[str, str]]:
    """Returns the rows of the table."""
    from jaxlm.cli.doctor import facts as here

    rows = [("Python", here.python())]
    for package in [*facts.packages.get("", []), *facts.packages.get("train", [])]:
        verdict = "" if package.fits else "  (does not fit)"
        rows.append((package.name, f"{package.installed or 'not installed'}, asked for "
                                   f"{package.wanted or 'any'}{verdict}"))
    found = facts.conditions
    devices = found and f"{found['devices']} x {', '.join(found['kinds'])}, platform {found['platform']}"
    rows.append(("devices", devices or f"none: {facts.device_error}"))
    rows.append(("processor", str(found.get("processor", ""))))
    rows += here.processor_limits().items()
    rows += [("CPU threads", str(found.get("cpu_threads", "")))]
    rows += [(f"memory {name}", size(value)) for name, value in here.memory().items()]
    rows += [("runs", place_line(facts.place))]
    folder = files.folder(out)
    caches = {"tokens": data_root(folder), "compilation": data_root(folder).parent / "xla"}
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        caches["compilation"] = Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
    rows += [(f"cache of {name}", f"{path}, {size(disk.tree_bytes(path))}") for name, path in caches.items()]
    rows += [(f"extra {extra}", extra_line(extra, packages))
             for extra, packages in facts.packages.items() if extra]
    rows += [(name, value) for name, value in facts.environment.items()]
    if not facts.environment:
        rows.append(("environment", "no variable is set that changes results"))
    test = facts.self_test
    rows.append(("self-test", test.error or f"twice: {verdict_of(test.repeated)}, stopped and restored: "
                 f"{verdict_of(test.resumed)} ({test.seconds:.1f} s)"))
    rows.append(("unfinished runs", str(len(facts.unfinished))))
    return rows


def place_line(place: "Place") -> str:
    """Returns what the folder of runs can do."""
    free = "" if place.free_bytes is None else f", {size(place.free_bytes)} free"
    works = [f"written and flushed: {place.write_error or 'yes'}"]
    works += [] if place.write_error else [f"locks: {place.lock_error or 'yes'}"]
    same = place.path.rstrip("/") == place.tried.rstrip("/")
    there = "" if same else f" (not there yet; {place.tried} tried)"
    return f"{place.path}{there}{free}, {', '.join(works)}"


def extra_line(extra: str, packages: "list[Package]") -> str:
    """Returns `complete`, or what is missing with the command that installs it."""
    missing = [f"{package.name}{package.wanted}" for package in packages if not package.fits]
    return f"missing {', '.join(missing)}: pip install 'jaxlm[{extra}]'" if missing else "complete"


def verdict_of(lines: tuple[str, ...]) -> str:
    """Returns `equal` or how many fields differ."""
    return f"{len(lines)} fields differ" if lines else "equal"
