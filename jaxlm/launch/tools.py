"""The effects of launching: asks whether a tool and its credentials are there, and runs it."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from jaxlm.launch.job import Launch, resolve

INSTALL = {
    "gcloud": "cloud.google.com/sdk/docs/install",
    "kubectl": "gcloud components install kubectl",
    "xpk": "pip install xpk, into an environment of its own",
    "sbatch": "launch from a login node of the cluster",
}
NEEDS = {"queued": ("gcloud",), "xpk": ("xpk", "kubectl", "gcloud"), "slurm": ("sbatch",)}
# Not the script `jaxlm`, which may be another installation's.
_JAXLM = (sys.executable, "-c", "import sys; from jaxlm.cli import main; sys.exit(main())")


class ToolError(OSError):
    """A tool that is not there, has no credentials, or has failed; the text is one line."""


def check_tools(kind: str) -> None:
    """Raises `ToolError` unless the tools of `kind`, one of `NEEDS`, are installed and know who is asking."""
    for name in NEEDS[kind]:
        if shutil.which(name) is None:
            raise ToolError(f"{name} is not installed ({INSTALL[name]}); nothing was created")
    if "gcloud" in NEEDS[kind]:
        try:
            run(("gcloud", "auth", "print-access-token", "--quiet"))
        except ToolError as error:
            raise ToolError(f"no Google Cloud credentials: gcloud auth login; nothing was created ({error})") from None


def run(words: Sequence[str], *, quiet: bool = True) -> str:
    """Runs a command and returns its output; raises `ToolError` with the last line that it had to say.

    Args:
      words: the command; `jaxlm` stands for this installation's.
      quiet: catch its output, else let the user see it and answer.
    """
    command = [*_JAXLM, *words[1:]] if words[0] == "jaxlm" else list(words)
    try:
        done = subprocess.run(command, capture_output=quiet, text=True, check=False,
                              stdin=subprocess.DEVNULL if quiet else None)
    except FileNotFoundError:
        raise ToolError(f"{words[0]} is not installed") from None
    if done.returncode:
        said = [line for line in (done.stderr or "").splitlines() if line.strip()]
        raise ToolError(f"{words[0]} ended with code {done.returncode}" + (f": {said[-1].strip()}" if said else ""))
    return done.stdout or ""


def run_launch(launch: Launch, *, quiet: bool = False) -> None:
    """Writes the files into a folder of their own and runs the commands, one after another."""
    with tempfile.TemporaryDirectory(prefix="jaxlm-launch-") as folder:
        paths = {name: str(Path(folder) / name) for name in launch.files}
        for name, text in launch.files.items():
            Path(paths[name]).write_text(text, encoding="utf-8")
        for words in launch.commands:
            run(resolve(words, paths), quiet=quiet)
