"""The error that every mistake of a caller raises: one line with field, value and rule."""


class InputError(ValueError):
    """A mistake in what the caller gave; its text names the field, the value and the rule."""
