"""The full form of the study of refinement: about 35 minutes on two cores by the step times. See refine.py."""

import refine

from jaxlm.sweep import Study


def study() -> Study:
    """Returns the study."""
    return refine.study(refine.FULL)
