"""How the command ended on the hosts of a request, by what their start-up scripts leave beside the records."""

import datetime

from scaling.record import files

FINE = (0, 3)  # the records say the rest


def read_end(url: str, created: str) -> tuple[int, str] | None:
    """Returns exit code and log of a host that ended badly since `created`, None where there is none.

    `url` is the request's, see `jaxlm.launch.queued_resources.end_folder`; an earlier request may have had the same.
    """
    folder = files.folder(url)
    for name in files.names(folder):
        head = files.read_bytes(folder / name).partition(b"\n")[0].decode(errors="replace")
        code, _, time = head.partition(" ")
        if code.isdecimal() and int(code) not in FINE and later(time, created):
            return int(code), str(folder / name)
    return None


def later(time: str, created: str) -> bool:
    """Whether something happened after a request was made; false where either time is unknown."""
    try:
        return datetime.datetime.fromisoformat(time) >= datetime.datetime.fromisoformat(created)
    except (ValueError, TypeError):
        return False
