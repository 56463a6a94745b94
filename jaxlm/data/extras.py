"""Optional packages, imported where they are used; a missing one is named in one line."""

import importlib
from types import ModuleType


def load_extra(module: str, extra: str) -> ModuleType:
    """Returns the imported `module`.

    Raises `ModuleNotFoundError`, a fault of the environment and not of what was asked, with the pip
    command for `extra` where the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # Only the package itself may be missing; a fault inside it must show as what it is.
        if error.name != module.partition(".")[0]:
            raise
        raise ModuleNotFoundError(f"the package {error.name!r} is not installed: "
                                  f"pip install 'jaxlm[{extra}]'", name=error.name) from None
