"""Which fields a model reads, remembered between searches, so that Splunk sends no others.

One small file per model as asked for, under ``$SPLUNK_HOME/var/run/kepler``. Names that may mean a private
model are remembered per user. The service checks the signature at each search, so a stale file costs one
refused search and never a wrong number.
"""

from __future__ import annotations

import json
import os

from kepler_app import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kepler_app.searchinfo import SearchInfo

_MAX_FILES = 4000


class Signature:
    """What the service said about a model when it was last opened."""

    __slots__ = ("model", "required_fields", "signature")

    def __init__(self, signature: str, required_fields: list[str], model: str = "") -> None:
        self.signature = signature
        self.required_fields = required_fields
        self.model = model


def _key(info: SearchInfo, model: str) -> str:
    """What decides which model ``model`` means: ``app:`` and full names mean the same to every user."""
    app = info.app if "/" not in model else ""
    user = "" if model.startswith("app:") or ("/" in model and not model.startswith("user.")) else info.user
    return json.dumps([user, app, model])


def _path(key: str) -> str:
    import hashlib

    folder = paths.var_folder("run", "kepler")
    return os.path.join(folder, hashlib.sha256(key.encode()).hexdigest()[:40] + ".json") if folder else ""


def read(info: SearchInfo, model: str) -> Signature | None:
    """The remembered signature, or None: nothing remembered, unreadable, or not for this model."""
    key = _key(info, model)
    path = _path(key)
    if not path:
        return None
    try:
        with open(path, encoding="utf-8") as file:
            raw = json.load(file)
    except (OSError, ValueError):
        return None
    if not isinstance(raw, dict) or raw.get("key") != key:
        return None
    signature, fields = raw.get("signature"), raw.get("required_fields")
    if not isinstance(signature, str) or not signature or not isinstance(fields, list) or not fields:
        return None
    if not all(isinstance(name, str) and name for name in fields):
        return None
    return Signature(signature, fields, str(raw.get("model", "")))


def write(info: SearchInfo, model: str, found: Signature) -> None:
    """Remember ``found`` for ``model``; a folder that cannot be written costs speed and nothing else."""
    key = _key(info, model)
    path = _path(key)
    if not path:
        return
    content = {
        "key": key,
        "model": found.model,
        "signature": found.signature,
        "required_fields": found.required_fields,
    }
    scratch = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(scratch, "w", encoding="utf-8") as file:
            json.dump(content, file)
        os.replace(scratch, path)
        _prune(os.path.dirname(path))
    except OSError:
        return


def forget(info: SearchInfo, model: str) -> None:
    """Drop what is remembered for ``model``."""
    path = _path(_key(info, model))
    if path and os.path.exists(path):
        try:
            os.unlink(path)
        except OSError:
            return


def _prune(folder: str) -> None:
    """Keep the newest files when there are too many."""
    names = [os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".json")]
    if len(names) > _MAX_FILES:
        for path in sorted(names, key=os.path.getmtime)[: len(names) - _MAX_FILES // 2]:
            os.unlink(path)
