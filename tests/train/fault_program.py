"""Runs `jaxlm` and strikes at a named point of its work: python fault_program.py POINT jaxlm's words.

The points are events that the interpreter reports to audit hooks before they happen (a file about to be
renamed, a folder about to be made), so nothing of the program is replaced. Most points end the process by
SIGKILL; `read-only` makes every write below the study's folder fail as on a read-only file system, and
`full` caps the size of files, as a full disk would.
"""

import errno
import os
import re
import resource
import signal
import sys

# name: (event, pattern of its arguments, how many times it passes before the strike)
KILLS = {
    "while preparing data": ("os.rename", r"\.cache/data/\S+ \S+\.cache/data/", 1),
    "before the record": ("os.rename", r"/run\.json ", 0),
    "before the attempt": ("os.rename", r"/run\.json ", 1),
    "before a segment": ("os.rename", r"/metrics/\d+-\d+\.jsonl ", 1),
    "between segment and checkpoint": ("os.mkdir", r"/checkpoints/\d+\.orbax-checkpoint-tmp ", 1),
    "in a checkpoint": ("os.remove", r"orbax-checkpoint-tmp/_METADATA ", 0),
    "before a commit": ("os.rename", r"/checkpoints/\d+ ", 0),
    "after a commit": ("os.rename", r"/checkpoints/\d+ ", 0),
    "before the result": ("os.rename", r"/run\.json ", 1),
}


def kill_at(point: str) -> None:
    """Lets the process end by SIGKILL at the point."""
    event, pattern, passes = KILLS[point]
    seen = 0

    def hook(name: str, args: tuple) -> None:
        nonlocal seen
        if name == "os.kill":  # ours
            return
        if seen > passes:  # the event itself has happened
            os.kill(os.getpid(), signal.SIGKILL)
        if name == event and re.search(pattern, " ".join(map(str, args)) + " "):
            seen += 1
            if seen > passes and point != "after a commit":
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def make_read_only(folder: str) -> None:
    """Makes writes below `folder` fail."""
    writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT

    def hook(name: str, args: tuple) -> None:
        write = name == "open" and isinstance(args[2], int) and args[2] & writes
        if (write or name in ("os.mkdir", "os.rename", "os.remove")) and f"{folder}/" in f"{args[0]}/":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(args[0]))

    sys.addaudithook(hook)


def main() -> int:
    """Sets the fault up and runs the command line."""
    point, *words = sys.argv[1:]
    kind, _, value = point.partition(":")
    if kind == "read-only":
        make_read_only(value)
    elif kind == "full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(value), int(value)))
    else:
        kill_at(point)
    from jaxlm.cli import main as run

    return run(words)


if __name__ == "__main__":
    sys.exit(main())
