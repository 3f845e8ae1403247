"""Checks messages against the JSON Schemas of the MQTT contract."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import jsonschema

FOLDER = Path(__file__).resolve().parents[2] / "proto" / "kepler" / "mqtt" / "v1"


@cache
def validator(name: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((FOLDER / f"{name}.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def check(name: str, message: object) -> None:
    """Raises jsonschema.ValidationError when ``message`` is not what ``name`` describes."""
    validator(name).validate(message)


def schema_of(suffix: str) -> str | None:
    """The schema of a device's topic by its suffix: `p0`, `cmd/ping`, ...; None for pieces of files."""
    if suffix in ("p0", "p1", "p2", "p3", "hist"):
        return "batch"
    head = suffix.split("/")[0]
    fixed = {
        "state": "state",
        "shadow/desired": "desired",
        "shadow/reported": "reported",
        "ack": "ack",
        "model/get": "chunk-get",
        "rollout": "install",
    }
    return fixed.get(suffix) or {"cmd": "command", "rsp": "reply"}.get(head)
