"""The one error that bad input raises; the command line turns it into one line and exit code 2."""


class InputError(ValueError):
    """Bad input: the message says in one line what is wrong, what is allowed and what to do."""
