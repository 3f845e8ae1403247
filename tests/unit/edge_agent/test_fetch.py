"""Pieces over MQTT, and which way is taken. HTTPS has tests with a real server."""

import hashlib
import json
import threading
import zlib

import pytest

from kepler_edge.errors import Refused, Unavailable
from kepler_edge.fetch import ChunkFetch, EitherFetch
from kepler_edge.release_doc import ReleaseFile

DATA = bytes(range(256)) * 1000
FILE = ReleaseFile("r1", "https://x/y", "model.onnx", hashlib.sha256(DATA).hexdigest(), len(DATA))


def chunk(sha256, off, data, crc32=None):
    header = json.dumps({"sha256": sha256, "off": off, "crc32": zlib.crc32(data) if crc32 is None else crc32})
    return len(header).to_bytes(4, "big") + header.encode() + data


class Host:
    """Answers requests as the service does, or badly."""

    def __init__(self, harm="", **options):
        self.asked = []
        self.harm = harm
        self.fetch = ChunkFetch(self.ask, **options)

    def ask(self, request):
        self.asked.append(request)
        data = DATA[request["off"] : request["off"] + request["len"]]
        answers = {
            "": [chunk(request["sha256"], request["off"], data)],
            "lost": [],
            "twice": [chunk(request["sha256"], request["off"], data)] * 2,
            "crc": [chunk(request["sha256"], request["off"], data, 1)],
            "other": [chunk("0" * 64, request["off"], data)],
            "long": [chunk(request["sha256"], request["off"], data + b"x")],
            "empty": [chunk(request["sha256"], request["off"], b"")],
            "junk": [b"", b"\0\0", b"\xff" * 50, b"\0\0\0\2{}", b"\0\0\0\4null", b"\0\0\0\x01[" + data],
        }[self.harm]
        for answer in answers:
            threading.Thread(target=self.fetch.deliver, args=(answer,)).start()


def all_of(fetch, file=FILE):
    out = b""
    while len(out) < file.size:
        out += fetch(file, len(out))
    return out


def test_a_file_comes_in_pieces_of_which_at_most_four_are_out():
    host = Host(chunk_bytes=10_000)
    assert all_of(host.fetch) == DATA
    assert sorted(request["off"] for request in host.asked) == list(range(0, len(DATA), 10_000))
    assert host.asked[0] == {"v": 1, "release": "r1", "sha256": FILE.sha256, "off": 0, "len": 10_000}
    host = Host("lost", timeout_s=0.05)
    with pytest.raises(Unavailable, match="No piece"):
        host.fetch(FILE, 0)
    assert len(host.asked) == 4


def test_pieces_that_come_twice_do_no_harm():
    host = Host("twice", chunk_bytes=50_000)
    assert all_of(host.fetch) == DATA


@pytest.mark.parametrize("harm", ["crc", "other", "long", "empty", "junk"])
def test_what_was_not_asked_for_is_dropped(harm):
    host = Host(harm, timeout_s=0.1)
    with pytest.raises(Unavailable):
        host.fetch(FILE, 0)
    assert host.fetch.dropped >= 4


def test_a_line_that_is_down_leaves_nothing_behind():
    def down(request):
        raise Unavailable("no line")

    fetch = ChunkFetch(down)
    for _ in range(3):
        with pytest.raises(Unavailable, match="no line"):
            fetch(FILE, 0)
    assert not fetch.deliver(chunk(FILE.sha256, 0, DATA[:10]))


def test_https_first_and_pieces_where_it_does_not_reach():
    calls = []

    def https(file, offset):
        calls.append("https")
        raise Unavailable("blocked")

    def pieces(file, offset):
        calls.append("pieces")
        return b"x"

    either = EitherFetch(https, pieces)
    assert either(FILE, 0) == either(FILE, 1) == b"x"
    assert calls == ["https", "pieces", "pieces"]  # HTTPS rests for a while
    with pytest.raises(Unavailable, match="blocked"):
        EitherFetch(https, None)(FILE, 0)
    with pytest.raises(Unavailable, match="no way"):
        EitherFetch(None, None)(FILE, 0)
    assert EitherFetch(https, pieces)(ReleaseFile("r", "", "m", "0" * 64, 5), 0) == b"x"
    assert calls[-1] == "pieces"

    def refuses(file, offset):
        raise Refused("gone")

    with pytest.raises(Refused):
        EitherFetch(refuses, pieces)(FILE, 0)
