"""Kepler's edge distribution. It shares no code with the service; both read the model manifest."""

__version__ = "0.1.0"
