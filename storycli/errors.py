"""The errors that a person is told about; any other exception is a bug and keeps its traceback."""


class StoryError(Exception):
    """An expected failure: what went wrong and where, then what to do about it.

    The command line prints it as ``error: message`` and ``hint: hint`` and exits with ``exit_code``.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = ""):
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(StoryError):
    """The command was given arguments that do not fit together (exit code 2)."""

    exit_code = 2


class PartlyDone(StoryError):
    """The work is done but for some items, which have been listed (exit code 3)."""

    exit_code = 3
