"""Secrets through every path of this part, and then looked for in everything the service keeps and says."""

from __future__ import annotations

import io
from pathlib import Path

import httpx
import pytest
import structlog

from fakes.clock import FakeClock
from kepler.adapters.http.app import create_app
from kepler.adapters.http.server import HttpServer
from kepler.adapters.security.home import HomeSecurity
from kepler.adapters.telemetry.logs import configure_logging
from kepler.adapters.telemetry.metrics import ServiceMetrics
from kepler.adapters.telemetry.redaction import Redactor
from kepler.core.errors import KeplerError, Unauthenticated
from kepler.ports.health import Check, ServiceState

SECRET = "canary-7d1f0a plain words"


class Health:
    state = ServiceState.READY

    def checks(self) -> list[Check]:
        raise RuntimeError(f"cannot log in with {SECRET}")


def test_no_canary_anywhere(tmp_path: Path) -> None:
    home = tmp_path / "home"
    redactor = Redactor()
    stream = io.StringIO()
    logs = configure_logging(
        level="debug", format="json", file=home / "logs" / "service.log", stream=stream, redactor=redactor
    )
    security = HomeSecurity(home, "file", FakeClock(), redactor.learn)
    log = structlog.get_logger()
    security.secrets.set("hec", SECRET)
    _, token = security.tokens.create("sh", "ana", frozenset({"train", "issue"}), 0)
    parent = security.tokens.authenticate(token)
    _, user_token = security.tokens.issue(parent, "bob", frozenset({"train"}), 60)
    security.audit.append(who="ana", action="token.create", what=parent.token_id, outcome="ok")
    canaries = [SECRET, token, token.split("_", 2)[2], user_token, user_token.split(".")[1]]
    for canary in (SECRET, token, user_token):
        log.info("call", header=f"Bearer {canary}", canary=canary)
        with pytest.raises(Unauthenticated) as denied:
            security.tokens.authenticate(canary + "x")
        log.error("denied", exc_info=denied.value)
        assert canary not in denied.value.sentence

    metrics = ServiceMetrics()
    server = HttpServer(create_app(Health(), metrics, security.tokens), "127.0.0.1", 0)
    host, port = server.start()
    answers = ""
    with httpx.Client(base_url=f"http://{host}:{port}", trust_env=False, timeout=20) as client:
        for canary in (token, user_token, token + "x"):
            header = {"Authorization": f"Bearer {canary}"}
            for path in ("/metrics", "/readyz", f"/{canary}"):
                answer = client.get(path, params={"token": canary}, headers=header)
                answers += answer.text + str(answer.headers)
    server.stop(5)
    security.secrets.rotate()
    security.close()
    logs.close()

    kept = {str(path): path.read_bytes() for path in home.rglob("*") if path.is_file()}
    assert len(kept) >= 6
    kept |= {"stderr": stream.getvalue().encode(), "answers": answers.encode(), "metrics": metrics.render()}
    assert b"RuntimeError" in kept["stderr"]
    for place, content in kept.items():
        for canary in canaries:
            assert canary.encode() not in content, place


def test_the_pieces_are_opened_once_and_closed(tmp_path: Path) -> None:
    security = HomeSecurity(tmp_path / "home", "file", FakeClock())
    security.close()  # nothing opened
    assert security.secrets is security.secrets
    assert security.signer.key_id == HomeSecurity(tmp_path / "home", "file", FakeClock()).signer.key_id
    assert security.tokens.list() == []
    security.close()
    with pytest.raises(KeplerError):
        security.tokens.list()


def test_the_keyring_is_asked_only_when_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("kepler.adapters.secrets.keys.trusted_backend", lambda: asked.append("asked"))
    assert HomeSecurity(tmp_path / "a", "file", FakeClock()).secrets.names() == []
    assert asked == []
    assert HomeSecurity(tmp_path / "b", "keyring", FakeClock()).secrets.names() == []
    assert asked == ["asked"]
