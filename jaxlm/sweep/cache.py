"""The compilation cache that all runs of a study share, on a local path or on an object store.

It is JAX's own persistent cache. Its key holds the program, the options of its compilation, XLA's flags, the
versions of jaxlib and of the platform, and the devices' topology. Learning rate, weight decay and seeds are runtime
values of the step (`jaxlm.train.step`), so all runs of one shape have one key; whatever is in `StepConfig` makes
another. XLA refuses a program that was compiled for a processor with other features, and JAX then compiles it anew: a
folder may be shared by unlike machines. Only what took a second to compile is kept
(`JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS`), and of several processes of one run only the first writes. A cache
that cannot be reached costs a warning and a compilation.

Whoever can write to it can run code in the processes that read it: share it with nobody else.
"""

import os
from pathlib import Path
from typing import Any

from jaxlm.config import require

VARIABLE = "JAX_COMPILATION_CACHE_DIR"
# What JAX opens through etils.epath and fsspec, with the drivers of the extra `remote`: s3:// was tested against a
# local S3 server, gs:// and az:// take the same way.
SCHEMES = ("gs", "s3", "az")


def cache_environment(cache: str, out: Any) -> dict[str, str]:
    """Returns the environment variable by which a process uses the shared cache.

    Args:
      cache: its folder or URL. "" for the one that this process was given, else one beside the studies.
      out: the folder of all studies, local or a URL.

    Raises `ConfigError` for a URL that JAX cannot open.
    """
    place = cache or os.environ.get(VARIABLE) or str(out / ".cache" / "xla")
    check_cache(place)
    return {VARIABLE: place if "://" in place else str(Path(place).absolute())}


def check_cache(cache: str) -> None:
    """Raises `ConfigError` for a URL that JAX cannot open."""
    scheme, separator, _ = cache.partition("://")
    require(not separator or scheme in SCHEMES, "cache", cache,
            f"must be a local folder or a URL of {', '.join(known + '://' for known in SCHEMES)}; "
            "--option cache=PLACE gives one")
