"""What libtpu, the TPU compiler's library, has to be told where there is no TPU."""

import os

# Ask no metadata server, let several processes load it (no chip is touched), keep quiet, and take these for the names
# of a host, of which nothing depends on them.
_ENVIRONMENT = {"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1", "TPU_ACCELERATOR_TYPE": "v5litepod-16",
                "TPU_WORKER_HOSTNAMES": "localhost", "TPU_MIN_LOG_LEVEL": "3", "TPU_STDERR_LOG_LEVEL": "3",
                "TPU_LOG_DIR": "disabled"}


def prepare_libtpu() -> None:
    """Sets the environment for compiling without a TPU.

    Best before JAX is imported, which asks the metadata server where libtpu is installed, for a minute, and then
    leaves its complaints in these variables.
    """
    for name, value in _ENVIRONMENT.items():
        if os.environ.get(name, "WARNING").startswith("WARNING"):
            os.environ[name] = value
