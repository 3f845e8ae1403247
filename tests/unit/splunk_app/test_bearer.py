"""When a search's token is asked for again."""

from __future__ import annotations

import time

import pytest

from kepler_app import bearer
from kepler_app.bearer import Bearer
from kepler_app.errors import SearchError
from kepler_app.settings import Settings
from unit.splunk_app.plain import refused


class Broker:
    """Issues tokens named by their number."""

    def __init__(self, lifetime_s: float = 600.0) -> None:
        self.lifetime_s, self.asked, self.address = lifetime_s, 0, "kepler.example.com:1"
        self.broken = False

    def __call__(self) -> Settings:
        if self.broken:
            raise SearchError("splunkd does not answer.", "Unavailable")
        self.asked += 1
        return Settings(self.address, f"t{self.asked}", expires_at=time.time() + self.lifetime_s, renew=self)


def held(token: Bearer) -> str:
    return token.metadata()["authorization"].removeprefix("Bearer ")


def ahead(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    real = time.monotonic()
    monkeypatch.setattr(bearer.time, "monotonic", lambda: real + seconds)


def test_tokens_without_end_and_without_a_broker_stay() -> None:
    for settings in (Settings("a:1", "t"), Settings("a:1", "t", expires_at=1.0)):
        token = Bearer(settings)
        assert held(token) == "t"
        assert token.renew() is False
    assert Bearer(Settings("localhost:1")).metadata() == {}
    assert Bearer(Settings("localhost:1", renew=Broker())).renew() is False


def test_the_last_minute_is_for_renewing(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker()
    token = Bearer(broker())
    ahead(monkeypatch, 530)
    assert held(token) == "t1"
    ahead(monkeypatch, 545)
    assert held(token) == "t2"


def test_a_clock_that_is_ahead_asks_once_a_minute_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(lifetime_s=-3600)
    token = Bearer(broker())
    assert [held(token) for _ in range(3)] == ["t1"] * 3
    ahead(monkeypatch, 61)
    assert [held(token) for _ in range(3)] == ["t2"] * 3


def test_a_token_serves_to_its_end_when_no_other_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker()
    token = Bearer(broker())
    broker.broken = True
    ahead(monkeypatch, 570)
    assert held(token) == "t1"
    ahead(monkeypatch, 601)
    with refused("splunkd does not answer"):
        token.metadata()


def test_another_service_gets_no_calls_of_this_search(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker()
    token = Bearer(broker())
    broker.address = "elsewhere.example.com:1"
    with refused("was changed while the search ran"):
        token.renew()
