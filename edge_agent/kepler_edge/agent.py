"""The agent: wires the parts, and runs the thread that answers the service."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import queue
import resource
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .clock import Clock
from .commands import Commands
from .credentials import CA_FILE, Credentials, stored_enrolment
from .durable import Durable
from .errors import InvalidInput, KeplerError, Unavailable
from .fetch import ChunkFetch, EitherFetch, HttpsFetch
from .frames import FrameError, decode, message, parse
from .group_commit import GroupCommit
from .inputs import Input, open_input
from .link import Incoming, Link, Will
from .log import Log
from .model import LoadedModel
from .outbox import Outbox
from .outbox_file import Limits
from .releases import Releases
from .scoring import Scorer
from .sender import Sender
from .settings import BARBARA_FILE, FileWatch, Settings, live_changes, make
from .shadow import Shadow
from .slots import Slots

if TYPE_CHECKING:
    from .ask import Asker
    from .edgehub import HubOutput

MAX_INCOMING = 128
TICK_S = 0.2
WATCH_S = 2.0
SETTLE_S = 1.0
STOP_S = 8.0


@dataclass(frozen=True, slots=True)
class _Up:
    session_present: bool


class Agent:
    """One device. ``start``, then ``wait`` until ``stop`` is called, from a signal for instance."""

    def __init__(self, settings: Settings, clock: Clock | None = None, log: Log | None = None) -> None:
        self.clock = clock or Clock()
        enrolled = stored_enrolment(settings.home)
        if enrolled is not None:
            settings = make(
                {
                    "tenant": enrolled.tenant,
                    "device": enrolled.device,
                    "broker": settings.broker or enrolled.broker,
                },
                settings,
            )
        if not settings.device or not settings.broker:
            raise InvalidInput(
                "This device is not enrolled",
                fix="Run `kepler-edge enrol`, or set device and broker and register its certificate.",
            )
        self.settings = settings
        self.log = log or Log(self.clock, settings.log_level)
        settings.home.mkdir(parents=True, exist_ok=True)
        self.durable = Durable(settings.home / "state.json")
        if self.durable.lost:
            self.log.error("state.broken", fix="It was set aside; the service sends the desired state again.")
        self.credentials = Credentials(settings)
        self.outbox = Outbox(settings.home / "outbox" / "outbox.db", _limits(settings), self.clock)
        self.writer = GroupCommit(self.outbox, self._committed)
        self.log.deliver_to(lambda record: self.writer.put(3, record), settings.logs_per_minute)
        self._root = settings.root
        self._host_state = f"kepler/v1/{settings.tenant}/host/state"
        topics = [f"{self._root}/{rest}" for rest in ("shadow/desired", "cmd/+", "ack", "model/chunk")]
        self.link = Link(settings, self.credentials, settings.broker, [*topics, self._host_state], self)
        self.sender = Sender(self.outbox, self.link, self.credentials.key.sign, settings, self.clock)
        self.chunks = ChunkFetch(self._ask_chunk)
        self.releases = Releases(
            settings.home,
            self.credentials.trust,
            fetch=EitherFetch(HttpsFetch(self._https_context), self.chunks),
            clock=self.clock,
            on_transition=self._transition,
        )
        self.hub_output = _hub_output(settings, self.writer.put)
        put = self.hub_output.put if self.hub_output else self.writer.put
        self.scorer = Scorer(self.releases, put, self.clock, self.log)
        self.asker = self.scorer.second_opinion = _asker(settings, put)
        self.scorer.telemetry = settings.telemetry
        self.shadow = Shadow(
            settings.home,
            settings.device,
            self.durable,
            self.credentials,
            self.releases,
            self.log,
            self._live,
        )
        self.commands = Commands(
            settings.home, f"{self._root}/rsp", self._handlers(), self._send, self.clock, self.log
        )
        self.inputs: list[Input] = [open_input(one) for one in settings.inputs]
        self._watch = FileWatch(BARBARA_FILE)
        self._incoming: queue.Queue[Incoming | _Up] = queue.Queue(MAX_INCOMING)
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._bd = 0
        self._reported: dict[str, object] = {}
        self._models: list[dict[str, object]] = []
        self._slots = Slots(settings.home)
        self._slot_of: weakref.WeakKeyDictionary[LoadedModel, str] = weakref.WeakKeyDictionary()
        self._started = self.clock.mono()
        self.dropped: dict[str, int] = {}

    # -- life ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts every thread. Scoring and keeping need no line."""
        if self.outbox.rebuilt_because:
            self.log.error("outbox.rebuilt", epoch=self.outbox.epoch, reason=self.outbox.rebuilt_because)
        self.writer.start()
        self.shadow.resume()
        self.scorer.paused = self.shadow.paused
        self._thread("control", self._control)
        self._thread("sender", lambda: self.sender.run(self._stopping))
        self._thread("scoring", lambda: self.scorer.run(self._stopping))
        if self.asker is not None:
            asker = self.asker
            self._thread("asking", lambda: asker.run(self._stopping))
        if self.hub_output is not None:
            hub_output = self.hub_output
            self._thread("edgehub-output", lambda: hub_output.run(self._stopping))
        for one in self.inputs:
            self._thread(f"input-{one.name}", lambda one=one: self._read(one))
        self.link.start()
        self.log.info(
            "agent.started", version=__version__, device=self.settings.device, epoch=self.outbox.epoch
        )

    def wait(self) -> None:
        """Returns after ``stop`` was called."""
        while not self._stopping.wait(1.0):
            pass

    def ask_to_stop(self) -> None:
        """For signal handlers: everything else happens in ``close``."""
        self._stopping.set()

    def close(self) -> None:
        """Ends: readings that came are scored, records are written, the death is told. Within 10 s or so."""
        self._stopping.set()
        self.sender.wake()
        deadline = time.monotonic() + STOP_S
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.1))
        self.log.info("agent.stopped")
        if not self.writer.stop(max(deadline - time.monotonic(), 1.0)):
            self.log.error("outbox.unwritten", count=self.writer.waiting, reason=self.writer.failure)
        if self.link.online:
            self._publish("state", {"v": 1, "online": False, "bd": self._bd}, retain=True)
            self.link.wait_for_room(0.5)
        self.link.stop()
        with contextlib.suppress(Exception):
            self.sender.settle()
            self.releases.close()
        self.outbox.close()

    def _thread(self, name: str, work: Callable[[], None]) -> None:
        def run() -> None:
            while True:
                try:
                    work()
                except Exception as error:
                    # A part that fails must not take the others with it, nor stay away.
                    self.log.error("thread.failed", thread=name, reason=f"{type(error).__name__}: {error}")
                    if not self._stopping.wait(1.0):
                        continue
                return

        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _read(self, one: Input) -> None:
        one.run(self.scorer.feed, self._stopping)
        if not self._stopping.is_set():
            self.log.info("input.ended", input=one.name, **dict(one.counts))

    # -- LinkEvents: on the link's threads ---------------------------------------------------------------------------

    def will(self) -> Will:
        """The death of the connection that is about to be tried."""
        try:
            self._bd = self.durable.rise("bd")
        except OSError as error:
            self._bd += 1  # a full disk must not keep alerts from leaving
            self.log.error("state.unwritten", reason=str(error))
        topic = f"{self._root}/state"
        death = {"v": 1, "online": False, "bd": self._bd}
        return Will(topic, message(topic, death, self.credentials.key.sign))

    def up(self, session_present: bool) -> None:
        """Connected."""
        with contextlib.suppress(queue.Full):
            self._incoming.put(_Up(session_present), timeout=5.0)

    def down(self, reason: str) -> None:
        """Not connected."""
        self.sender.disconnected()
        self.log.warning("link.down", reason=reason)

    def message(self, incoming: Incoming) -> None:
        """Something came."""
        try:
            self._incoming.put_nowait(incoming)
        except queue.Full:
            # Acknowledgements and the like are repeated by who sent them.
            self._drop("queue full")
            incoming.done()

    # -- the control thread ------------------------------------------------------------------------------------------

    def _control(self) -> None:
        watch_at = settle_at = 0.0
        while not self._stopping.is_set():
            try:
                found = self._incoming.get(timeout=TICK_S)
            except queue.Empty:
                found = None
            if isinstance(found, _Up):
                self._greet(found.session_present)
            elif found is not None:
                self._take(found)
                continue  # what waits comes before what is due
            if time.monotonic() >= settle_at:
                settle_at = time.monotonic() + SETTLE_S
                self.sender.settle()
            self.releases.tick(0.0)
            self._tell_changes()
            if time.monotonic() >= watch_at:
                watch_at = time.monotonic() + WATCH_S
                changed = self._watch.changed()
                if changed is not None:
                    refused = self._live(changed)
                    self.log.info("settings.reloaded", problems="; ".join(refused) or None)

    def _greet(self, session_present: bool) -> None:
        self._birth()
        self._report()
        self.sender.connected()
        self.log.info("link.up", protocol=self.link.protocol, session_present=session_present)

    def _take(self, incoming: Incoming) -> None:
        try:
            self._dispatch(incoming)
        except FrameError as error:
            self._drop(error.message)
            self.log.warning("message.dropped", topic=incoming.topic[:200], reason=error.message)
        except (KeplerError, OSError) as error:
            self._drop(type(error).__name__)
            self.log.warning("message.refused", topic=incoming.topic[:200], reason=str(error))
        finally:
            incoming.done()

    def _dispatch(self, incoming: Incoming) -> None:
        topic = incoming.topic
        body = decode(topic, incoming.payload, self.credentials.trust.verify)
        if topic == self._host_state:
            online = parse(body).get("online")
            if isinstance(online, bool):
                self.sender.host_online(online)
            return
        rest = topic.removeprefix(f"{self._root}/")
        if rest == "model/chunk":
            self.chunks.deliver(body)
        elif rest == "ack":
            ack = parse(body)
            if ack.get("device") != self.settings.device:
                raise FrameError("acknowledgement for another device")
            self.sender.acknowledged(ack)
        elif rest == "shadow/desired":
            if self.shadow.take(parse(body)):
                self.scorer.paused = self.shadow.paused
            self._report()
        elif rest.startswith("cmd/"):
            self.commands.take(rest.removeprefix("cmd/"), parse(body))
        else:
            raise FrameError("unknown topic")

    def _drop(self, reason: str) -> None:
        if reason in self.dropped or len(self.dropped) < 50:
            self.dropped[reason] = self.dropped.get(reason, 0) + 1

    # -- what is told --------------------------------------------------------------------------------------------------

    def _committed(self) -> None:
        self.sender.wake()

    def _publish(self, suffix: str, value: dict[str, object], *, retain: bool = False) -> bool:
        topic = f"{self._root}/{suffix}"
        return self.link.publish(topic, message(topic, value, self.credentials.key.sign), retain=retain)

    def _send(self, topic: str, value: dict[str, object]) -> None:
        """Publishes a reply; waits a little for room. A lost one is asked for again by its id."""
        payload = message(topic, value, self.credentials.key.sign)
        for _ in range(50):
            if self.link.publish(topic, payload) or not self.link.online:
                return
            time.sleep(0.1)

    def _ask_chunk(self, request: dict[str, object]) -> None:
        if not self._publish("model/get", request):
            raise Unavailable("The line is down")

    def _transition(self, step: dict[str, Any]) -> None:
        told: dict[str, object] = {"v": 1, "device": self.settings.device, **step}
        if not self._publish("rollout", told):
            raise Unavailable("The line is down")

    def _birth(self) -> None:
        self._models = self._loaded()
        self._publish(
            "state",
            {
                "v": 1,
                "online": True,
                "bd": self._bd,
                "epoch": self.outbox.epoch,
                "agent": __version__,
                "caps": _capabilities(self.link.protocol),
                "models": self._models,
                "clock": self.clock.state(),
            },
            retain=True,
        )

    def _loaded(self) -> list[dict[str, object]]:
        under_watch = {one["model"]: one["state"] for one in self.releases.reported()}
        found: list[dict[str, object]] = []
        for state, models in (("serving", self.releases.serving()), ("shadow", self.releases.shadows())):
            for model in models.values():
                on_probation = state == "serving" and under_watch.get(model.name) == "probation"
                found.append(
                    {
                        "name": model.name,
                        "version": model.version,
                        "slot": self._slot(model),
                        "state": "probation" if on_probation else state,
                        "sha8": model.sha8,
                    }
                )
        return found[:100]

    def _slot(self, model: LoadedModel) -> str:
        """The slot that holds a model's release; asked once for each that is loaded."""
        found = self._slot_of.get(model)
        if found is None:
            found = "factory"
            for slot in ("a", "b") if model.release else ():
                held = self._slots.held(model.name, slot)
                if held is not None and held.id == model.release:
                    found = slot
            self._slot_of[model] = found
        return found

    def _report(self) -> None:
        found = self.shadow.reported()
        if self._publish("shadow/reported", found, retain=True):
            self._reported = found

    def _tell_changes(self) -> None:
        if not self.link.online:
            return
        if self.shadow.reported() != self._reported:
            self._report()
        if self._loaded() != self._models:
            self._birth()

    # -- settings that change, commands --------------------------------------------------------------------------------

    def _live(self, values: Mapping[str, object]) -> list[str]:
        """Takes settings that may change while it runs; what is wrong with the others."""
        try:
            changed, refused = live_changes(self.settings, values)
        except InvalidInput as error:
            return [error.sentence]
        self.settings = changed
        self.log.level = changed.log_level
        self.log.deliver_to(lambda record: self.writer.put(3, record), changed.logs_per_minute)
        self.sender.set_rates(changed)
        self.scorer.telemetry = changed.telemetry
        try:
            self.outbox.set_limits(_limits(changed))
        except KeplerError as error:
            return [error.sentence]
        return [f"{name} changes with a restart only." for name in refused]

    def _handlers(self) -> dict[str, Callable[[Mapping[str, object]], dict[str, object]]]:
        return {
            "ping": self._ping,
            "diag": lambda _: self.diagnostics(),
            "logs": lambda args: {"lines": self.log.last(_count(args.get("lines"), 200))},
            "rebirth": self._rebirth,
            "flush": self._flush,
            "pause": lambda _: self._pause(True),
            "resume": lambda _: self._pause(False),
            "rollback": self._rollback,
            "rotate-cert": self._rotate,
        }

    def _ping(self, _: Mapping[str, object]) -> dict[str, object]:
        uptime_s = round(self.clock.mono() - self._started, 1)
        return {"agent": __version__, "uptime_s": uptime_s, "clock": self.clock.state()}

    def _rebirth(self, _: Mapping[str, object]) -> dict[str, object]:
        self._birth()
        self._report()
        return {}

    def _flush(self, _: Mapping[str, object]) -> dict[str, object]:
        written = self.writer.flush(2.0)
        self.sender.flush()
        return {"written": written, "last": self.outbox.last}

    def _pause(self, paused: bool) -> dict[str, object]:
        self.shadow.pause(paused)
        self.scorer.paused = paused
        return {"paused": paused}

    def _rollback(self, args: Mapping[str, object]) -> dict[str, object]:
        model = args.get("model")
        if not isinstance(model, str) or not model:
            raise InvalidInput("A rollback needs the name of a model", fix="Send it as the argument `model`.")
        self.releases.rollback(model)
        return {}

    def _rotate(self, args: Mapping[str, object]) -> dict[str, object]:
        certificate, ca = args.get("certificate_pem"), args.get("ca_pem", "")
        if not isinstance(certificate, str) or not certificate:
            return {"csr_pem": self.credentials.key.csr_pem(self.settings.device)}
        self.credentials.offer_certificate(certificate, ca if isinstance(ca, str) else "")
        # After the answer is on its way: the connection it goes by is the one that ends.
        timer = threading.Timer(2.0, self.link.reconnect)
        timer.daemon = True
        timer.start()
        return {"reconnects_in_s": 2}

    def diagnostics(self) -> dict[str, object]:
        """What helps to find what is wrong. No secrets and no contents of records."""
        return {
            "agent": __version__,
            "device": self.settings.device,
            "uptime_s": round(self.clock.mono() - self._started, 1),
            "clock": self.clock.state(),
            "settings": self.settings.public(),
            "outbox": self.outbox.stats() | {"waiting": self.writer.waiting, "failure": self.writer.failure},
            "sender": self.sender.stats(),
            "link": self.link.stats(),
            "scoring": self.scorer.stats(),
            "inputs": {one.name: one.counts for one in self.inputs},
            "asked": dict(self.asker.counts) if self.asker else {},
            "edgehub_output": dict(self.hub_output.counts) if self.hub_output else {},
            "models": self._loaded(),
            "shadow": self.shadow.reported(),
            "trust": self.credentials.trust.key_ids,
            "dropped": self.dropped,
            "process": process_figures(),
            "logs": self.log.last(100),
        }

    def _https_context(self) -> ssl.SSLContext:
        context = self.credentials.context("mqtts://files")
        assert context is not None  # it is for mqtts
        return context


