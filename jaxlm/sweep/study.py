"""A study: a question, the runs that answer it in stages, and what to do when a stage has ended."""

import collections
import dataclasses
import functools
import importlib.util
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from jaxlm import config
from jaxlm.config import ConfigError
from jaxlm.schedules import ScheduleConfig, as_array
from jaxlm.train.config import RunConfig
from jaxlm.train.start import check_prefix
from scaling.record import files


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """Runs that may train side by side, parents before their branches.

    Attributes:
      title: what the stage is for, shown while it runs.
      runs: the runs.
      then: called with the study's folder once all runs have ended; prints or writes what the
        stage yields. It may raise `scaling.InputError` where the runs do not allow an answer.
      plan: called with the study's folder when the stage begins; returns further runs, chosen by the
        records of the stages before, always the same ones for the same records. `jaxlm train STUDY:RUN` knows
        them in the file that `jaxlm study --executor emit` writes only.
      bound: runs of at least the cost of those that `plan` may return, () where it returns none that are new, None
        where that is not known; for `jaxlm study --estimate` alone.
    """

    title: str
    runs: tuple[RunConfig, ...] = ()
    then: Callable[[Path], None] | None = None
    plan: Callable[[Path], tuple[RunConfig, ...]] | None = None
    bound: tuple[RunConfig, ...] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """What a study file's function `study()` returns.

    Attributes:
      name: also the name of the folder that holds the runs.
      question: the question that the runs answer, in one line.
      stages: in order; a stage starts when the one before it has ended.
    """

    name: str
    question: str
    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        by_folder = {run.folder: run for run in self.runs}
        if len(by_folder) < len(self.runs):
            counts = collections.Counter(run.folder for run in self.runs)
            twice = sorted(name for name, count in counts.items() if count > 1)
            raise ConfigError(f"study runs = {twice!r}: each run may stand in a study once")
        _check_no_cycle(by_folder)
        stages = {run.folder: number for number, stage in enumerate(self.stages) for run in stage.runs}
        for run in self.runs:
            if run.origin is not None:
                field = "parent" if run.parent else "initial"
                config.require(run.origin.run in by_folder, f"{field}.run", run.origin.run,
                               f"run {run.name} branches off no run of the study")
                config.require(stages[run.origin.run] <= stages[run.folder], f"{field}.run", run.origin.run,
                               f"run {run.name} branches off a run of a later stage")
                _check_kept(run, by_folder[run.origin.run], field)
            if run.parent is not None:
                parent = by_folder[run.parent.run]
                check_prefix(run, _rates(run.schedule, run.updates), _rates(parent.schedule, parent.updates))

    @property
    def runs(self) -> tuple[RunConfig, ...]:
        """The runs of all stages."""
        return tuple(run for stage in self.stages for run in stage.runs)

    def planned(self, index: int, root: Path) -> "Study":
        """Returns the study with the runs that stage `index` plans by the records in `root`.

        Runs that the study has already, such as a trunk that two branches share, are not added again.
        """
        stage = self.stages[index]
        if stage.plan is None:
            return self
        known = {run.folder for run in self.runs}
        new = {run.folder: run for run in stage.plan(root) if run.folder not in known}
        whole = dataclasses.replace(stage, runs=(*stage.runs, *new.values()), plan=None)
        return dataclasses.replace(self, stages=(*self.stages[:index], whole, *self.stages[index + 1:]))

    def run(self, name: str) -> RunConfig:
        """Returns the run of that name or folder name; raises `ConfigError` naming the nearest."""
        for run in self.runs:
            if name in (run.name, run.folder):
                return run
        raise ConfigError(f"run {name!r}: not in study {self.name}{config.nearest(name, [r.name for r in self.runs])}")


def _check_no_cycle(runs: Mapping[str, RunConfig]) -> None:
    """Raises `ConfigError` where runs start from each other's checkpoints in a circle, so that none can start."""
    sound: set[str] = set()
    for name in runs:
        path = []
        while name in runs and name not in sound:
            config.require(name not in path, "study runs", path,
                           "each starts from a checkpoint of the next, the last from one of the first")
            path.append(name)
            name = runs[name].origin.run if runs[name].origin else ""
        sound.update(path)


def _check_kept(run: RunConfig, parent: RunConfig, field: str) -> None:
    """Raises `ConfigError` where the checkpoint that `run` starts from might be gone before it has read it."""
    step, checkpoint = run.origin.step, parent.checkpoint
    kept = step == parent.updates or step in checkpoint.keep or (
        checkpoint.keep_every and step % checkpoint.keep_every == 0)
    first = parent.parent.step if parent.parent else 0
    config.require(bool(kept) and first < step <= parent.updates, f"{field}.step", step,
                   f"run {run.name} branches off {parent.name} there, which must name it in checkpoint.keep")


@functools.lru_cache(maxsize=256)  # a study checks its branches again with every stage that plans runs
def _rates(schedule: ScheduleConfig, updates: int) -> np.ndarray:
    return as_array(schedule.build(updates), updates)


def load_study(name: str) -> Study:
    """Loads a study file, given by its path or by its name in ./experiments, or one that `save_study` wrote.

    Raises `ConfigError` where there is no such file or it defines no `study()`.
    """
    if name.endswith(".json"):
        return _saved_study(name)
    path = _study_path(name)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))  # a study may import its neighbours, as a script may
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    if not hasattr(module, "study"):
        raise ConfigError(f"study {str(path)!r}: the file must define a function study() that returns a Study")
    return module.study()


def save_study(study: Study, path: files.AnyPath) -> None:
    """Writes the runs of all stages as a JSON file, which stands for a study file wherever one is named.

    It has the runs that stages have planned so far too, but no hooks.
    """
    content = {"name": study.name, "question": study.question, "runs": [config.to_dict(run) for run in study.runs]}
    files.replace_atomically(path, (json.dumps(content, indent=1) + "\n").encode())


def _saved_study(name: str) -> Study:
    try:
        content = json.loads(files.read_bytes(files.folder(name)))
        runs = tuple(config.from_dict(RunConfig, run) for run in content["runs"])
        return Study(name=content["name"], question=content["question"], stages=(Stage(title="all", runs=runs),))
    except FileNotFoundError:
        raise ConfigError(f"study {name!r}: no such file") from None
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"study {name!r}: not a file that a study was saved to: {error!r}") from None


def _study_path(name: str) -> Path:
    given = Path(name)
    if given.suffix == ".py":
        if given.is_file():
            return given
        raise ConfigError(f"study {name!r}: no such file")
    here, shipped = Path("experiments"), Path(__file__).resolve().parents[2] / "experiments"
    for folder in (here, shipped):
        if (folder / f"{name}.py").is_file():
            return folder / f"{name}.py"
    known = sorted({p.stem for folder in (here, shipped) for p in folder.glob("*.py")
                    if "\ndef study(" in p.read_text()})
    raise ConfigError(f"study {name!r}: no file {here / name}.py{config.nearest(name, known) if known else ''}")
