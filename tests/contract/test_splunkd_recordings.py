"""The stand-in's messages are the recorded ones, byte for byte."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from fakes.splunkd.chunked import HEADER, SearchInfo, execute, frame
from fakes.splunkd.spl import split_pipeline
from fakes.splunkd.table import from_csv, quote, to_csv

pytestmark = pytest.mark.recordings


def messages(data: bytes) -> list[tuple[dict[str, Any], bytes, bytes]]:
    """(metadata, body, whole message) of each message in a stream."""
    found: list[tuple[dict[str, Any], bytes, bytes]] = []
    position = 0
    while match := HEADER.match(data, position):
        n_meta, n_body = int(match[1]), int(match[2])
        middle, end = match.end() + n_meta, match.end() + n_meta + n_body
        found.append((json.loads(data[match.end() : middle]), data[middle:end], data[position:end]))
        position = end
    return found


def recorded(shared_dir: Path) -> dict[str, list[tuple[dict[str, Any], bytes, bytes]]]:
    """What Splunk sent in every session of 6.3 and 8.0.3."""
    folder = shared_dir / "recordings"
    inputs = sorted(p for p in folder.glob("splunk-*/*input.gz") if not p.name.startswith("TestInternals"))
    return {p.name: messages(gzip.decompress(p.read_bytes())) for p in [*inputs]}


def transcripts(shared_dir: Path) -> list[bytes]:
    """Whole messages from Splunk in the transcripts of 8.2.1; those that the author shortened are left out."""
    found: list[bytes] = []
    for path in sorted((shared_dir / "recordings" / "splunk-8.2.1" / "example_messages").iterdir()):
        data = path.read_bytes()
        for match in HEADER.finditer(data):
            whole = data[match.start() : match.end() + int(match[1]) + int(match[2])]
            body = whole[len(match[0]) + int(match[1]) :]
            is_whole = not body or (body.endswith(b"\n") and b"\n\n" not in body)
            if b'"action"' in whole and is_whole:
                found.append(whole)
    return found


def test_every_recorded_body_is_written_back_unchanged(shared_dir: Path) -> None:
    n_rows = 0
    for name, session in recorded(shared_dir).items():
        for metadata, body, whole in session:
            if metadata["action"] != "execute":
                continue
            table = from_csv(body)
            assert to_csv(table) == body, name
            assert frame(execute(metadata["finished"]), body) == whole, name
            n_rows += table.n_rows
    # 50,000 rows of 6.3's sum.map and 40,682 of 8.0.3 are the bulk.
    assert n_rows > 90_000


def test_every_message_of_8_2_1_is_made_again(shared_dir: Path) -> None:
    found = transcripts(shared_dir)
    assert len(found) >= 20
    for whole in found:
        metadata, body, _ = messages(whole)[0]
        if metadata["action"] == "execute":
            assert frame(execute(metadata["finished"]), to_csv(from_csv(body))) == whole
            continue
        info = dict(metadata["searchinfo"])
        info["search"] = unquote(info["search"])
        made = SearchInfo(
            **info,
            preview=metadata["preview"],
            streaming_command_will_restart=metadata["streaming_command_will_restart"],
        )
        assert frame(made.getinfo()) == whole


def test_arguments_are_split_as_recorded(shared_dir: Path) -> None:
    """The recorder took its own `record=t` out, and sum's phase=map was added by a preop."""
    seen = 0
    for session in recorded(shared_dir).values():
        info = session[0][0]["searchinfo"]
        if info["splunk_version"] != "20150522" or "phase=map" in info["args"]:
            continue
        search = unquote(info["search"])
        command = next((c for c in split_pipeline(search) if re.search(r"\brecord=t\b", c.text)), None)
        if command is None:
            continue
        words = [w for w in command.words if w.value != "record=t"]
        if not {"fieldname", "total"} & {w.raw.partition("=")[0] for w in words}:
            continue
        assert [w.value for w in words] == info["args"]
        if "pattern=\\w+" in info["args"]:
            assert [w.raw for w in words] == info["raw_args"]
            seen += 1
    assert seen == 1


@pytest.mark.parametrize("name", ["_time", "a.b", "x y", "date_hour", "café", 'sa"y'])
def test_names_outside_ascii_letters_and_digits_are_quoted(name: str) -> None:
    assert quote(name) == '"' + name.replace('"', '""') + '"'
