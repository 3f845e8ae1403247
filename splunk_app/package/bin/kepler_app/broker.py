"""The token broker: turns the stored installation token into a short-lived token of the searching user.

It runs inside splunkd as a persistent REST handler with a system token, because only administrators may read
stored secrets. The installation token goes to the service and nowhere else.
"""

from __future__ import annotations

import json
import re
from typing import Any

from kepler_app import logs, paths
from kepler_app.errors import SearchError
from kepler_app.settings import STANZA, Settings, read_ca
from kepler_app.splunkd import Refused, Splunkd, segment

TTL_S = 600
CAPABILITIES = ("train", "predict", "deploy", "admin")
PREFIX = "kepler_"
_REALM = f"__REST_CREDENTIAL__#{paths.APP}#configs/conf-{paths.CONF}"
_PIECE = re.compile(r"(.+)``splunk_cred_sep``(\d+)")
_END = "``splunk_cred_sep``S``splunk_cred_sep``P``"
_STATUS = {"InvalidInput": 400, "Unauthenticated": 502, "Denied": 403, "NotReady": 503}


def handle(request: dict[str, Any]) -> dict[str, Any]:
    """Answer one request of splunkd; never raises."""
    try:
        return _reply(200, _issue(request))
    except SearchError as error:
        logs.write("ERROR", "broker.refused", user=_user(request), code=error.code, error=error.sentence)
        return _reply(_STATUS.get(error.code, 503), {"error": error.sentence, "code": error.code})
    except Exception as error:  # a handler that raises shows its stack to the user
        crash_id = logs.crash("broker", "", error)
        sentence = f"The Kepler app's token broker failed inside with error id {crash_id}; see kepler.log."
        return _reply(500, {"error": sentence, "code": "InternalError"})


def _reply(status: int, payload: dict[str, Any]) -> dict[str, Any]:
    return {"status": status, "payload": json.dumps(payload), "headers": {"Content-Type": "application/json"}}


def _user(request: dict[str, Any]) -> str:
    session = request.get("session")
    return str(session.get("user", "")) if isinstance(session, dict) else ""


def _issue(request: dict[str, Any]) -> dict[str, Any]:
    """Address, CA and token for the user who calls."""
    if str(request.get("method", "")).upper() != "POST":
        raise SearchError("The token broker answers POST only.")
    session, server = request.get("session") or {}, request.get("server") or {}
    uri, user = str(server.get("rest_uri", "")), _user(request)
    system, own = str(request.get("system_authtoken", "")), str(session.get("authtoken", ""))
    if not uri or not user or not system or not own:
        raise SearchError("splunkd called the token broker without session or system token.", "NotReady")
    capabilities = user_capabilities(Splunkd(uri, own))
    if not capabilities:
        raise SearchError(
            "Your Splunk roles hold none of the capabilities kepler_predict, kepler_train, kepler_deploy and "
            "kepler_admin. Ask a Splunk administrator for a role that does, for example kepler_user.",
            "Denied",
        )
    installation = installation_settings(Splunkd(uri, system))
    answer = {
        "address": installation.address,
        "ca_pem": installation.ca_pem,
        "cert_file": installation.cert_file,  # where the files lie: the key itself is never handed out
        "key_file": installation.key_file,
        "token": "",
        "expires_at": 0.0,
    }
    if installation.tls:
        answer.update(issue_token(installation, user, capabilities))
    logs.write("INFO", "broker.issued", user=user, capabilities=",".join(capabilities))
    return answer


def user_capabilities(splunkd: Splunkd) -> list[str]:
    """Service capabilities that the user's Splunk roles give."""
    content = _first_content(splunkd.get("/services/authentication/current-context"))
    held = content.get("capabilities")
    held = set(held) if isinstance(held, list) else set()
    return [name for name in CAPABILITIES if PREFIX + name in held]


def installation_settings(splunkd: Splunkd) -> Settings:
    """The app's configuration with the stored token, read with a session that may read secrets."""
    content = _first_content(
        splunkd.get(f"/servicesNS/nobody/{paths.APP}/configs/conf-{paths.CONF}/{STANZA}")
    )
    address = str(content.get("address") or "").strip()
    if not address:
        raise SearchError(
            "The Kepler app has no service address yet. A Splunk administrator sets it under Apps, "
            "Kepler for Splunk, Configuration.",
            "NotReady",
        )
    return _settings(content, stored_token(splunkd))


