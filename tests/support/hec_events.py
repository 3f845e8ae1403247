"""A spool that sends to the stand-in's collector, with times short enough for a test."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from fakes.splunkd import Splunkd
from kepler.adapters.hec.collector import Address
from kepler.adapters.hec.forwarder import ForwarderOptions, HecForwarder
from kepler.adapters.hec.sender import SendLimits
from kepler.ports.hec import EventKind, HecEvent

QUICK = SendLimits(
    batch_bytes=64 << 10,
    batch_events=100,
    backoff_s=0.01,
    max_backoff_s=0.1,
    ack_poll_s=0.02,
    ack_timeout_s=0.4,
    max_unacknowledged=8,
)
MACRO = "eval event_id=mvindex(event_id, 0) | dedup event_id keepempty=true"


def splunk_with_hec(**token: object) -> tuple[Splunkd, str]:
    """A started stand-in with the two indexes and an input of its own."""
    splunkd = Splunkd(listen=False).start()
    splunkd.events.create("kepler")
    splunkd.events.create("kepler_metrics", metrics=True)
    splunkd.hec.start()
    return splunkd, splunkd.hec.add_token(default_index="kepler", **token)


def forwarder(
    folder: Path, url: str, token: str | Callable[[], str], *, timeout_s: float = 2.0, **options: object
) -> HecForwarder:
    chosen = replace(ForwarderOptions(send=QUICK), **options)  # type: ignore[arg-type]
    give = token if callable(token) else lambda: token
    return HecForwarder(folder, Address(url, None, timeout_s), lambda _: give(), chosen)


def numbered(numbers: Iterable[int], source: str = "test", **more: object) -> list[HecEvent]:
    return [
        HecEvent(EventKind.PREDICTION, {"n": n, **more}, 1_800_000_000.0 + n, f"{source}:{n}", source)
        for n in numbers
    ]


def stored(splunkd: Splunkd, *, after_macro: bool = True) -> list[dict[str, str]]:
    search = "search index=kepler sourcetype=kepler:prediction" + (f" | {MACRO}" if after_macro else "")
    result = splunkd.search(search)
    assert not result.is_failed, result.messages
    return result.rows


def wait_until(found: Callable[[], object], timeout_s: float = 20.0) -> None:
    until = time.monotonic() + timeout_s
    while not found():
        assert time.monotonic() < until, "it did not come true in time"
        time.sleep(0.01)
