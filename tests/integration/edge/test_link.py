"""The link where brokers are old, deaf or hostile."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

from kepler_edge.credentials import Credentials
from kepler_edge.link import Incoming, Link, Will
from support.broker import Broker
from support.edge_agent import make_home


class Events:
    def __init__(self) -> None:
        self.ups = 0
        self.reasons: list[str] = []
        self.came: list[Incoming] = []

    def will(self) -> Will:
        return Will("t/state", b"gone")

    def up(self, session_present: bool) -> None:
        self.ups += 1

    def down(self, reason: str) -> None:
        self.reasons.append(reason)

    def message(self, incoming: Incoming) -> None:
        self.came.append(incoming)
        incoming.done()


def until(true: object, wait_s: float = 20) -> None:
    deadline = time.monotonic() + wait_s
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def make_link(tmp_path: Path, broker: str, **values: object) -> tuple[Link, Events]:
    settings, _ = make_home(tmp_path, broker, **values)
    events = Events()
    return Link(settings, Credentials(settings), broker, ["t/#"], events), events


class OldBroker:
    """Speaks 3.1.1 alone: refuses version 5 as those brokers do, then accepts and acknowledges."""

    def __init__(self, answer: bytes = b"\x20\x02\x00\x01") -> None:
        self.answer = answer
        self.levels: list[int] = []
        self.server = socket.create_server(("127.0.0.1", 0))
        self.url = f"mqtt://127.0.0.1:{self.server.getsockname()[1]}"
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        while True:
            try:
                one, _ = self.server.accept()
            except OSError:
                return
            with one:
                one.settimeout(5)
                try:
                    self.serve(one)
                except OSError:
                    continue

    def serve(self, one: socket.socket) -> None:
        connect = one.recv(4096)
        level = connect[connect.index(b"MQTT") + 4]
        self.levels.append(level)
        if level == 5:
            one.sendall(self.answer)
            return
        one.sendall(b"\x20\x02\x00\x00")
        subscribe = one.recv(4096)
        one.sendall(b"\x90\x03" + subscribe[2:4] + b"\x01")
        while one.recv(4096):
            pass


def test_a_broker_that_refuses_version_5_gets_3_1_1(tmp_path: Path) -> None:
    broker = OldBroker()
    link, events = make_link(tmp_path, broker.url)
    link.start()
    until(lambda: events.ups == 1)
    assert broker.levels == [5, 4]
    assert link.protocol == "3.1.1"
    link.stop()
    broker.server.close()


def test_garbage_from_a_broker_ends_in_another_attempt(tmp_path: Path) -> None:
    broker = OldBroker(b"\x00\xff" * 500)
    link, events = make_link(tmp_path, broker.url, protocol="5")
    link.start()
    until(lambda: len(events.reasons) >= 3)
    assert not link.online
    assert link.stats()["failures"] == len(events.reasons)
    link.stop()
    broker.server.close()


def test_publishing_is_bounded_and_refused_without_a_line(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker:
        link, events = make_link(tmp_path, f"mqtt://{broker.address}")
        assert not link.publish("t/a", b"x")
        link.start()
        until(lambda: link.online)
        for number in range(500):
            assert link.wait_for_room(5)
            assert link.publish("t/a", b"%d" % number, batch=True)
        until(lambda: len(events.came) == 500)
        assert [int(one.payload) for one in events.came] == list(range(500))
        broker.stop()
        until(lambda: not link.online)
        assert not link.publish("t/a", b"x")
        assert not link.wait_for_room(0.1)
        broker.start()
        until(lambda: link.online)
        assert events.ups == 2
        link.stop()
