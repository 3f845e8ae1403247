"""Every real message between Splunk and a chunked command, and the real chunks through our commands."""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.splunk_app.talk import Double, cells, getinfo, talk
from kepler.v1 import models_pb2
from kepler_app.chunks import read_message
from kepler_app.commands.predict import KeplerPredict
from kepler_app.commands.train import KeplerTrain
from kepler_app.rows import Appender, cut, header_line, read_header
from kepler_app.searchinfo import SearchInfo

pytestmark = pytest.mark.recordings
RAW = {
    "splunk-6.3/countmatches.input.gz": 2,
    "splunk-6.3/generatehello.input.gz": 1,
    "splunk-6.3/pypygeneratetext.input.gz": 1,
    "splunk-6.3/sum.map.input.gz": 2,
    "splunk-6.3/sum.reduce.input.gz": 2,
    "splunk-8.0.3/multibyte_input.gz": 10,
}
_BLOCK = re.compile(r"```\n(chunked 1\.0.*?)```", re.DOTALL)


@pytest.fixture
def recordings(shared_dir: Path) -> Path:
    return shared_dir / "recordings"


def messages(data: bytes) -> list[tuple[dict[str, Any], bytes]]:
    stream, found = io.BytesIO(data), []
    while (message := read_message(stream)) is not None:
        found.append(message)
    assert stream.tell() == len(data)
    return found


def transcripts(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Messages of the 8.2.1 transcripts, without the mark that their author put at some ends."""
    for path in sorted((folder / "splunk-8.2.1/example_messages").glob("*.md")):
        if path.name == "README.md":
            continue
        for block in _BLOCK.findall(path.read_text()):
            yield path.name, block.replace("<<EOF>>\n", "").replace("<<EOF>>", "").encode()


def check_cells(body: bytes, *, from_splunk: bool = True) -> int:
    """Cutting and appending keeps every cell and adds one; gives the number of rows."""
    columns, start = read_header(body)
    appender = Appender(columns, ["predicted(y)"])
    out, number = [appender.header], 0
    for slice_ in cut(body, start, len(columns)):
        new = [b"%d" % (number + offset) for offset in range(len(slice_.records))]
        out.append(appender.append(slice_, new))
        number += len(new)
    before, after = cells(body), cells(b"".join(out))
    assert columns == before[0]
    assert after[0] == [*columns, "predicted(y)"]
    assert len(after) == len(before) == number + 1
    assert not from_splunk or header_line(columns) == body[:start]
    assert all(
        new == [*old, str(at)] for at, (old, new) in enumerate(zip(before[1:], after[1:], strict=True))
    )
    return number


@pytest.mark.parametrize("name", list(RAW))
def test_raw_sessions_are_framed_and_every_cell_kept(recordings: Path, name: str) -> None:
    found = messages(gzip.decompress((recordings / name).read_bytes()))
    assert len(found) == RAW[name]
    assert found[0][0]["action"] == "getinfo"
    info = SearchInfo(found[0][0])
    assert info.sid
    assert info.user == "admin"
    assert "|" in info.search
    assert [metadata["action"] for metadata, _ in found[1:]] == ["execute"] * (len(found) - 1)
    rows = sum(check_cells(body) for _, body in found[1:] if body)
    assert rows == {"splunk-6.3/sum.map.input.gz": 50_000, "splunk-8.0.3/multibyte_input.gz": 40_682}.get(
        name, rows
    )


def test_transcripts_are_framed_and_every_cell_kept(recordings: Path) -> None:
    framed = abridged = 0
    for name, data in transcripts(recordings):
        # The transcripts end some bodies one line feed short or long; the one that its author abridged with
        # "..." has fewer bytes than it announces.
        message = read_message(io.BytesIO(data + b"\n"))
        if message is None:
            assert "..." in data.decode(), (name, data[:200])
            abridged += 1
            continue
        framed += 1
        metadata, body = message
        assert isinstance(metadata, dict)
        if body:
            check_cells(body, from_splunk="action" in metadata)
    assert framed >= 24
    assert abridged <= 1


@pytest.fixture
def model(service: Double) -> Double:
    service.versions["app.search/m"] = [
        models_pb2.ModelVersion(name="app.search/m", version=1, target="y", output_columns=["predicted(y)"])
    ]
    return service


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ["splunk-6.3/sum.map.input.gz", "splunk-8.0.3/multibyte_input.gz"])
def test_real_chunks_go_through_the_commands_row_for_row(recordings: Path, model: Double, name: str) -> None:
    bodies = [body for _, body in messages(gzip.decompress((recordings / name).read_bytes()))[1:]]
    sent = [row for body in bodies for row in cells(body)[1:]]
    header = cells(bodies[0])[0]

    code, answers = talk(KeplerPredict(), getinfo("app:m"), *bodies)
    assert code == 0
    assert len(answers) == len(bodies) + 1
    back = [row for _, body in answers[1:] for row in cells(body)[1:]]
    assert back == [[*row, f"{row[0]}!"] for row in sent]

    code, answers = talk(KeplerTrain(), getinfo("KMeans", "*", "into", "app:m"), *bodies)
    assert code == 0
    assert len(answers) == len(bodies) + 1
    assert all(body == b"" for _, body in answers[:-1])
    assert cells(answers[-1][1]) == [[*header, "predicted(y)"], *([*row, f"{row[0]}!"] for row in sent)]
    assert model.rows == sent
