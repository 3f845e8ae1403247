"""The macros and eventtypes that searches on Kepler's events are built on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.splunkd import Splunkd
from kepler.ports.hec import EventKind
from kepler.settings import Settings

DEFAULT = Path("splunk_app") / "package" / "default"


@pytest.fixture
def splunkd(root: Path) -> Iterator[Splunkd]:
    with Splunkd({"kepler": root / "splunk_app" / "package"}, listen=False, python=sys.executable) as started:
        started.events.create("kepler")
        yield started


def test_dedup_keeps_one_of_each_id_wherever_it_stands(splunkd: Splunkd) -> None:
    add = splunkd.events.add
    for n in (1, 1, 2, 2, 2):
        add({"event_id": f"json-{n}", "n": n}, index="kepler")
    for n in (3, 3):
        add({"n": n}, index="kepler", fields={"event_id": f"indexed-{n}"})
    for n in (4, 4):
        add({"event_id": f"both-{n}", "n": n}, index="kepler", fields={"event_id": f"both-{n}"})
    add({"event_id": "both-4", "n": 4}, index="kepler")  # the same event, by two ways
    for n in (5, 5):
        add({"n": n}, index="kepler")  # without one: nobody can say whether it is the same
    found = splunkd.search("search `kepler_index` | `kepler_dedup` | sort n | fields n event_id")
    assert not found.is_failed, found.messages
    assert [row["n"] for row in found.rows] == ["1", "2", "3", "4", "5", "5"]
    assert [row["event_id"] for row in found.rows] == ["json-1", "json-2", "indexed-3", "both-4", "", ""]


def test_counting_after_the_macro_is_counting_events(splunkd: Splunkd) -> None:
    for n in range(50):
        for _ in range(1 + n % 3):
            splunkd.events.add({"event_id": f"d:e:{n}", "device": f"d{n % 5}"}, index="kepler")
    rows = splunkd.search(
        "search `kepler_index` | `kepler_dedup` | stats count dc(event_id) as ids by device"
    ).rows
    assert [(row["count"], row["ids"]) for row in rows] == [("10", "10")] * 5


def test_macros_name_the_indexes_of_the_settings(splunkd: Splunkd) -> None:
    settings = Settings().hec
    for macro, index in (("kepler_index", settings.index), ("kepler_metrics_index", settings.metrics_index)):
        found = splunkd.apps.macro(macro)
        assert found is not None
        assert found["definition"] == f"index={index}"


def test_every_kind_of_event_has_its_sourcetype(root: Path) -> None:
    text = (root / DEFAULT / "props.conf").read_text("utf-8")
    stanzas = [line[1:-1] for line in text.splitlines() if line.startswith("[")]
    assert stanzas == [f"kepler:{kind}" for kind in EventKind]
    assert text.count("KV_MODE = json") == text.count("TRUNCATE = 0") == len(stanzas)
