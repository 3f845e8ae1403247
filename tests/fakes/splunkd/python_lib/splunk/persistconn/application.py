"""Base class of persistent REST handlers."""


class PersistentServerConnectionApplication:
    """A handler overrides `handle(in_string)` and returns a dict with payload, status and headers."""

    def handle(self, in_string):
        raise TypeError("A persistent REST handler must override handle().")
