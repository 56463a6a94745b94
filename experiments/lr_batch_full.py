"""The full form of the study of learning rate and batch: 22 minutes on two cores. See lr_batch.py."""

import lr_batch

from jaxlm.sweep import Study


def study() -> Study:
    """Returns the study."""
    return lr_batch.study(lr_batch.FULL)
