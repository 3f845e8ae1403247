"""Optional dependencies: imported where they are used, and named with the line that installs them."""

from __future__ import annotations

import importlib
from typing import Any

from kepler.core.errors import MissingExtra


def need(module: str, *, extra: str) -> Any:
    """Import ``module``, or raise `MissingExtra` that says how to install it.

    >>> need("json", extra="service").dumps([1])
    '[1]'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A module that is there but misses one of its own needs is just as unusable as an absent one.
        raise MissingExtra(
            f"{module} is not installed here",
            cause="" if error.name == module else f"It needs {error.name}, which is missing",
            fix=f"Install it with: pip install 'kepler-for-splunk[{extra}]'",
        ) from error
