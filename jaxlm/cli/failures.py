"""What an error means to a person: an exit code and one line."""

from jaxlm.config import ConfigError
from scaling.errors import InputError

KNOWN = (ConfigError, InputError, ImportError, OSError)


def explain(error: BaseException) -> tuple[int, str]:
    """Returns the exit code of `error` and its line; an error that is none of `KNOWN` is a fault of ours, code 1."""
    if isinstance(error, SystemExit):
        return (error.code, "preempted") if isinstance(error.code, int) else (1, str(error.code))
    if isinstance(error, KeyboardInterrupt):
        return 130, "interrupted"
    if isinstance(error, (ConfigError, InputError)):
        return 2, str(error)
    if isinstance(error, OSError) and error.filename and error.strerror:
        return 1, f"{error.filename}: {error.strerror}"
    text = " ".join(str(error).split())
    if isinstance(error, KNOWN):
        return getattr(error, "exit_code", 1), text
    return 1, f"{type(error).__name__}: {text}"
