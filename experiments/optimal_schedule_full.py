"""The full form of the study of law-optimal schedules: under an hour on two cores by the step times."""

import optimal_schedule

from jaxlm.sweep import Study


def study() -> Study:
    """Returns the study."""
    return optimal_schedule.study(full=True)
