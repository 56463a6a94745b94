"""`jaxlm checkpoints`: which checkpoints there are, why each is kept, and which would go."""

import argparse
import dataclasses
import os
import shutil
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxlm.cli import disk
from jaxlm.cli.table import render, size
from jaxlm.config import ConfigError, from_dict
from scaling import record
from scaling.errors import InputError
from scaling.record import files, lock
from scaling.record.summary import Summary

BUSY = "being trained"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """A checkpoint, or what an interrupted save or deletion left: name, bytes, why it is kept (or not)."""

    name: str
    bytes: int
    reasons: tuple[str, ...]


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "checkpoints", help="which checkpoints are kept and why; delete the others", allow_abbrev=False,
        description="Lists the checkpoints of the runs under folders, why each is kept, and which would go "
                    "by the policy that the run was recorded with, or by another. Nothing is deleted without "
                    "--delete. Never deleted: the newest checkpoint of a run, one that a run of the same "
                    "study branches off, and anything of a run that is being trained.")
    parser.add_argument("roots", nargs="*", default=["runs"], metavar="ROOT", help="folders (default: runs)")
    parser.add_argument("--latest", type=int, metavar="K", help="keep the newest K")
    parser.add_argument("--every", type=int, metavar="N", help="keep every N updates; 0 for none")
    parser.add_argument("--best", type=int, metavar="K",
                        help="keep the K of lowest held-out loss; 0 for none")
    parser.add_argument("--checkpoints", metavar="DIR",
                        help="where checkpoints lie, as given to `jaxlm train` (default: with the records)")
    parser.add_argument("--delete", action="store_true", help="delete what the list says would go")
    parser.set_defaults(run=run, command="checkpoints")


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Runs the command."""
    changes = {field: value for field, value in (
        ("latest", args.latest), ("keep_every", args.every), ("best", args.best)) if value is not None}
    config_of({}, changes)  # a wrong value ends the command before anything is read
    studies = defaultdict(list)
    for folder in dict.fromkeys(folder for root in args.roots for folder in record.find(root)):
        studies[folder.parent].append(folder)
    places = [files.folder(args.checkpoints)] if args.checkpoints else studies
    if args.delete and any(not isinstance(place, Path) for place in places):
        raise ConfigError("delete = True: only local checkpoints are deleted; the list works anywhere")
    totals = [0, 0]
    for parent, folders in sorted(studies.items(), key=lambda item: str(item[0])):
        study = StudyFolder(parent, args.checkpoints)
        counted = [sum(column) for column in zip(*[
            show(folder, changes, study, delete=args.delete) for folder in folders])]
        print(f"{parent}: {len(folders)} run{'s' * (len(folders) > 1)}, {total(*counted)}\n")
        totals = [a + b for a, b in zip(totals, counted[2:])]
    if not studies:
        print(f"no runs under {', '.join(args.roots)}")
    elif args.delete:
        print(f"deleted {totals[0]}, {size(totals[1])}")
    else:
        print("nothing was deleted" + ("; --delete deletes what would go" if totals[0] else ""))
    return 0


def show(folder: Path, changes: dict[str, int], study: "StudyFolder", *, delete: bool) -> list[int]:
    """Prints a run's table; returns number and bytes of its checkpoints, and of those that go."""
    try:
        name, entries = plan(folder, changes, study)
    except InputError as error:
        print(f"damaged, left out: {error}", file=sys.stderr)
        return [0, 0, 0, 0]
    if not entries:
        return [0, 0, 0, 0]
    rows = [[entry.name, size(entry.bytes), ", ".join(entry.reasons) or "would go"] for entry in entries]
    print(name)
    print("\n".join(f"  {line}" for line in render(("step", "bytes", "kept because"), rows,
                                                   left=("kept because",)).splitlines()))
    going = [entry for entry in entries if not entry.reasons]
    if delete and going:
        going = delete_entries(folder, changes, study, going=going)
    count = [len(entries), sum(e.bytes for e in entries), len(going), sum(e.bytes for e in going)]
    print(f"  {total(*count)}\n")
    return count


def total(number: int, held: int, going: int, freed: int) -> str:
    """Returns a line that sums up checkpoints and those that go."""
    return f"{number} checkpoint{'s' * (number != 1)}, {size(held)}; {going} to go, {size(freed)}"


