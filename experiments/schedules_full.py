"""The full form of the study of schedules: half an hour on two cores. See schedules.py."""

import schedules

from jaxlm.sweep import Study


def study() -> Study:
    """Returns the study."""
    return schedules.study(schedules.FULL, "schedules_full")
