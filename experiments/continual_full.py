"""The full form of the study of continued training: both shifts, half an hour on two cores. See continual.py."""

import continual

from jaxlm.sweep import Study


def study() -> Study:
    """Returns the study."""
    return continual.study(continual.FULL, name="continual_full")
