"""What goes wrong with backends."""


class BackendError(RuntimeError):
    """A backend cannot run here; the message says what is missing and how to get it."""
