"""From the search to a user's token through splunkd's REST, and the configuration page's connection test."""

from __future__ import annotations

import http.server
import json
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from integration.splunk_app.talk import Double, error_of, getinfo, make_certificate, talk
from kepler_app import broker, splunkd
from kepler_app.commands.models import KeplerModels
from kepler_app.settings import Settings
from unit.splunk_app.plain import refused

SEP = "``splunk_cred_sep``"
END = SEP.join(["", *"SPLUNK", ""])


class Splunkd:
    """The few endpoints the app asks, with the access rules of a real splunkd.

    Pieces of secrets as solnlib writes them (facts/splunk_app.md section 6); only the system's token reads them.
    """

    def __init__(self) -> None:
        self.conf: dict[str, Any] = {"address": "", "ca_certificate": ""}
        self.secret = json.dumps({"token": "installation-" + "x" * 300})
        self.capabilities = {"ana": ["search", "kepler_train", "kepler_predict"], "bob": ["search"]}
        self.broken = False
        self.seen: list[tuple[str, str]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self, "GET")

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.answer(self, "POST")

            def log_message(self, *_: object) -> None:
                return

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, handler: Any, method: str) -> None:
        who = handler.headers.get("Authorization", "").removeprefix("Splunk ")
        path = urlsplit(handler.path).path
        self.seen.append((who, path))
        status, payload = self.route(who, path, method, parse_qs(urlsplit(handler.path).query))
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def route(self, who: str, path: str, method: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        if self.broken:
            return 200, b"<html>"
        if who not in {*self.capabilities, "system"}:
            return 401, {"messages": [{"type": "WARN", "text": "call not properly authenticated"}]}
        if path == "/services/kepler/token":
            request = {
                "method": method,
                "system_authtoken": "system",
                "session": {"user": who, "authtoken": who},
                "server": {"rest_uri": self.uri},
            }
            reply = broker.handle(request)
            return reply["status"], reply["payload"].encode()
        if path == "/services/authentication/current-context":
            return 200, {"entry": [{"content": {"username": who, "capabilities": self.capabilities[who]}}]}
        if who != "system":
            return 403, {}
        if path == "/servicesNS/nobody/kepler/configs/conf-kepler_settings/service":
            return 200, {"entry": [{"content": self.conf}]}
        if path == "/servicesNS/nobody/kepler/storage/passwords":
            realm = "__REST_CREDENTIAL__#kepler#configs/conf-kepler_settings"
            assert query["search"] == [f"realm={realm}"]
            pieces = [self.secret[at : at + 255] for at in range(0, len(self.secret), 255)]
            named = [(f"service{SEP}{number}", text) for number, text in enumerate([*pieces, END], 1)]
            named += [(f"other{SEP}1", '{"token": "wrong"}'), ("plain", "wrong")]
            entries = [
                {"content": {"realm": realm, "username": n, "clear_password": t}} for n, t in reversed(named)
            ]
            elsewhere = {"content": {"realm": "x", "username": f"service{SEP}1", "clear_password": "wrong"}}
            return 200, {"entry": [elsewhere, *entries]}
        return 404, {}


@pytest.fixture
def rest() -> Iterator[Splunkd]:
    server = Splunkd()
    yield server
    server.close()


@pytest.fixture
def secure(rest: Splunkd) -> Iterator[Double]:
    """A service with TLS that the app is configured for."""
    ca, _, issuer = make_certificate(names=("Test CA",))
    certificate, key, _ = make_certificate(issuer=issuer)
    service = Double(token=json.loads(rest.secret)["token"])
    rest.conf = {"address": service.secure(certificate, key), "ca_certificate": ca.decode()}
    with service:
        yield service


def plan(rest: Splunkd, user: str) -> dict[str, Any]:
    return getinfo(splunkd_uri=rest.uri, session_key=user, username=user)


def test_the_user_gets_a_token_and_never_the_secret(rest: Splunkd, secure: Double) -> None:
    answer = splunkd.Splunkd(rest.uri, "ana").post("/services/kepler/token")
    assert answer["token"] == "user-ana"
    assert answer["address"] == rest.conf["address"]
    assert "installation" not in json.dumps(answer)
    [issued] = secure.issued
    assert (issued.user, list(issued.capabilities), issued.ttl_s) == ("ana", ["train", "predict"], 600)


def test_a_command_uses_that_token(rest: Splunkd, secure: Double) -> None:
    sentence = error_of(KeplerModels(), plan(rest, "ana"), b"")
    assert "token is not known" in sentence, "the double knows the installation token only"
    secure.token = ""
    code, _ = talk(KeplerModels(), plan(rest, "ana"), b"")
    assert code == 0
    assert rest.seen[0] == ("ana", "/services/kepler/token")


def test_plaintext_on_this_machine_needs_no_token(rest: Splunkd) -> None:
    with Double() as service:
        rest.conf = {"address": service.address}
        assert talk(KeplerModels(), plan(rest, "ana"), b"")[0] == 0
        assert service.issued == []


def test_refusals_are_one_sentence(rest: Splunkd, secure: Double, bare_environment: Path) -> None:
    assert "none of the capabilities" in error_of(KeplerModels(), plan(rest, "bob"), b"")
    assert "none of the capabilities" in error_of(KeplerModels(), plan(rest, "nobody"), b"")
    rest.secret = ""
    assert "no installation token yet" in error_of(KeplerModels(), plan(rest, "ana"), b"")
    rest.secret = "{broken"
    assert "no installation token yet" in error_of(KeplerModels(), plan(rest, "ana"), b"")
    rest.conf = {"address": ""}
    assert "no service address yet" in error_of(KeplerModels(), plan(rest, "ana"), b"")
    rest.broken = True
    assert "no JSON" in error_of(KeplerModels(), plan(rest, "ana"), b"")
    rest.close()
    assert "does not answer" in error_of(KeplerModels(), plan(rest, "ana"), b"")
    log = (bare_environment / "var/log/splunk/kepler.log").read_text()
    assert "event=broker.refused" in log
    assert "installation-x" not in log


def test_statuses_of_splunkd_itself() -> None:
    from kepler_app import tokens
    from kepler_app.splunkd import Refused

    for status, words in ((404, "needs a restart"), (500, "HTTP status 500"), (403, "capabilities")):
        for body in (b"<html>", b"[]", b'{"error": ""}'):
            assert words in tokens._explain(Refused(status, body, "/x")).sentence
    assert tokens._explain(Refused(400, b'{"error": "Said.", "code": "X"}', "/x")).code == "X"


def test_the_broker_never_raises(rest: Splunkd) -> None:
    for request in ({}, {"method": "POST"}, {"method": "POST", "session": "x"}, {"method": "GET"}):
        reply = broker.handle(request)
        assert reply["status"] >= 400
        assert json.loads(reply["payload"])["error"]
    broken = {
        "method": "POST",
        "system_authtoken": "system",
        "session": {"user": "ana", "authtoken": "ana"},
        "server": {"rest_uri": rest.uri},
    }
    rest.capabilities["ana"] = None  # type: ignore[assignment]
    assert broker.handle(broken)["status"] == 403


def test_plaintext_to_splunkd_stays_on_this_machine() -> None:
    assert splunkd.Splunkd("http://splunk.example.com:1", "k")._plain is False
    assert splunkd.Splunkd("http://127.0.0.1:1", "k")._plain is True
    assert splunkd._context("splunk.example.com").check_hostname
    assert not splunkd._context("127.0.0.1").check_hostname


def test_the_page_tests_the_connection(rest: Splunkd, secure: Double) -> None:
    payload = {**rest.conf, "token": "********"}
    with refused("may not issue"):
        broker.check_settings(rest.uri, "system", payload)
    secure.capabilities = ["issue", "predict"]
    broker.check_settings(rest.uri, "system", payload)
    with refused("token is not known"):
        broker.check_settings(rest.uri, "system", {**payload, "token": "other"})
    with refused("not trusted"):
        broker.check_settings(
            rest.uri, "system", {**payload, "ca_certificate": make_certificate()[0].decode()}
        )
    with refused("cannot be read with your session"):
        broker.check_settings(rest.uri, "bob", payload)
    assert broker.test_connection(Settings(secure.address, json.loads(rest.secret)["token"])) == "ana"


@pytest.fixture
def splunk_modules(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """The modules that exist inside splunkd only."""

    class RestError(Exception):
        def __init__(self, status: int, message: str) -> None:
            super().__init__(message)
            self.status = status

    found = types.SimpleNamespace(uri="", RestError=RestError)

    def module(name: str, **members: Any) -> None:
        made = types.ModuleType(name)
        vars(made).update(members)
        monkeypatch.setitem(sys.modules, name, made)

    for name in ("splunk", "splunk.persistconn", "solnlib", "splunktaucclib", "splunktaucclib.rest_handler"):
        module(name)
    module("splunk.persistconn.application", PersistentServerConnectionApplication=object)
    module("solnlib.splunkenv", get_splunkd_uri=lambda: found.uri)
    module("splunktaucclib.rest_handler.base_hook_mixin", BaseHookMixin=object)
    module("splunktaucclib.rest_handler.error", RestError=RestError)
    for name in ("kepler_token_broker", "custom_hook_mixin"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return found


def test_the_handler_that_splunkd_loads(splunk_modules: types.SimpleNamespace) -> None:
    import kepler_token_broker  # type: ignore[import-not-found]

    handler = kepler_token_broker.TokenBroker("line", "argument")
    for text in ('{"method": "GET"}', b'{"method": "GET"}'):
        assert handler.handle(text)["status"] == 400


def test_the_hook_that_the_page_calls(
    splunk_modules: types.SimpleNamespace, rest: Splunkd, secure: Double
) -> None:
    import custom_hook_mixin  # type: ignore[import-not-found]

    hook = custom_hook_mixin.CustomHookMixin()
    splunk_modules.uri = rest.uri
    payload = {**rest.conf, "token": "******", "test_connection": "1"}
    with pytest.raises(splunk_modules.RestError, match="may not issue"):
        hook.edit_hook("system", "service", "service", payload)
    hook.edit_hook("system", "service", "service", {**payload, "test_connection": "0"})
    hook.edit_hook("system", "logging", "logging", {"loglevel": "INFO"})
    secure.capabilities = ["issue"]
    hook.edit_hook("system", "service", "service", payload)
