"""The agent reads every manifest that the service may write."""

import json
from dataclasses import replace

import pytest

from fakes.manifests import make_manifest, make_rich_manifest
from kepler.core.manifest import FileEntry
from kepler_edge import package
from kepler_edge.errors import Refused
from kepler_edge.keys import DeviceKey, Trust

KEY = DeviceKey(b"\x07" * 32)
TRUST = Trust([KEY.public])


def read(manifest, **changes):
    document = {**json.loads(manifest.to_bytes()), **changes}
    payload = json.dumps(document).encode()
    return package.read_manifest(payload, KEY.sign(payload), TRUST)


def test_every_kind_of_feature_and_every_part():
    found = read(make_rich_manifest())
    assert (found.name, found.version, found.sha8) == ("app.search/pump", 3, "0" * 8)
    assert [feature.kind for feature in found.preparation.features] == ["number", "onehot", "codes", "target"]
    assert found.preparation.width == 4
    assert found.profile["a"].quantiles == (0.1, 0.2)
    assert found.profile["c"].top == (("x", 3), ("z", 1))


def test_the_agent_knows_every_property_of_the_schema(root):
    schema = json.loads((root / "proto/kepler/manifest/v1.schema.json").read_text())
    document = json.loads(make_rich_manifest().to_bytes())
    missing = set(schema["properties"]) - set(document)
    assert missing == {"groups"}  # refused by name, below
    with pytest.raises(Refused, match="one model per group"):
        read(make_rich_manifest(), groups={})
    with pytest.raises(Refused, match="unknown keys: 'newer'"):
        read(make_rich_manifest(), newer=1)


@pytest.mark.parametrize("key", sorted(json.loads(make_rich_manifest().to_bytes())))
def test_every_part_is_needed_and_of_its_type(key):
    document = json.loads(make_rich_manifest().to_bytes())
    for wrong in ([[]], object):
        changed = {name: value for name, value in document.items() if name != key}
        if wrong is not object:
            changed[key] = wrong
        payload = json.dumps(changed).encode()
        if key == "origin" or (key in ("tags", "metrics") and wrong == [[]]):
            continue  # not needed by an agent, or not looked into
        with pytest.raises(Refused):
            package.read_manifest(payload, KEY.sign(payload), TRUST)


def test_signatures_decide_first():
    payload = make_rich_manifest().to_bytes()
    good = KEY.sign(payload)
    other = DeviceKey(b"\x08" * 32)
    for signature in (b"", good[:-1], good + b"\0", bytes(64), other.sign(payload)):
        with pytest.raises(Refused, match="signature does not hold"):
            package.read_manifest(payload, signature, TRUST)
    with pytest.raises(Refused, match="signature does not hold"):
        package.read_manifest(payload + b" ", good, TRUST)
    both = Trust([other.public, KEY.public])
    assert package.read_manifest(payload, other.sign(payload), both).version == 3
    assert package.read_manifest(payload, good, both).version == 3


def test_natively_served_versions_still_have_an_onnx_file_first():
    manifest = make_rich_manifest()
    model = replace(manifest.model, files=("model.onnx", "model.ubj"))
    files = {name: FileEntry("0" * 64, 12) for name in model.files}
    assert read(replace(manifest, model=model, files=files)).model_file == "model.onnx"


def test_a_draft_is_no_version():
    with pytest.raises(Refused):
        read(make_manifest())
