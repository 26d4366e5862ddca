"""The front door's own error."""


class UserError(Exception):
    """What was asked for cannot be done; the message says what was expected and what to do."""
