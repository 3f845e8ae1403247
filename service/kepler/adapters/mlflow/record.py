"""A version as one tag: everything a list shows, so that no list opens a file.

The tag `RECORD` is written last. A version is visible to Kepler exactly when it carries that tag, so a crash
in the middle of a registration leaves nothing that a search could meet.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from kepler.core.names import ModelName
from kepler.core.versions import VersionRecord

RECORD = "kepler.record"
JOB_ID = "kepler.job_id"
HISTORY = "kepler.alias."
DELETED = "Deleted_Internal"  # the stage MLflow gives a deleted version, whose number stays taken
_OWN_PREFIXES = ("kepler.", "mlflow.")
_MAX_KEY = 250
_FIELDS_CHARS = 1_000
_MAX_VALUE = 5_000  # what every MLflow takes


def to_tag(record: VersionRecord) -> str:
    """The tag's text; folder and aliases are left out because they are known better elsewhere."""
    return json.dumps(
        {
            "manifest_sha256": record.manifest_sha256,
            "algorithm": record.algorithm,
            "task": record.task,
            "target": record.target,
            "owner": record.owner,
            "created_at": record.created_at,
            "job_id": record.job_id,
            "run_id": record.run_id,
            "format": record.format,
            "size_bytes": record.size_bytes,
            "rows": record.rows,
            "metrics": [list(item) for item in record.metrics],
            "tags": record.tags,
            "params": record.params,
            "fields": _first(record.fields),
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )


def _first(fields: tuple[str, ...]) -> list[str]:
    """As many of ``fields`` as a list needs to show: a tag is short, the manifest has all of them."""
    room = _FIELDS_CHARS
    shown: list[str] = []
    for name in fields:
        room -= len(name) + 1
        if room < 0:
            return [*shown, f"... {len(fields) - len(shown)} more"]
        shown.append(name)
    return shown


def from_tag(name: ModelName, version: int, text: str, root: Path) -> VersionRecord:
    """The record behind a tag. The folder is computed, never read: the database must not choose paths."""
    raw = json.loads(text)
    metrics = tuple((str(key), float(value)) for key, value in raw.pop("metrics"))
    fields = tuple(raw.pop("fields", ()))
    record = VersionRecord(name=name, version=version, folder="", metrics=metrics, fields=fields, **raw)
    return replace(record, folder=str(version_path(root, name, record.job_id)))


def version_path(root: Path, name: ModelName, job_id: str) -> Path:
    """Where the files of the version trained by ``job_id`` lie.

    >>> str(version_path(Path("/srv/models"), ModelName("app", "search", "pump"), "j1"))
    '/srv/models/app.search~pump/j1'
    """
    return root / name.flat / job_id


def user_tags(tags: Iterable[str]) -> dict[str, str]:
    """Tags as the user wrote them, ``key=value`` or a bare word.

    >>> user_tags(["line=7", "trial"])
    {'line': '7', 'trial': ''}
    """
    parted = (tag.partition("=") for tag in tags)
    return {key.strip(): value.strip() for key, _, value in parted if key.strip()}


def mlflow_tags(record: VersionRecord) -> dict[str, str]:
    """What MLflow's own pages and searches should find."""
    shown = {
        "kepler.algorithm": record.algorithm,
        "kepler.task": record.task,
        "kepler.target": record.target,
        "kepler.owner": record.owner,
        "kepler.format": record.format,
        "kepler.manifest_sha256": record.manifest_sha256,
    }
    return {key: value[:_MAX_VALUE] for key, value in {**shared_tags(record.tags), **shown}.items()}


def shared_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The user's tags without those whose key MLflow refuses, or Kepler or MLflow means otherwise."""
    return {
        key: value
        for key, value in tags.items()
        if not key.startswith(_OWN_PREFIXES) and mlflow_key(key) == key
    }


def mlflow_key(key: str) -> str:
    """``key`` with the characters MLflow refuses replaced, at most 250 long.

    >>> mlflow_key("f1(macro)")
    'f1_macro_'
    """
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "_-. ") else "_" for c in key)[:_MAX_KEY].strip()
    return kept if kept.strip(". ") else "_"
