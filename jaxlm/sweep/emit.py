"""The executor that trains nothing: it writes down what is to be trained, for pods and whoever else trains it.

A folder `emit` in that of the study, on a local path or an object store:

    study.json     every run known so far with its configuration; `jaxlm train STUDY.JSON:RUN` and the other commands
                   that name a study take it, so whoever trains needs neither the study file nor its records
    runs.jsonl     one JSON object a line for each run that has not ended, parents before their branches, with the
                   fields of `Emitted`

The same records give the same bytes. Called again, it leaves out what has ended meanwhile, and goes on with the stages
that are planned from the records.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, Self

from jaxlm.config import override, require
from jaxlm.sweep.cache import cache_environment, check_cache
from jaxlm.sweep.estimate import estimate
from jaxlm.sweep.executor import RetryPolicy, StudyOutcome
from jaxlm.sweep.pending import Pending
from jaxlm.sweep.study import Stage, Study, save_study
from jaxlm.train.config import RunConfig
from scaling.record import files


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmitConfig:
    """How the commands are written.

    Attributes:
      program: what starts `jaxlm` where the runs train, words parted by blanks.
      arguments: further options of `jaxlm train`, words parted by blanks, such as "--mesh.fsdp=16". Of the fields of
        a run those of the mesh alone: any other makes another run, which no branch would start from.
      checkpoints: where checkpoints lie, a folder or gs://, if not with the records.
      cache: folder or URL of the compilations that all runs share, see `jaxlm.sweep.cache`.
      mirrors: where rows are copied, of `jaxlm.train.mirrors.MIRRORS`.
    """

    program: str = "jaxlm"
    arguments: str = ""
    checkpoints: str = ""
    cache: str = ""
    mirrors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_cache(self.cache)
        require(bool(self.program.split()), "program", self.program, "must name a command")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Emitted:
    """A line of runs.jsonl.

    Attributes:
      run: its folder, under which it is recorded.
      stage: the title of its stage.
      status: as recorded, "new" where it is not.
      command: the words of the command that trains it, or goes on with it. Exit code 75: start it again.
      environment: variables to set for it.
      after: the runs of this file that must have reached the checkpoint that it starts from.
      checkpoint: {"run", "step"} of that checkpoint, None for a run that starts from none.
      estimate: parameters, updates, tokens, FLOPs and bytes of state, see `jaxlm.sweep.estimate`.
    """

    run: str
    stage: str
    status: str
    command: tuple[str, ...]
    environment: dict[str, str]
    after: tuple[str, ...]
    checkpoint: dict[str, Any] | None
    estimate: dict[str, Any]


class Emit:
    """Writes the runs of the stages down when all are known; use as a context manager."""

    def __init__(
        self, study: Study, root: files.AnyPath, data_root: Path, *, options: EmitConfig = EmitConfig(),
        policy: RetryPolicy = RetryPolicy(),
    ) -> None:
        require(not policy.diverged, "retry-diverged", True, "executor emit only reads the records, and `jaxlm train` "
                "believes them; another executor starts diverged runs again")
        self._study, self._root, self._config, self._policy = study, root, options, policy
        out = str(root.parent).rstrip("/")  # a bucket's ends with one
        self._environment = cache_environment(options.cache or f"{out}/.cache/xla", root.parent)
        for run in study.runs:
            _check_arguments(options.arguments, run)
        self._stages: list[Stage] = []
        self._lines: list[Emitted] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Writes both files, unless a stage could not be planned: whoever reads them reads all stages."""
        if exception[0] is not None:
            return
        folder = self._root / "emit"
        save_study(dataclasses.replace(self._study, stages=tuple(self._stages)), folder / "study.json")
        text = "".join(json.dumps(dataclasses.asdict(line)) + "\n" for line in self._lines)
        files.replace_atomically(folder / "runs.jsonl", text.encode())

    def run_stage(self, stage: Stage) -> StudyOutcome:
        """Adds the runs of a stage that have not ended to those of the stages before."""
        pending = Pending(stage, self._root, self._policy)
        emitted = {line.run for line in self._lines}
        if not self._config.checkpoints:  # elsewhere they may be out of reach; `jaxlm train` says which is missing
            pending.orphans(emitted)
        self._stages.append(stage)
        waiting = {run.folder for run in pending.waiting} | emitted
        for run in parents_first(pending.waiting):
            _check_arguments(self._config.arguments, run)
            self._lines.append(self._line(run, stage.title, pending.statuses[run.folder], waiting))
            pending.statuses[run.folder] = "emitted"
        return StudyOutcome(statuses=pending.statuses, reasons=pending.reasons, logs=self._root / "emit")

    def _line(self, run: RunConfig, stage: str, status: str, waiting: set[str]) -> Emitted:
        config, origin = self._config, run.origin
        command = train_command(
            config.program.split(), self._root, run, study=self._root / "emit" / "study.json",
            checkpoints=config.checkpoints, mirrors=config.mirrors)
        return Emitted(
            run=run.folder, stage=stage, status=status, command=(*command, *config.arguments.split()),
            environment=self._environment,
            after=(origin.run,) if origin and origin.run in waiting else (),
            checkpoint={"run": origin.run, "step": origin.step} if origin else None,
            estimate=dataclasses.asdict(estimate(run)))


def train_command(
    program: list[str], root: files.AnyPath, run: RunConfig, *, study: files.AnyPath, checkpoints: str = "",
    mirrors: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """Returns the words that train `run` of the saved study `study`, recorded in the study's folder `root`."""
    places = {"--out": root.parent} | ({"--checkpoints": checkpoints} if checkpoints else {})
    options = [word for name, value in places.items() for word in (name, str(value))]
    return (*program, "train", f"{study}:{run.folder}", *options, *(f"--mirror={name}" for name in mirrors))


def _check_arguments(arguments: str, run: RunConfig) -> None:
    """Raises `ConfigError` where a word of `arguments` sets a field that is part of what `run` is."""
    words = arguments.split()
    fields = {field.name for field in dataclasses.fields(run)}
    for number, word in enumerate(words):
        name, separator, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and name.partition(".")[0] in fields:
            value = value if separator else "".join(words[number + 1:number + 2])
            require(override(run, {name: value}).folder == run.folder, "option arguments", arguments,
                    f"{name} makes another run of {run.name}: set it in the study")


def parents_first(runs: list[RunConfig]) -> list[RunConfig]:
    """Returns the runs in their order, but each after the run among them that it starts from."""
    by_folder, ordered = {run.folder: run for run in runs}, {}

    def visit(run: RunConfig) -> None:
        if run.origin is not None and run.origin.run in by_folder and run.origin.run not in ordered:
            visit(by_folder[run.origin.run])
        ordered[run.folder] = run

    for run in runs:
        if run.folder not in ordered:
            visit(run)
    return list(ordered.values())
