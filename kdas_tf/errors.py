"""The one exception that means: the user can fix this."""


class UserError(ValueError):
    """A mistake in what the user gave: a flag, a binding, a file or a folder.

    The message is one line that says what was expected, what came and what to do. The launcher prints it without
    a traceback and exits with code 2.
    """
