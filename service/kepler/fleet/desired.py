"""What a device should be: its document, and what a release does to it.

A document is what ``proto/kepler/mqtt/v1/desired.schema.json`` calls ``doc``: plain JSON. Nothing here changes
a document in place.
"""

from __future__ import annotations

from typing import Any

MAX_RELEASES = 50

Document = dict[str, Any]
Release = dict[str, Any]


def releases_of(doc: Document) -> list[Release]:
    """The releases a document names."""
    return list(doc.get("releases", ()))


def release_for(doc: Document, model: str) -> Release | None:
    """The release of ``model``, None where the device has none."""
    return next((item for item in releases_of(doc) if item["model"] == model), None)


def with_release(doc: Document, release: Release) -> Document:
    """``doc`` with ``release`` in the place of its model's.

    >>> with_release({"releases": []}, {"id": "r", "model": "app.a/m"})
    {'releases': [{'id': 'r', 'model': 'app.a/m'}]}
    """
    others = [item for item in releases_of(doc) if item["model"] != release["model"]]
    return {**doc, "releases": sorted([*others, release], key=lambda item: str(item["model"]))}


def put_back(doc: Document, model: str, release_id: str, before: Release | None, back_id: str) -> Document:
    """``doc`` with what served ``model`` before the release ``release_id``; nothing where nothing did.

    A document that names another release by now stays as it is: somebody has deployed since. What comes back is a
    release of its own, under ``back_id``, that may be lower than the version it replaces.
    """
    current = release_for(doc, model)
    if current is None or current["id"] != release_id:
        return doc
    if before is None:
        return {**doc, "releases": [item for item in releases_of(doc) if item["model"] != model]}
    return with_release(doc, {**before, "id": back_id, "allow_downgrade": True})
