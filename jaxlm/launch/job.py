"""What is launched: a command of jaxlm that every host of some slices runs, and the texts that make a tool run it.

Everything here is pure: `launch` functions return a `Launch`, which `render` shows and `jaxlm.launch.tools` runs.
"""

import dataclasses
import re
import shlex
from collections.abc import Mapping, Sequence

from jaxlm.config import require
from jaxlm.launch.slices import Slice

# Exit codes after which a host's command is worth another start: 75, "start me again", and 1, with which a host also
# ends that did not meet the others in time.
RESTARTS = (1, 75)
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,26}[a-z0-9])?")
_BUCKET = re.compile(r"gs://[a-z0-9][-a-z0-9_.]*[a-z0-9](/[^\s'\"\\]+)*/?")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """A command on every host of one or several equal slices.

    Attributes:
      name: what the tool calls it; at most 28 letters, digits and dashes, for tools append to it.
      command: words, the same on every host; each host learns its place from `tpu_setup/run_on_host.sh`.
      where: the slice.
      slices: how many of them, joined by the data-centre network; the mesh axis `replica` lies over them.
      out: the folder of all studies, gs:// where hosts share no file system.
      before: commands to run here first, such as the one that writes the runs of a study down.
    """

    name: str
    command: tuple[str, ...]
    where: Slice
    slices: int = 1
    out: str
    before: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        require(_NAME.fullmatch(self.name) is not None, "name", self.name,
                "must be at most 28 lower-case letters, digits and dashes, from a letter on")
        require(bool(self.command), "command", self.command, "must not be empty")
        require(self.slices >= 1, "num-slices", self.slices, "must be at least 1")

    @property
    def hosts(self) -> int:
        """Processes in all."""
        return self.where.hosts * self.slices

    @property
    def cache(self) -> str:
        """Where all hosts and runs share compiled programs."""
        return f"{self.out.rstrip('/')}/.cache/xla"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Launch:
    """What makes a tool run a job.

    Attributes:
      files: texts by name; a word `{name}` of a command stands for the path of that file.
      commands: words of the commands, in order.
      notes: lines for whoever reads it.
    """

    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    commands: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()


def render(launch: Launch) -> str:
    """Returns the launch as text: files, then commands as a shell takes them."""
    parts = [f"# {note}\n" for note in launch.notes]
    parts += [f"# file {name}\n{text.rstrip()}\n" for name, text in launch.files.items()]
    names = {f"{{{name}}}": name for name in launch.files}
    for words in launch.commands:
        parts.append(shell_line([_replaced(word, names) for word in words]) + "\n")
    return "\n".join(parts)


def resolve(words: Sequence[str], paths: Mapping[str, str]) -> list[str]:
    """Returns the words with `{name}` replaced by the path of that file."""
    return [_replaced(word, {f"{{{name}}}": path for name, path in paths.items()}) for word in words]


def shell_line(words: Sequence[str], *, width: int = 110) -> str:
    """Returns the words quoted for a shell, options on lines of their own where one line would be long."""
    line = shlex.join(words)
    if len(line) <= width:
        return line
    first = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    lines = [shlex.join(words[:first])]
    for word in words[first:]:
        if word.startswith("-"):
            lines.append(f"    {shlex.quote(word)}")
        else:
            lines[-1] += f" {shlex.quote(word)}"
    return " \\\n".join(lines)


def require_tpu(job: Job, tool: str) -> None:
    """Raises `ConfigError` where the slice is none that `tool` lends."""
    require(job.where.compiler_name is not None, "slice", job.where.name,
            f"{tool} lends TPU slices; for GPU nodes use --with slurm")


def require_bucket(value: str | None, field: str) -> str:
    """Returns `value`; raises `ConfigError` unless it is a gs:// URL: the hosts of a pod share no disk."""
    require(value is not None and _BUCKET.fullmatch(value) is not None, field, value,
            "must be a URL gs://BUCKET/..., for the hosts of a pod share no disk")
    return value


def require_given(**values: str | None) -> None:
    """Raises `ConfigError` naming the first of the names that was not given."""
    for name, value in values.items():
        require(bool(value), name.replace("_", "-"), value, f"must be given: --{name.replace('_', '-')}")


def _replaced(word: str, texts: Mapping[str, str]) -> str:
    for old, new in texts.items():
        word = word.replace(old, new)
    return word
