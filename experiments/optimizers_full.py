"""The full form of the study of optimizers: 24 minutes on two cores. See optimizers.py."""

import optimizers

from jaxlm.sweep import Study


def study() -> Study:
    """Returns the study."""
    return optimizers.study(full=True)
