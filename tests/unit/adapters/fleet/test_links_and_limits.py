"""Addresses that only their device may use, for a time; and how often a stranger may ask."""

from __future__ import annotations

import pytest

from fakes.clock import FakeClock
from fakes.secret_store import InMemorySecretStore
from kepler.adapters.fleet.file_links import SignedLinks
from kepler.adapters.http.edge import MAX_CALLERS, CallerLimit
from kepler.core.errors import Denied, Overloaded

MODEL = "app.search/failure"


def test_a_ticket_holds_for_its_device_version_and_time() -> None:
    clock, secrets = FakeClock(1000.0), InMemorySecretStore()
    links = SignedLinks(secrets, clock, "https://service/")
    url = links.folder_url("gw-1", MODEL, 3, 1060.0)
    assert url.startswith("https://service/v1/edge/models/app.search~failure/3/gw-1.1060.")
    assert url == SignedLinks(secrets, clock, "https://service").folder_url("gw-1", MODEL, 3, 1060.0)
    ticket = url.rpartition("/")[2]
    assert links.device_of(MODEL, 3, ticket) == "gw-1"
    for model, version, wrong in [
        (MODEL, 4, ticket),
        ("app.search/other", 3, ticket),
        (MODEL, 3, ticket.replace("gw-1", "gw-2")),
        (MODEL, 3, ticket.replace("1060", "9060")),
        (MODEL, 3, ticket[:-1]),
        (MODEL, 3, ""),
        (MODEL, 3, "gw-1.x.y"),
        (MODEL, 3, "gw-1.1060.\ud800"),
        (MODEL, 3, "x" * 10_000),
    ]:
        with pytest.raises(Denied):
            links.device_of(model, version, wrong)
    with pytest.raises(Denied):
        SignedLinks(InMemorySecretStore(), clock, "https://service").device_of(MODEL, 3, ticket)
    clock.advance(60)
    with pytest.raises(Denied):
        links.device_of(MODEL, 3, ticket)
    assert SignedLinks(secrets, clock, "").folder_url("gw-1", MODEL, 3, 2000.0) == ""


def test_one_caller_is_slowed_down_and_others_are_not() -> None:
    now = [0.0]
    limit = CallerLimit(per_minute=6, burst=3, all_per_minute=600, now=lambda: now[0])
    for _ in range(3):
        limit.take("a")
    with pytest.raises(Overloaded) as caught:
        limit.take("a")
    assert caught.value.retry_after_s == 10.0
    limit.take("b")
    now[0] = 10.0
    limit.take("a")
    with pytest.raises(Overloaded):
        limit.take("a")


def test_all_together_are_bounded_and_memory_is_too() -> None:
    now = [0.0]
    limit = CallerLimit(per_minute=6, burst=3, all_per_minute=40, now=lambda: now[0])
    for number in range(10):
        limit.take(str(number))
    with pytest.raises(Overloaded):
        limit.take("another")
    wide = CallerLimit(all_per_minute=1e9, now=lambda: now[0])
    for number in range(MAX_CALLERS + 50):
        wide.take(str(number))
    assert len(wide._left) <= MAX_CALLERS
