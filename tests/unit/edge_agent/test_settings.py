"""Settings: from where they come, what is refused, what may change while the agent runs, what is never shown."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest

from kepler_edge.errors import InvalidInput
from kepler_edge.settings import LIVE, FileWatch, Settings, live_changes, load, make

NONE = Path("/nonexistent")


def test_the_environment_is_above_the_platform_above_the_file(tmp_path: Path) -> None:
    file, barbara, secret = tmp_path / "s.toml", tmp_path / "appconfig.json", tmp_path / "pass"
    file.write_text(
        'device = "one"\ntenant = "file"\nquota_mb = 50\n[[inputs]]\nname = "line"\nkind = "mqtt"\n'
    )
    barbara.write_text(json.dumps({"device": "two", "tenant": "barbara"}))
    secret.write_text("s3cret\n")
    env = {
        "KEPLER_EDGE_SETTINGS": str(file), "KEPLER_EDGE_TENANT": "env", "KEPLER_EDGE_TELEMETRY": "true",
        "KEPLER_EDGE_PASSWORD_FILE": str(secret), "KEPLER_EDGE_KEEPALIVE_S": "15", "OTHER": "x",
        "KEPLER_EDGE_INPUTS": '[{"name":"a","kind":"file"}]',
    }  # fmt: skip
    found = load(None, env, barbara)
    assert (found.device, found.tenant, found.quota_mb, found.telemetry) == ("two", "env", 50.0, True)
    assert (found.password, found.keepalive_s) == ("s3cret", 15.0)
    assert found.inputs == ({"name": "a", "kind": "file"},)
    assert found.root == "kepler/v1/env/two"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("colour", "red"), ("device", "host"), ("device", "Pump 7"), ("tenant", "a/b"), ("device", "x" * 65),
        ("quota_mb", "much"), ("quota_mb", True), ("quota_mb", -1), ("quota_mb", float("nan")), ("protocol", "4"),
        ("broker", "http://x"), ("log_level", "loud"), ("telemetry", "maybe"), ("inputs", "x"), ("inputs", [1]),
        ("reconnect_min_s", 0), ("home", 5),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(name: str, value: object) -> None:
    with pytest.raises(InvalidInput, match=name if name != "broker" else "broker"):
        make({name: value})


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": NaN'])
def test_a_broken_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "s.json"
    path.write_text(content)
    with pytest.raises(InvalidInput):
        load(path, {}, NONE)
    with pytest.raises(InvalidInput):
        load(tmp_path / "none.json", {}, NONE)


def test_only_some_change_while_it_runs() -> None:
    current = make({"device": "d"})
    changed, refused = live_changes(
        current, {"quota_mb": 10, "device": "e", "tenant": "default", "colour": "red"}
    )
    assert changed.quota_mb == 10
    assert changed.device == "d"
    assert refused == ["colour", "device"]
    assert {one.name for one in fields(Settings)} >= LIVE
    with pytest.raises(InvalidInput):
        live_changes(current, {"quota_mb": "much"})


def test_secrets_are_not_shown() -> None:
    found = make(
        {
            "password": "s3cret", "broker": "mqtt://user:s3cret@host:1883",
            "inputs": [{"name": "a", "kind": "mqtt", "password": "s3cret", "broker": "mqtt://u:s3cret@h"}],
        }
    )  # fmt: skip
    assert "s3cret" not in str(found.public())
    assert "password='s3cret'" not in repr(found)
    assert found.public()["broker"] == "mqtt://host:1883"


def test_a_half_written_file_is_read_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "appconfig.json"
    watch = FileWatch(path)
    assert watch.changed() is None
    path.write_text('{"log_level": "deb')
    assert watch.changed() is None
    path.write_text('{"log_level": "debug"}')
    assert watch.changed() == {"log_level": "debug"}
    assert watch.changed() is None


def test_the_documentation_names_every_setting(root: Path) -> None:
    text = (root / "docs" / "reference" / "edge-agent.md").read_text("utf-8")
    missing = [one.name for one in fields(Settings) if f"| `{one.name}`" not in text]
    assert not missing
    for command in ("run", "enrol", "check", "version"):
        assert f"kepler-edge {command}" in text
