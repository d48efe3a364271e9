"""The exceptions that are no faults of the program: the user can fix this, or the process was asked to end."""

from typing import Literal

Code = Literal[
    "",  # not told
    "binding",  # a .gin file or a binding that gin cannot use, or that nothing reads
    "choice",  # a name that is not among the known names
    "content",  # a file or a folder that can be read, but does not say what it should
    "damaged",  # a file that cannot be read: cut, too large, of another kind
    "flag",  # a flag of the command line
    "fit",  # things that are right each by itself, but do not go together
    "machines",  # the description of the machines of a job
    "missing",  # a file or a folder that is not there
    "range",  # a number out of its range
    "type",  # a value of another type
]
"""Kinds of refusals."""


class UserError(ValueError):
    """A mistake in what the user gave: a flag, a binding, a file or a folder.

    The launcher prints the message without a traceback and exits with code 2.

    Args:
        message: one line that says what was expected, what came and what to do.
        code: the kind of refusal, for programs; it stays the same when the words of the message change.
    """

    def __init__(self, message: str, *, code: Code = ""):
        super().__init__(message)
        self.code = code  # of the instance: gin's wrapper of an exception would hide it behind the class's


class Stopped(BaseException):
    """The process was asked to end (SIGTERM), and can: what it needs to continue is on disk.

    It is no `Exception`, as KeyboardInterrupt is none, so that no handler of errors catches it.
    """


class PeerLost(Stopped):
    """Another process of the job has ended. All processes have to be started again."""
