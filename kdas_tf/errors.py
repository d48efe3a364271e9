"""The exceptions that are not faults of the program: the user can fix this, and the process was asked to end."""


class UserError(ValueError):
    """A mistake in what the user gave: a flag, a binding, a file or a folder.

    The message is one line that says what was expected, what came and what to do. The launcher prints it without
    a traceback and exits with code 2.
    """


class Stopped(BaseException):
    """The process was asked to end (SIGTERM), and can: what it needs to continue is on disk.

    Like KeyboardInterrupt no Exception, so that nothing on the way mistakes it for an error.
    """


class PeerLost(Stopped):
    """Another process of the job has ended. All of them have to be started again."""