class StudyFolder:
    """The runs in one folder: the branch points they name, and where their checkpoints lie.

    Runs that have come since are read when asked.
    """

    def __init__(self, parent: Path, checkpoints: str | None = None) -> None:
        self._parent = parent
        self._checkpoints = checkpoints
        self._known: dict[str, tuple[str, dict[str, Any] | None] | None] = {}

    def holder(self, one: Summary) -> Path:
        """Returns the folder that holds the run's folder `checkpoints`, its own where no other was named."""
        if not self._checkpoints:
            return one.folder
        return files.folder(self._checkpoints) / one.study / one.folder.name

    def reasons(self, one: Summary, step: int) -> list[str]:
        """Returns why branches keep the checkpoint of `one` after `step` updates."""
        why = []
        for found in self._read():
            if found is None:
                why.append("a damaged record beside it may be its branch")
            elif found[1] and found[1]["step"] == step and found[1]["run"] in (one.name, one.folder.name):
                why.append(f"branch point of {found[0]}")
        return why

    def _read(self) -> list[tuple[str, dict[str, Any] | None] | None]:
        """The name of each run and the checkpoint it starts from, None for a damaged record; identities never change."""
        for path in sorted(self._parent.iterdir()):
            if path.name not in self._known and (path / "run.json").exists():
                try:
                    one = record.summarise(path)
                    self._known[path.name] = one.name, one.identity["parent"] or one.initial
                except InputError:
                    self._known[path.name] = None
        return list(self._known.values())


def plan(folder: Path, changes: dict[str, int], study: StudyFolder) -> tuple[str, list[Entry]]:
    """Returns the run's title and what lies among its checkpoints, with the reasons to keep each.

    `changes` replaces fields of the recorded policy. Raises `InputError` where the record is damaged.
    """
    from jaxlm.train.keep import kept

    one = record.summarise(folder)
    holder = study.holder(one)
    steps = disk.saved_steps(holder)
    if not steps and not disk.leftovers(holder):
        return one.name, []
    recorded = one.identity["config"].get("checkpoint")
    if recorded is None and not changes:  # the record of another trainer
        reasons = {step: ["no policy recorded"] for step in steps}
    else:
        reasons = kept(config_of(recorded or {}, changes), losses(folder, steps))
    for step in steps:
        reasons[step] += study.reasons(one, step)
    if steps:
        reasons[steps[-1]].append("final" if one.state == "finished" else "newest of an unfinished run")
    busy = [BUSY] if lock.is_held(folder) else []
    entries = [Entry(name=str(step), bytes=disk.tree_bytes(holder / "checkpoints" / str(step)),
                     reasons=tuple(reasons[step] + busy)) for step in steps]
    entries += [Entry(name=path.name, bytes=disk.tree_bytes(path), reasons=tuple(busy))
                for path in disk.leftovers(holder)]
    return f"{one.name}: {one.state}", entries


def config_of(recorded: dict[str, Any], changes: dict[str, int]) -> Any:
    """Returns the recorded `CheckpointConfig` with `changes`; raises `ConfigError` for a wrong value."""
    from jaxlm.train.config import CheckpointConfig

    return from_dict(CheckpointConfig, {**recorded, **changes}, "checkpoint")


def losses(folder: Path, steps: Sequence[int]) -> dict[int, float | None]:
    """Returns the recorded held-out loss after each of `steps` updates, None where it was not evaluated."""
    metrics = record.read(folder).metrics
    rows = dict(zip(metrics["step"].tolist(), metrics["heldout_loss"].tolist()))
    seen = {step: rows.get(step - 1, float("nan")) for step in steps}
    return {step: None if loss != loss else loss for step, loss in seen.items()}


def delete_entries(
    folder: Path, changes: dict[str, int], study: StudyFolder, *, going: Sequence[Entry]
) -> list[Entry]:
    """Deletes the entries of `going` that still would go once the run's lock is held; returns them."""
    try:
        with lock.run_lock(folder):
            # The lock is our own now, so it is no reason to keep anything.
            still = {one.name for one in plan(folder, changes, study)[1] if set(one.reasons) <= {BUSY}}
            gone = [entry for entry in going if entry.name in still]
            holder = study.holder(record.summarise(folder))
            for entry in gone:
                remove(holder / "checkpoints" / entry.name)
            return gone
    except InputError as error:
        print(f"left alone: {error}", file=sys.stderr)
        return []


def remove(path: Path) -> None:
    """Deletes a checkpoint; killed half-way, it leaves a folder that Orbax takes for an unfinished save."""
    if disk.TEMPORARY not in path.name:
        marked = path.with_name(path.name + disk.TEMPORARY)
        if marked.exists():
            shutil.rmtree(marked)
        path.rename(marked)
        # The new name must be on disk before the first file is gone.
        handle = os.open(marked.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        path = marked
    shutil.rmtree(path)
