"""What goes wrong with backends."""


class CaptureError(RuntimeError):
    """A function does what a captured graph cannot hold; the message says what, and how to do without."""


class BackendError(RuntimeError):
    """A backend cannot run here; the message says what is missing and how to get it."""
