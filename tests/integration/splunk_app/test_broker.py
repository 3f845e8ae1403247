"""From the search to a user's token through splunkd's REST, and the configuration page's connection test."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from fakes.splunkd import Splunkd
from fakes.splunkd.web import Response, json_response
from integration.splunk_app.search_head import TOKEN, configure, grant, plan, saved, store_secret
from integration.splunk_app.talk import Double, error_of, make_certificate, talk
from kepler_app import broker
from kepler_app.commands.models import KeplerModels
from kepler_app.settings import Settings
from kepler_app.splunkd import Splunkd as Rest
from kepler_app.splunkd import _context
from unit.splunk_app.plain import refused


def request_of(splunkd: Splunkd, user: str) -> dict[str, Any]:
    """What splunkd hands the broker for a search of ``user``."""
    return {
        "method": "POST",
        "system_authtoken": splunkd.accounts.system_token,
        "session": {"user": user, "authtoken": splunkd.accounts.session_for(user)},
        "server": {"rest_uri": splunkd.uri},
    }


def test_the_user_gets_a_token_and_never_the_secret(splunkd: Splunkd, secure: Double) -> None:
    ana = splunkd.accounts.session_for("ana")
    through_splunkd = Rest(splunkd.uri, ana).post("/services/kepler/token")
    directly = json.loads(broker.handle(request_of(splunkd, "ana"))["payload"])
    for answer in (through_splunkd, directly):
        assert answer["token"] == "user-ana"
        assert answer["address"] == saved(splunkd)["address"]
        assert "installation" not in json.dumps(answer)
    assert len(secure.issued) == 2
    for issued in secure.issued:
        assert (issued.user, list(issued.capabilities), issued.ttl_s) == ("ana", ["train", "predict"], 600)


def test_a_command_uses_that_token(splunkd: Splunkd, secure: Double) -> None:
    sentence = error_of(KeplerModels(), plan(splunkd, "ana"), b"")
    assert "token is not known" in sentence, "the double knows the installation token only"
    secure.token = ""
    code, _ = talk(KeplerModels(), plan(splunkd, "ana"), b"")
    assert code == 0
    asked = [line for line in splunkd.access_log if '"POST /services/kepler/token' in line]
    assert [line.split()[2] for line in asked] == ["ana"] * len(asked) != []


def test_plaintext_on_this_machine_needs_no_token(splunkd: Splunkd) -> None:
    with Double() as service:
        configure(splunkd, address=service.address)
        assert talk(KeplerModels(), plan(splunkd, "ana"), b"")[0] == 0
        assert service.issued == []


def test_refusals_are_one_sentence(splunkd: Splunkd, secure: Double) -> None:
    assert "none of the capabilities" in error_of(KeplerModels(), plan(splunkd, "bob"), b"")
    assert "none of the capabilities" in error_of(KeplerModels(), plan(splunkd, "nobody"), b"")
    for raw in ("", "{broken"):
        store_secret(splunkd, raw)
        assert "no installation token yet" in error_of(KeplerModels(), plan(splunkd, "ana"), b"")
    configure(splunkd, address="")
    assert "no service address yet" in error_of(KeplerModels(), plan(splunkd, "ana"), b"")
    log = (splunkd.splunk_home / "var/log/splunk/kepler.log").read_text()
    assert "event=broker.refused" in log
    assert "installation-x" not in log
    splunkd.intercept = lambda _: Response(200, b"<html>", "text/html")
    assert "no JSON" in error_of(KeplerModels(), plan(splunkd, "ana"), b"")
    there = plan(splunkd, "ana")
    splunkd.stop()
    assert "does not answer" in error_of(KeplerModels(), there, b"")


def test_statuses_of_splunkd_itself() -> None:
    from kepler_app import tokens
    from kepler_app.splunkd import Refused

    for status, words in ((404, "needs a restart"), (500, "HTTP status 500"), (403, "capabilities")):
        for body in (b"<html>", b"[]", b'{"error": ""}'):
            assert words in tokens._explain(Refused(status, body, "/x")).sentence
    assert tokens._explain(Refused(400, b'{"error": "Said.", "code": "X"}', "/x")).code == "X"


def test_the_broker_never_raises(splunkd: Splunkd) -> None:
    for request in ({}, {"method": "POST"}, {"method": "POST", "session": "x"}, {"method": "GET"}):
        reply = broker.handle(request)
        assert reply["status"] >= 400
        assert json.loads(reply["payload"])["error"]
    grant(splunkd, "ana")
    assert broker.handle(request_of(splunkd, "ana"))["status"] == 403
    for answer in ({}, {"entry": []}, {"entry": [{"content": {"capabilities": None}}]}):
        splunkd.intercept = lambda _, answer=answer: json_response(answer)
        assert broker.handle(request_of(splunkd, "ana"))["status"] == 403


def test_plaintext_to_splunkd_stays_on_this_machine() -> None:
    assert Rest("http://splunk.example.com:1", "k")._plain is False
    assert Rest("http://127.0.0.1:1", "k")._plain is True
    assert _context("splunk.example.com").check_hostname
    assert not _context("127.0.0.1").check_hostname


def test_a_broken_ca_file_of_splunk_is_one_sentence(bare_environment: Path) -> None:
    broken = bare_environment / "etc/auth/cacert.pem"
    broken.parent.mkdir(parents=True)
    broken.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n")
    with refused(f"{str(broken)!r} cannot be read or is not PEM text"):
        Rest("https://splunk.example.com:1", "k").get("/x")
    assert not _context("127.0.0.1").check_hostname, "which verifies nothing needs no file"


def test_the_page_tests_the_connection(splunkd: Splunkd, secure: Double) -> None:
    payload, system = saved(splunkd), splunkd.accounts.system_token
    assert payload["token"].strip("*") == ""
    with refused("may not issue"):
        broker.check_settings(splunkd.uri, system, payload)
    secure.capabilities = ["issue", "predict"]
    broker.check_settings(splunkd.uri, system, payload)
    with refused("token is not known"):
        broker.check_settings(splunkd.uri, system, {**payload, "token": "other"})
    with refused("not trusted"):
        broker.check_settings(
            splunkd.uri, system, {**payload, "ca_certificate": make_certificate()[0].decode()}
        )
    with refused("cannot be read with your session"):
        broker.check_settings(splunkd.uri, splunkd.accounts.session_for("bob"), payload)
    assert broker.test_connection(Settings(secure.address, TOKEN)) == "ana"


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
    splunk_modules: types.SimpleNamespace, splunkd: Splunkd, secure: Double
) -> None:
    import custom_hook_mixin  # type: ignore[import-not-found]

    hook = custom_hook_mixin.CustomHookMixin()
    splunk_modules.uri, system = splunkd.uri, splunkd.accounts.system_token
    payload = {**saved(splunkd), "test_connection": "1"}
    with pytest.raises(splunk_modules.RestError, match="may not issue"):
        hook.edit_hook(system, "service", "service", payload)
    hook.edit_hook(system, "service", "service", {**payload, "test_connection": "0"})
    _, key, _ = make_certificate()
    for field in ("ca_certificate", "client_cert_file", "client_key_file"):
        pasted = {**payload, field: payload["ca_certificate"] + key.decode(), "test_connection": "0"}
        with pytest.raises(splunk_modules.RestError, match="private key was pasted"):
            hook.edit_hook(system, "service", "service", pasted)
    hook.edit_hook(system, "logging", "logging", {"loglevel": "INFO"})
    secure.capabilities = ["issue"]
    hook.edit_hook(system, "service", "service", payload)
