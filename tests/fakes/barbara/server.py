"""Barbara's API as its SDK calls it: a real HTTP server on a loopback port.

Sources, by name in comments: SDK is the code of `barbara-api-sdk` 0.6.0; ACADEMY the pages of academy.barbara.tech named in
the facts about the edge, section 9; CI the sample flow in Barbara's own CI repository (same section).
"""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kepler.core.errors import InvalidInput
from kepler.settings_targets import BarbaraSettings
from kepler.targets._barbara_zip import check_zip

REALM = "bbr_test"


class Refused(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class FakeBarbara:
    """Attributes beside what the API shows: ``sick`` are names of versions whose container dies, ``slow`` of nodes that
    never take an order, ``logins`` counts password grants, ``token_s`` is how long a token is good."""

    def __init__(self, nodes: tuple[str, ...] = ("press-7", "press-8"), *, token_s: float = 240.0) -> None:
        self.token_s = (
            token_s  # SDK: auth.py falls back to no default; facts 1.5: lifetime unknown, 240 s assumed
        )
        self.user = ("kepler-ci", "correct horse", "client-1", "client-secret-1")
        self.logins = 0
        self.sick: set[str] = set()
        self.slow: set[str] = set()
        self.offline: set[str] = set()
        self.requests: list[tuple[str, str]] = []
        self.unavailable = 0  # answers 503 to so many requests
        self._tokens: dict[str, float] = {}
        self._nodes = {f"node-{place}": name for place, name in enumerate(nodes)}
        self._apps: dict[str, dict[str, Any]] = {}
        self._versions: dict[str, list[dict[str, Any]]] = {}
        self._spaces: dict[str, dict[str, dict[str, Any]]] = {node: {} for node in self._nodes}
        self._lock = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> FakeBarbara:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(5)
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def settings(self, **changes: Any) -> BarbaraSettings:
        """The section ``barbara`` that leads here."""
        values = {
            "api_url": self.url, "auth_url": f"{self.url}/auth", "realm": REALM, "client_id": self.user[2],
            "client_secret": "barbara-client-secret", "username": self.user[0], "password": "barbara-password",
            "image": "registry.plant/kepler-edge:0.1.0", "timeout_s": 5.0,
        }  # fmt: skip
        return BarbaraSettings(**{**values, **changes})

    def secret(self, name: str) -> str:
        return {"barbara-client-secret": self.user[3], "barbara-password": self.user[1]}[name]

    def expire(self) -> None:
        """All tokens end before their time, as after a password change or a restart of the login service."""
        self._tokens.clear()

    def running(self, node: str) -> str:
        """Name of the version on a node; empty where there is none."""
        node_id = next(key for key, name in self._nodes.items() if name == node)
        for space in self._spaces[node_id].values():
            return str(self._version(space["version"])["name"])
        return ""

    def artifact(self, name: str) -> bytes:
        return next(
            item["artifact"] for items in self._versions.values() for item in items if item["name"] == name
        )

    def answer(self, method: str, path: str, headers: Any, body: bytes) -> Any:
        parts = urlsplit(path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        with self._lock:
            self.requests.append((method, parts.path))
            if parts.path == f"/auth/realms/{REALM}/protocol/openid-connect/token":
                return self._login(parse_qs(body.decode()))
            if self.unavailable > 0:
                self.unavailable -= 1
                raise Refused(503, "try again")  # SDK: _http.py retries 429, 502, 503, 504
            token = str(headers.get("Authorization", "")).removeprefix("Bearer ")
            if self._tokens.get(token, 0.0) < time.monotonic():
                raise Refused(401, "expired")  # SDK: client.py logs in again on 401, once
            for pattern, verb, action in self._routes():
                match = re.fullmatch(pattern, parts.path)
                if match and verb == method:
                    return {
                        "response": action(*match.groups(), query=query, headers=headers, body=body)
                    }  # SDK: unwrap
        raise Refused(404, "no such resource")

    def _login(self, form: dict[str, list[str]]) -> dict[str, Any]:
        given = tuple(
            form.get(key, [""])[0] for key in ("username", "password", "client_id", "client_secret")
        )
        if form.get("grant_type") != ["password"] or given != self.user:  # facts 1.3: password grant alone
            raise Refused(401, "invalid_grant")
        self.logins += 1
        token = secrets.token_hex(16)
        self._tokens[token] = time.monotonic() + self.token_s
        return {"access_token": token, "expires_in": self.token_s}

    def _routes(self) -> list[tuple[str, str, Any]]:
        app, node, space = r"/api/v1/applications", r"/api/v1/devices/([^/]+)", r"/workloads/([^/]+)"
        return [
            (app, "GET", self._list_apps),
            (app, "POST", self._create_app),
            (rf"{app}/([^/]+)/appversions", "GET", self._list_versions),
            (rf"{app}/([^/]+)/appversions", "POST", self._create_version),
            ("/api/v1/devices", "GET", self._list_nodes),
            (node, "GET", self._node),
            (rf"{node}/user/workloads", "POST", self._create),
            (rf"{node}/user{space}", "PUT", self._update),
            (rf"{node}{space}", "GET", self._workload),
            (rf"{node}{space}", "DELETE", self._delete),
            (rf"{node}{space}/info", "POST", lambda *_args, **_more: None),
            (rf"{node}{space}/logs", "GET", self._logs),
        ]

    # SDK: applications.py

    def _list_apps(self, *, query: dict[str, str], **_: Any) -> Any:
        found = [item for item in self._apps.values() if query.get("search", "") in item["name"]]
        return {"applicationList": found, "total": len(found)}

    def _create_app(self, *, headers: Any, body: bytes, **_: Any) -> None:
        fields, _files = multipart(headers, body)
        if fields.get("docker") != ["true"]:
            raise Refused(400, "not a Docker app")
        app = f"app-{len(self._apps)}"
        self._apps[app] = {"_id": app, "name": fields["name"][0]}
        self._versions[app] = []

    def _list_versions(self, app: str, *, query: dict[str, str], **_: Any) -> Any:
        size, start = int(query.get("size", 10)), int(query.get("from", 0))  # SDK: the server's default is 10
        found = [{key: item[key] for key in ("_id", "name", "created")} for item in self._versions[app]]
        found.sort(key=lambda item: item["created"], reverse=query.get("sortOrder") == "desc")
        return {"appVersionList": found[start : start + size], "total": len(found)}

    def _create_version(self, app: str, *, headers: Any, body: bytes, **_: Any) -> None:
        fields, files = multipart(headers, body)
        if not set(fields["architectures"]) <= {"x86_64", "arm64", "armv7"}:  # ACADEMY: what versions accept
            raise Refused(400, "unknown architecture")
        try:
            check_zip(files["url"])  # ACADEMY: docker compose limitations
        except InvalidInput as error:
            raise Refused(400, error.message) from error
        if fields["name"][0] in {item["name"] for item in self._versions[app]}:
            raise Refused(409, "the version exists")
        place = sum(map(len, self._versions.values()))
        self._versions[app].append(
            {"_id": f"version-{place}", "name": fields["name"][0], "created": place, "artifact": files["url"]}
        )

    def _version(self, version: str) -> dict[str, Any]:
        return next(item for items in self._versions.values() for item in items if item["_id"] == version)

    # SDK: nodes.py

    def _list_nodes(self, *, query: dict[str, str], **_: Any) -> Any:
        found = [node for node, name in self._nodes.items() if query.get("search", "") in name]
        return {"deviceList": [self._shown(node) for node in found], "total": len(found)}

    def _node(self, node: str, **_: Any) -> Any:
        if node not in self._nodes:
            raise Refused(404, "no such node")
        return self._shown(node)

    def _shown(self, node: str) -> dict[str, Any]:
        name = self._nodes[node]
        spaces = [{"_id": key, "current": self._current(space)} for key, space in self._spaces[node].items()]
        return {
            "_id": node,
            "deviceName": name,
            "status": {"online": name not in self.offline},
            "spaces": spaces,
        }

    def _current(self, space: dict[str, Any]) -> dict[str, Any]:
        # SDK: utils.py line 221 has ids under `current` that may be embedded objects.
        return {"applicationId": {"_id": space["app"]}, "appVersionId": {"_id": space["version"]}}

    # SDK: workloads.py

    def _create(self, node: str, *, body: bytes, **_: Any) -> None:
        order = json.loads(body)
        self._spaces[node][f"space-{secrets.token_hex(3)}"] = self._ordered(order)

    def _update(self, node: str, space: str, *, body: bytes, **_: Any) -> None:
        if space not in self._spaces[node]:
            raise Refused(404, "no such workload")
        self._spaces[node][space] = self._ordered(json.loads(body))

    def _ordered(self, order: dict[str, Any]) -> dict[str, Any]:
        self._version(order["appVersionId"])
        return {"app": order["applicationId"], "version": order["appVersionId"], "looks": 0}

    def _workload(self, node: str, space: str, **_: Any) -> Any:
        found = self._spaces[node].get(space)
        if found is None:
            raise Refused(404, "no such workload")
        found["looks"] += 1
        pending = (
            found["looks"] < 2 or self._nodes[node] in self.slow
        )  # CI: orders are polled, nothing is at once
        name = self._version(found["version"])["name"]
        container = {
            "service": "kepler-edge", "name": "kepler-edge-1", "state": "exited" if name in self.sick else "running",
            "status": "Exited (1)" if name in self.sick else "Up 3 seconds", "health": {},
        }  # fmt: skip
        return {
            "current": self._current(found),
            "spaceStatus": {"update": {"pending": pending}},  # SDK: decode_pending_actions
            "info": {"container": {"info": [] if pending else [container]}},  # SDK: _running_services
        }

    def _delete(self, node: str, space: str, **_: Any) -> None:
        if self._spaces[node].pop(space, None) is None:
            raise Refused(404, "no such workload")

    def _logs(self, node: str, space: str, **_: Any) -> Any:
        name = self._version(self._spaces[node][space]["version"])["name"]
        return [{"timestamp": "2026-04-01T10:00:00+00:00", "message": f"{name} on {self._nodes[node]}"}]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.headers.get("Transfer-Encoding") == "chunked":
                    body = b""
                    while size := int(self.rfile.readline(), 16):
                        body += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                try:
                    status, found = 200, fake.answer(self.command, self.path, self.headers, body)
                except Refused as refused:
                    status, found = refused.status, {"error": str(refused)}
                content = json.dumps(found).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_DELETE = _any

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


def multipart(headers: Any, body: bytes) -> tuple[dict[str, list[str]], dict[str, bytes]]:
    """Fields and files of a form. Raises `Refused` for another body."""
    kind = headers.get("Content-Type", "")
    if not kind.startswith("multipart/form-data"):
        raise Refused(415, "multipart/form-data is needed")
    message = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    fields: dict[str, list[str]] = {}
    files: dict[str, bytes] = {}
    for part in message.iter_parts():
        name = str(part.get_param("name", header="content-disposition"))
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        if part.get_filename():
            files[name] = content
        else:
            fields.setdefault(name, []).append(content.decode())
    return fields, files
