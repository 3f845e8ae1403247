"""Where things lie on the search head."""

from __future__ import annotations

import os

APP = "kepler"
CONF = "kepler_settings"


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


def conf_value(stanza: str, key: str) -> str:
    """One plain value of the app's settings file, ``local`` before ``default``; empty where there is none.

    Read as a file, because planning a search must not wait for splunkd.
    """
    for layer in ("local", "default"):
        value = _value(os.path.join(app_folder(), layer, CONF + ".conf"), f"[{stanza}]", key)
        if value:
            return value
    return ""


def _value(path: str, header: str, key: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return ""
    inside = False
    for line in lines:
        text = line.strip()
        if text.startswith("["):
            inside = text == header
        elif inside and "=" in text and text.partition("=")[0].strip() == key:
            return text.partition("=")[2].strip()
    return ""