def process_figures() -> dict[str, object]:
    """Memory, processor time and bytes written by this process; flash wears by the last."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    written = 0
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/io").read_text("ascii").splitlines():
            if line.startswith("write_bytes:"):
                written = int(line.split()[1])
    return {
        "pid": os.getpid(),
        "max_rss_kb": used.ru_maxrss,
        "cpu_s": round(used.ru_utime + used.ru_stime, 2),
        "threads": threading.active_count(),
        "write_bytes": written,
    }


def _limits(settings: Settings) -> Limits:
    ttl = (settings.ttl_p0_s, settings.ttl_p1_s, settings.ttl_p2_s, settings.ttl_p3_s)
    return Limits(quota_bytes=int(settings.quota_mb * (1 << 20)), ttl_s=ttl)


def _hub_output(settings: Settings, put: Callable[[int, dict[str, object]], None]) -> HubOutput | None:
    if not settings.edgehub_output:
        return None
    try:
        from .edgehub import EdgeHub, HubOutput
    except ImportError as error:  # grpc comes with the extra
        raise InvalidInput(
            "edgehub_output needs what is not installed",
            cause=str(error),
            fix="Install `kepler-edge[edgehub]`.",
        ) from error
    return HubOutput(put, EdgeHub(settings.edgehub_output), settings.device)


def _asker(settings: Settings, put: Callable[[int, dict[str, object]], None]) -> Asker | None:
    if not settings.ask_address:
        return None
    from .ask import Asker, Rule

    try:
        from .predict_rows import PredictService
    except ImportError as error:
        raise InvalidInput(
            "ask_address needs what is not installed", cause=str(error), fix="Install `kepler-edge[edgehub]`."
        ) from error
    enrolled = settings.home / CA_FILE
    service = PredictService(
        settings.ask_address,
        ca_file=settings.ca_file or (str(enrolled) if enrolled.is_file() else ""),
        cert_file=settings.cert_file,
        key_file=settings.key_file,
        token_file=settings.ask_token_file,
    )
    rule = Rule(settings.ask_confidence, settings.ask_low, settings.ask_high)
    return Asker(put, service, settings.ask_model, rule, settings.ask_timeout_s)


def _capabilities(protocol: str) -> list[str]:
    found = ["onnx", "chunks", "mqtt5" if protocol == "5" else "mqtt3"]
    found += [
        name for name, module in (("sparkplug", "google.protobuf"), ("edgehub", "grpc")) if _has(module)
    ]
    return found


def _has(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _count(value: object, most: int) -> int:
    return min(value, 500) if isinstance(value, int) and not isinstance(value, bool) and value > 0 else most
