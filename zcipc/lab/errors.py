"""Errors whose message alone tells the reader what to do; the command line prints no traceback for them."""


class LabError(Exception):
    """Something in a reproduction went wrong, or was asked for wrongly."""

    exit_status = 1


class UsageError(LabError):
    """What was asked for does not exist or does not fit; the message lists what does."""

    exit_status = 2


class TableMissing(LabError):
    """A run does not hold the table asked for; the message says what makes it."""


class StepFailed(LabError):
    """A step of the pipeline stopped with an error; the message says where."""
