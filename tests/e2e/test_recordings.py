"""What real Splunks sent goes through our commands: each message framed, one reply each, every cell kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.raw import Conversation, Message, cells, getinfo, messages, recording
from fakes.splunkd import Splunkd
from fakes.splunkd.chunked import HEADER
from support.running_service import RunningService

pytestmark = [pytest.mark.recordings, pytest.mark.timeout(240)]
Rows = list[list[str]]


def sessions(folder: Path) -> dict[str, list[Message]]:
    """The execute messages of every recorded session; ``TestInternals`` is a writer's test and no Splunk."""
    found = {
        path.name: [message for message in recording(path) if message[0]["action"] == "execute"]
        for path in sorted(folder.glob("splunk-*/*input.gz"))
        if not path.name.startswith("TestInternals")
    }
    for path in sorted((folder / "splunk-8.2.1" / "example_messages").iterdir()):
        found[path.name] = list(_whole(path.read_bytes()))
    return {name: session for name, session in found.items() if session}


def _whole(transcript: bytes) -> Iterator[Message]:
    """Execute messages that the author of the transcript left whole."""
    for match in HEADER.finditer(transcript):
        data = transcript[match.start() : match.end() + int(match[1]) + int(match[2])]
        body = data[len(match[0]) + int(match[1]) :]
        if b'"action":"execute"' in data and (not body or (body.endswith(b"\n") and b"\n\n" not in body)):
            yield messages(data)[0]


@pytest.fixture(scope="module")
def folder(shared_dir: Path) -> Path:
    return shared_dir / "recordings"


@pytest.fixture(scope="module", autouse=True)
def _model(splunkd: Splunkd) -> None:
    """A model that reads a field no recording has."""
    made = splunkd.search("| inputlookup iris.csv | keplertrain StandardScaler sepal_width into app:recorded")
    assert not made.is_failed, made.errors


@pytest.fixture
def talk(service: RunningService, installed: Path, tmp_path: Path, splunk_python: str) -> type[Conversation]:
    """Conversations with commands of the built app, under each CPython that Splunk ships."""

    class Talk(Conversation):
        def __init__(self, command: str) -> None:
            super().__init__(splunk_python, installed, command, tmp_path, KEPLER_ADDRESS=service.grpc)

    return Talk


def kept(sent: Rows, back: Rows) -> Rows:
    """The cells that are new in ``back``; fails unless the others are the sent ones in order."""
    width = len(sent[0])
    assert len(back) == len(sent)
    assert [row[:width] for row in back] == sent
    return [row[width:] for row in back]


def test_every_message_gets_one_reply_with_every_cell(folder: Path, talk: type[Conversation]) -> None:
    found = sessions(folder)
    assert len(found) >= 6
    n_rows = 0
    for name, session in found.items():
        # A session that the recorder cut ends without its last chunk: ours is the end of input then.
        with talk("keplerpredict") as command:
            assert command.say(getinfo("app:recorded", "on_missing=null"))[0]["type"] == "stateful"
            for metadata, body in session:
                head, back = command.execute(body, finished=metadata["finished"])
                assert "error" not in head, (name, head["error"])
                assert head["finished"] is metadata["finished"]
                sent, answer = cells(body), cells(back)
                if len(sent) > 1:
                    new = kept(sent, answer)
                    assert new[0] == ["SS_sepal_width"], name
                    assert {row[0] for row in new[1:]} == {""}
                    n_rows += len(new) - 1
                if metadata["finished"]:
                    break
            command.end()
    assert n_rows > 90_000


def train(talk: type[Conversation], bodies: list[bytes], *args: str) -> Rows:
    """All chunks into one training: empty replies until the last, which holds every row."""
    with talk("keplertrain") as command:
        assert command.say(getinfo(*args))[0]["type"] == "events"
        for body in bodies[:-1]:
            head, back = command.execute(body, finished=False)
            assert (head["finished"], back) == (False, b""), head
        head, back = command.execute(bodies[-1], finished=True)
        assert "error" not in head, head["error"]
        command.end()
    return cells(back)


def predict(talk: type[Conversation], bodies: list[bytes], model: str) -> Rows:
    """Chunk by chunk; gives all rows under one header."""
    rows: Rows = []
    with talk("keplerpredict") as command:
        command.say(getinfo(model))
        for number, body in enumerate(bodies):
            last = number == len(bodies) - 1
            head, back = command.execute(body, finished=last)
            assert "error" not in head, head["error"]
            assert head["finished"] is last
            answer = cells(back)
            rows += answer if not rows else answer[1:]
        command.end()
    return rows


def whole(bodies: list[bytes]) -> Rows:
    first, *rest = [cells(body) for body in bodies]
    assert all(part[0] == first[0] for part in rest)
    return first + [row for part in rest for row in part[1:]]


def test_the_chunk_of_fifty_thousand_rows(folder: Path, talk: type[Conversation]) -> None:
    bodies = [body for _, body in sessions(folder)["sum.map.input.gz"]]
    sent = whole(bodies)
    assert len(sent) == 50_001
    asked = ("LinearRegression", "date_second", "from", "date_minute", "value1", "into", "app:rec_63")
    trained = kept(sent, train(talk, bodies, *asked))
    predicted = kept(sent, predict(talk, bodies, "app:rec_63"))
    assert trained[0] == predicted[0] == ["predicted(date_second)"]
    value1 = sent[0].index("value1")
    for cell, row, again in zip(trained[1:], sent[1:], predicted[1:], strict=True):
        # A row without a value in a used field is left out and comes back with nothing.
        assert bool(cell[0]) == bool(row[value1])
        assert not cell[0] or abs(float(cell[0]) - float(again[0])) <= 1e-6 * max(1.0, abs(float(cell[0])))


def test_the_nine_chunks(folder: Path, talk: type[Conversation]) -> None:
    bodies = [body for _, body in sessions(folder)["multibyte_input.gz"]]
    sent = whole(bodies)
    assert (len(bodies), len(sent)) == (9, 40_683)
    trained = kept(sent, train(talk, bodies, "StandardScaler", "_time", "into", "app:rec_803"))
    predicted = kept(sent, predict(talk, bodies, "app:rec_803"))
    assert trained[0] == predicted[0] == ["SS__time"]
    times = [float(row[0]) for row in sent[1:]]
    mean = sum(times) / len(times)
    spread = (sum((t - mean) ** 2 for t in times) / len(times)) ** 0.5
    for made, again, time in zip(trained[1:], predicted[1:], times, strict=True):
        assert abs(float(made[0]) - (time - mean) / spread) <= 1e-4
        assert made == again
    assert any("\u0e17t" in row for row in sent)
