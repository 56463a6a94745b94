"""The full form of the study of law-optimal schedules: half an hour on two cores. See optimal_schedule.py."""

import optimal_schedule

from jaxlm.sweep import Study


def study() -> Study:
    """Returns the study."""
    return optimal_schedule.study(full=True)
