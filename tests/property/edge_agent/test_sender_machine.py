"""The sender over a line that loses, repeats and breaks: in the end all is acknowledged and the host knows of no gap."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from kepler_edge.clock import Clock
from kepler_edge.frames import decode, parse
from kepler_edge.keys import DeviceKey, Trust
from kepler_edge.outbox import CLASSES, Outbox
from kepler_edge.outbox_file import Limits
from kepler_edge.sender import Sender
from kepler_edge.settings import make
from support import mqtt_schemas
from support.edge_host import join

QUICK = "/dev/shm" if Path("/dev/shm").is_dir() else None
KEY = DeviceKey(b"\x01" * 32)
TRUST = Trust([KEY.public])


class Line:
    """Takes frames; a test decides what becomes of them."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.room = True

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, batch: bool = False) -> bool:
        assert batch
        assert len(payload) <= 256 << 10
        if self.room:
            self.sent.append((topic, payload))
        return self.room

    def wait_for_room(self, timeout_s: float) -> bool:
        return self.room


class Machine(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory(dir=QUICK)
        self.now = 1000.0
        self.clock = Clock(lambda: 1.8e9, lambda: self.now, lambda: None, "0" * 32)
        self.line = Line()
        self.settings = make({"device": "d", "tenant": "t", "resend_s": 30.0, "hist_bytes_per_s": 0.0})
        self.made = 0
        self.got: set[int] = set()
        self.spans: dict[str, list[tuple[int, int]]] = {name: [(0, 0)] for name in CLASSES}
        self.open()

    def open(self) -> None:
        limits = Limits(quota_bytes=50 << 20, ballast_bytes=4096)
        self.outbox = Outbox(Path(self.folder.name) / "o.db", limits, self.clock)
        self.sender = Sender(self.outbox, self.line, KEY.sign, self.settings, self.clock, lambda: self.now)

    @rule(cls=st.integers(0, 3), count=st.integers(1, 700), size=st.sampled_from([1, 400]))
    def append(self, cls: int, count: int, size: int) -> None:
        record = {"kind": "telemetry", "ts": 1.0, "mono": 1.0, "tag": "t", "value": "x" * size}
        assert self.outbox.append([(cls, record)] * count) == count
        self.made += count

    @rule()
    def connect(self) -> None:
        self.sender.connected()

    @rule()
    def disconnect(self) -> None:
        self.sender.disconnected()
        before = len(self.line.sent)
        assert not self.sender.step()
        assert len(self.line.sent) == before

    @rule(steps=st.integers(1, 10))
    def send(self, steps: int) -> None:
        for _ in range(steps):
            self.sender.step()

    @rule()
    def full(self) -> None:
        self.line.room = not self.line.room

    @rule(seconds=st.floats(0, 2000))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        if self.line.sent:
            self.line.sent.pop(data.draw(st.integers(0, len(self.line.sent) - 1)))

    @rule()
    def settle(self) -> None:
        self.sender.settle()

    @rule()
    def restart(self) -> None:
        self.outbox.close()
        self.open()

    @rule(acknowledge=st.booleans(), backwards=st.booleans())
    def deliver(self, acknowledge: bool, backwards: bool) -> None:
        frames, self.line.sent = self.line.sent, []
        for topic, payload in reversed(frames) if backwards else frames:
            self.take(topic, payload)
            if acknowledge:
                for stream in CLASSES:
                    self.sender.acknowledged(self.ack(stream))

    def take(self, topic: str, payload: bytes) -> None:
        batch = parse(decode(topic, payload, TRUST.verify))
        records, stream = batch["records"], batch["stream"]
        assert isinstance(records, list)
        assert topic == f"kepler/v1/t/d/{'hist' if batch['hist'] else stream}"
        head = {**batch, "records": records[:1]}  # all of them would take too long
        mqtt_schemas.check("batch", head)
        qs = [record["q"] for record in records]
        assert qs == sorted(set(qs))
        assert len(qs) <= 500
        assert (batch["first"], batch["last"]) == (qs[0], qs[-1])
        self.got |= set(qs)
        self.spans[stream] = join(
            [*self.spans[stream], (0, batch["base"]), (batch["after"], batch["last"])]
        ) or [(0, 0)]

    def ack(self, stream: str) -> dict[str, object]:
        spans = self.spans[stream]
        gaps = [[1, spans[0][0]]] if spans[0][0] else []
        gaps += [[one[1] + 1, other[0]] for one, other in itertools.pairwise(spans)]
        return {"epoch": self.outbox.epoch, "stream": stream, "upto": spans[-1][1], "gaps": gaps[:100]}

    def teardown(self) -> None:
        """Whatever happened: with a good line everything arrives and the outbox is empty."""
        if not hasattr(self, "outbox"):
            return
        self.line.room = True
        self.sender.connected()
        for _ in range(300):
            while self.sender.step():
                pass
            self.deliver(True, False)
            self.sender.settle()
            self.now += 40
            if not any(counts.rows for counts in self.outbox.counts):
                break
        assert not any(counts.rows for counts in self.outbox.counts), self.outbox.stats()
        assert self.got == set(range(1, self.made + 1)), "a record was deleted that never came"
        self.outbox.close()
        self.folder.cleanup()


Machine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestSender = Machine.TestCase
