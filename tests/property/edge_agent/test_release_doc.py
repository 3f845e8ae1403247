"""Whatever a desired state holds, it is a release or one kind of error, and what is kept reads back the same."""

import copy
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from kepler_edge.checked import Section
from kepler_edge.errors import InvalidInput
from kepler_edge.inputs import open_input
from kepler_edge.release_doc import Release

GOOD = {
    "id": "r1", "model": "app.search/m", "version": 3, "url": "https://x/y",
    "manifest": {"path": "manifest.json", "sha256": "0" * 64, "size": 10},
    "signature": {"path": "manifest.sig", "sha256": "1" * 64, "size": 64},
    "files": [{"path": "model.onnx", "sha256": "2" * 64, "size": 1000}],
    "bindings": [{"input": "plant/+", "fields": {"x": "a"}, "key": "m"}],
    "windows": [{"field": "a", "seconds": 60, "rows": 0, "function": "mean", "as": "a_mean"}],
    "thresholds": {"bad": 0.5}, "limits": {"max_rss_mb": 100, "max_latency_ms": 5, "min_agent": "0.1"},
    "shadow_s": 1, "probation_s": 2, "expires": 3,
    "gates": {"max_error_rate": 0.1, "max_nan_rate": 0.1, "max_latency_ms": 1, "max_drift": 0.2},
    "allow_downgrade": True,
}  # fmt: skip
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
    st.sampled_from(["..", "../x", "app/../x", "a~b", "https://", "\ud800", -1, 2**70]),
)  # fmt: skip
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)


def places(value, path=()):
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, (*path, index))


def test_the_example_is_taken_whole():
    release = Release.of(GOOD)
    assert (release.size, release.gates.max_drift, release.allow_downgrade) == (1074, 0.2, True)
    assert Release.load(release.text) == release
    assert Release.load(release.text).sha256 == release.sha256


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_any_change_gives_a_release_or_one_error(data):
    document = copy.deepcopy(GOOD)
    *above, last = data.draw(st.sampled_from([path for path in places(GOOD) if path]))
    holder = document
    for key in above:
        holder = holder[key]
    holder[last] = data.draw(JSON)
    if isinstance(holder, dict) and data.draw(st.booleans()):
        holder[data.draw(st.text(max_size=8))] = data.draw(JSON)
    try:
        release = Release.of(document)
    except InvalidInput:
        return
    assert Release.load(release.text) == release
    for part in (*release.model.split("/"), *(file.path for file in release.files)):
        assert part.strip(".")
        assert not set(part) & set("/\\\0")


@given(JSON)
@settings(max_examples=200, deadline=None)
def test_anything_else_is_one_error(value):
    for read in (
        Release.of,
        lambda found: Section(found, "x").done(),
        lambda found: open_input({"kind": "file", "x": found}),
    ):
        try:
            read(value)
        except InvalidInput:
            continue
        assert value == {}


def test_numbers_that_json_cannot_hold():
    for text in ('{"id": 1e999}', '{"id": NaN}'):
        try:
            Release.of(json.loads(text))
        except InvalidInput:
            continue
        raise AssertionError(text)
