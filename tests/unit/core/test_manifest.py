"""The manifest: strict both ways, and its schema says the same."""

import json
from pathlib import Path

import pytest

from fakes.manifests import make_manifest, make_rich_manifest, schema_problems
from kepler.core.algorithms import Task
from kepler.core.errors import InvalidInput
from kepler.core.manifest import FileEntry, Manifest
from kepler.core.names import ModelName
from kepler.core.outputs import OutputPlan
from kepler.core.preparation import NumberFeature, Preparation

SCHEMA = json.loads(
    (Path(__file__).resolve().parents[3] / "proto" / "kepler" / "manifest" / "v1.schema.json").read_text()
)
ORIGIN = {"name": "app.plant/pump", "version": 2, "manifest_sha256": "ab" * 32, "key_id": "0" * 16}
GROUPS = {
    "fields": ["host"],
    "count": 3,
    "failed": 1,
    "packed": 2,
    "rows": [1, 2, 3],
    "metric": "r2",
    "values": [],
}
KEYS = sorted(json.loads(make_manifest().to_json()))


@pytest.mark.parametrize("make", [make_manifest, make_rich_manifest])
def test_round_trip_gives_the_same_bytes(make):
    manifest = make()
    again = Manifest.from_json(manifest.to_bytes())
    assert again == manifest
    assert again.to_bytes() == manifest.to_bytes()
    assert Manifest.from_json(manifest.pretty()) == manifest


@pytest.mark.parametrize("make", [make_manifest, make_rich_manifest])
def test_schema_accepts_what_we_write(make):
    assert schema_problems(SCHEMA, json.loads(make().to_json())) == []


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_needed_by_reader_and_schema(key):
    document = json.loads(make_manifest().to_json())
    del document[key]
    with pytest.raises(InvalidInput, match=key):
        Manifest.from_json(json.dumps(document))
    assert schema_problems(SCHEMA, document)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda doc: doc.update(surprise=1),
        lambda doc: doc.update(manifest_version=2),
        lambda doc: doc.update(task="magic"),
        lambda doc: doc.update(rows="3"),
        lambda doc: doc["data"].update(rows=-1),
        lambda doc: doc["search"].update(more=""),
        lambda doc: doc["model"].update(dtype="int8"),
        lambda doc: doc["model"].update(code="import os"),
        lambda doc: doc["params"].update(C={"nested": 1}),
        lambda doc: doc.update(tags=[1]),
        lambda doc: doc["outputs"].update(flag="x"),
        lambda doc: doc["profile"]["a"].update(kind="x"),
        lambda doc: doc["metrics"][0].update(value=None),
        lambda doc: doc.update(files={"a": {"sha256": "zz", "size": 1}}),
        lambda doc: doc.update(version=-1),
        lambda doc: doc.update(origin={"name": "app.search/m", "version": 1}),
        lambda doc: doc.update(origin=dict(ORIGIN, version=0)),
        lambda doc: doc.update(groups=dict(GROUPS, fields=[])),
        lambda doc: doc.update(groups=dict(GROUPS, fields=["a", "a"])),
        lambda doc: doc.update(groups=dict(GROUPS, count=0)),
        lambda doc: doc.update(groups=dict(GROUPS, more=1)),
        lambda doc: doc.update(origin=dict(ORIGIN, manifest_sha256="x")),
        lambda doc: doc.update(origin=dict(ORIGIN, more=1)),
    ],
)
def test_reader_and_schema_refuse_the_same(spoil):
    document = json.loads(make_manifest().to_json())
    spoil(document)
    with pytest.raises(InvalidInput):
        Manifest.from_json(json.dumps(document))
    assert schema_problems(SCHEMA, document)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda doc: doc.update(name="pump"),
        lambda doc: doc.update(target=""),
        lambda doc: doc["outputs"].update(labels=[]),
        lambda doc: doc["golden"].update(inputs=[[1.0]]),
        lambda doc: doc.update(files={"other": {"sha256": "0" * 64, "size": 1}}),
        lambda doc: doc["summary"]["default"]["rows"].append(["one cell"]),
        lambda doc: doc["summary"]["default"]["rows"].append("ab"),
        lambda doc: doc["model"].update(files=["../model.onnx"]),
        lambda doc: doc["model"].update(files=["/etc/passwd"]),
        lambda doc: doc["model"].update(files=[""]),
        lambda doc: doc["model"].update(files=["a\\b"]),
    ],
)
def test_parts_must_fit_each_other(spoil):
    document = json.loads(make_manifest().to_json())
    spoil(document)
    with pytest.raises(InvalidInput):
        Manifest.from_json(json.dumps(document))


def test_not_utf8():
    with pytest.raises(InvalidInput, match="UTF-8"):
        Manifest.from_json(b"\xff")


def test_completed():
    files = {"model.onnx": FileEntry("0" * 64, 7)}
    got = make_manifest().completed(
        name=ModelName("app", "search", "pump"), version=2, files=files, run_id="r", created_at=9.0
    )
    assert (got.name, got.version, got.run_id, got.created_at) == ("app.search/pump", 2, "r", 9.0)
    assert Manifest.from_json(got.to_json()) == got
    kept = make_manifest().completed(name=ModelName("app", "search", "pump"), version=2, files=files)
    assert kept.created_at == 1.5


def test_what_others_read_of_it():
    manifest = make_manifest()
    assert manifest.required_fields == ("a", "c")
    assert manifest.number_fields == {"a"}
    assert manifest.output_columns == ("predicted(y)",)
    assert manifest.classes == ("0", "1")
    assert manifest.schema_table().rows == (
        ("a", "feature", "number", "1", ""),
        ("c", "feature", "text", "0", "2"),
        ("y", "target", "text", "", "2"),
    )
    bare = make_manifest(profile={}, target="", task=Task.TRANSFORM)
    assert bare.schema_table().rows[0] == ("a", "feature", "number", "", "")


def test_signature_changes_with_fields_types_and_columns_only():
    base = make_manifest()
    assert len(base.signature) == 16
    assert make_manifest(metrics=(), version=5, params={}).signature == base.signature
    other = Preparation("drop", (NumberFeature("a"), NumberFeature("c")))
    assert make_manifest(preparation=other).signature != base.signature
    plan = OutputPlan.of(Task.REGRESSION, algorithm="X", params={}, raw=("value",), target="y")
    assert make_manifest(outputs=plan).signature != base.signature


def test_groups_are_part_of_what_a_prediction_reads():
    document = json.loads(make_manifest().to_json())
    document["groups"] = GROUPS
    assert schema_problems(SCHEMA, document) == []
    manifest = Manifest.from_json(json.dumps(document))
    plain = make_manifest()
    assert manifest.required_fields == (*plain.required_fields, "host")
    assert "host" not in manifest.number_fields
    assert manifest.signature != plain.signature
    assert ("host", "group", "text", "", "") in manifest.schema_table().rows
    assert json.loads(manifest.to_json())["groups"] == GROUPS
    assert "groups" not in json.loads(plain.to_json())
