"""The full form of the study of schedules: at most an hour on two cores by the step times. See schedules.py."""

import schedules

from jaxlm.sweep import Study


def study() -> Study:
    """Returns the study."""
    return schedules.study(schedules.FULL, "schedules_full")
