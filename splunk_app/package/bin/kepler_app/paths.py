"""Where things lie on the search head."""

from __future__ import annotations

import os

APP = "kepler"


def splunk_home() -> str:
    """``SPLUNK_HOME``; empty outside Splunk."""
    return os.environ.get("SPLUNK_HOME", "")


def var_folder(*parts: str) -> str:
    """A folder under ``$SPLUNK_HOME/var``; empty outside Splunk."""
    home = splunk_home()
    return os.path.join(home, "var", *parts) if home else ""


def app_folder() -> str:
    """The folder of the installed app, three up from this file."""
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
