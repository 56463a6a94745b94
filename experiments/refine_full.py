"""The full form of the study of refinement: twenty minutes on two cores. See refine.py."""

import refine

from jaxlm.sweep import Study


def study() -> Study:
    """Returns the study."""
    return refine.study(refine.FULL)