def _settings(content: dict[str, Any], token: str) -> Settings:
    """Settings of the page's fields."""

    def value(name: str) -> str:
        return str(content.get(name) or "").strip()

    return Settings(
        value("address"),
        token,
        read_ca(value("ca_certificate")),
        cert_file=value("client_cert_file"),
        key_file=value("client_key_file"),
    )


def _first_content(answer: dict[str, Any]) -> dict[str, Any]:
    entries = answer.get("entry")
    content = entries[0].get("content") if isinstance(entries, list) and entries else None
    return content if isinstance(content, dict) else {}


def stored_token(splunkd: Splunkd) -> str:
    """The encrypted field of the configuration page; it is stored as JSON in numbered pieces."""
    path = f"/servicesNS/nobody/{segment(paths.APP)}/storage/passwords"
    answer = splunkd.get(path, count="0", search=f"realm={_REALM}")
    pieces: dict[int, str] = {}
    for entry in answer.get("entry") or []:
        content = entry.get("content") or {}
        match = _PIECE.fullmatch(str(content.get("username", "")))
        if content.get("realm") == _REALM and match and match[1] == STANZA:
            pieces[int(match[2])] = str(content.get("clear_password", ""))
    text = ""
    for number in sorted(pieces):
        if pieces[number].startswith(_END):
            break
        text += pieces[number]
    try:
        values = json.loads(text) if text else {}
    except ValueError:
        values = {}
    return str(values.get("token") or "") if isinstance(values, dict) else ""


def issue_token(installation: Settings, user: str, capabilities: list[str]) -> dict[str, Any]:
    """A token for ``user`` from the service."""
    from kepler.v1 import auth_pb2
    from kepler_app.client import Client

    if not installation.token:
        raise SearchError(
            "The Kepler app has no installation token yet. A Splunk administrator makes one on the service "
            "('kepler token create') and sets it under Apps, Kepler for Splunk, Configuration.",
            "NotReady",
        )
    client = Client(installation)
    try:
        issued = client.call(
            "AuthService/IssueToken",
            auth_pb2.IssueTokenRequest(user=user, capabilities=capabilities, ttl_s=TTL_S),
            auth_pb2.IssueTokenResponse,
        )
    finally:
        client.close()
    return {"token": issued.token, "expires_at": issued.expires_at}


def test_connection(settings: Settings) -> str:
    """Call WhoAmI; gives who the service takes us for. Raises `SearchError` with what is wrong."""
    from kepler.v1 import auth_pb2
    from kepler_app.client import Client

    client = Client(settings)
    try:
        me = client.call("AuthService/WhoAmI", auth_pb2.WhoAmIRequest(), auth_pb2.WhoAmIResponse, 10)
    finally:
        client.close()
    if settings.tls and "issue" not in me.capabilities:
        raise SearchError(
            "The token works but may not issue tokens for users. "
            "Make one with 'kepler token create --can issue,train,predict,deploy,admin'.",
            "Denied",
        )
    return str(me.user)


def check_settings(uri: str, session_key: str, payload: dict[str, Any]) -> None:
    """Test what the configuration page is about to save; an unchanged token comes as asterisks."""
    token = str(payload.get("token") or "").strip()
    if token and not token.strip("*"):
        try:
            token = stored_token(Splunkd(uri, session_key))
        except Refused as error:
            raise SearchError(
                "The stored token cannot be read with your session. Enter it again.", "Denied"
            ) from error
    test_connection(_settings(payload, token))


def refuse_keys(payload: dict[str, Any]) -> None:
    """Raise `SearchError` when a private key was pasted: what the page saves is not encrypted."""
    for name in ("ca_certificate", "client_cert_file", "client_key_file"):
        if "PRIVATE KEY-----" in str(payload.get(name) or ""):
            raise SearchError(
                "A private key was pasted where only certificates and paths belong; nothing was saved. "
                "Keep the key in a file that only the user that Splunk runs as may read."
            )
