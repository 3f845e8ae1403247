"""One key=value line per event in ``$SPLUNK_HOME/var/log/splunk/kepler.log``, which Splunk indexes itself.

``index=_internal source=*kepler.log*`` finds them. Rows, tokens and secrets are never written.
"""

from __future__ import annotations

import os
import time

from kepler_app import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}
_MAX_BYTES = 10 * 1024 * 1024


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = str(value)
    plain = text.isascii() and text.replace("-", "").replace("_", "").replace(".", "").isalnum()
    return text if plain else '"' + text.replace("\\", "\\\\").replace('"', "'").replace("\n", "\\n") + '"'


def line(level: str, event: str, keys: dict[str, Any]) -> str:
    """The text of one log line.

    >>> line("INFO", "predict.done", {"rows": 5, "model": "app.search/m@1"}).split(" ", 2)[2]
    'level=INFO event=predict.done rows=5 model="app.search/m@1"\\n'
    """
    now = time.time()
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}+0000"
    pairs = " ".join(f"{key}={_value(value)}" for key, value in keys.items() if value not in ("", None))
    return f"{stamp} level={level} event={event} {pairs}\n"


def write(level: str, event: str, **keys: Any) -> None:
    """Append one line; outside Splunk nothing is written. A log that cannot be written fails no search."""
    folder = paths.var_folder("log", "splunk")
    if not folder or _LEVELS.get(level, 0) < _LEVELS.get(
        paths.conf_value("logging", "loglevel"), _LEVELS["INFO"]
    ):
        return
    path = os.path.join(folder, "kepler.log")
    try:
        if os.path.exists(path) and os.path.getsize(path) > _MAX_BYTES:
            os.replace(path, path + ".1")
        with open(path, "a", encoding="utf-8", errors="replace") as file:
            file.write(line(level, event, keys))
    except OSError:
        return


def crash(command: str, sid: str, error: BaseException) -> str:
    """Log an error that should not happen with its stack; gives the id that the user is shown."""
    import traceback
    import uuid

    crash_id = uuid.uuid4().hex[:12]
    stack = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    write("ERROR", "command.crashed", id=crash_id, command=command, sid=sid, stack=stack)
    return crash_id
