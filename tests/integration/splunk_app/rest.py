"""The few REST endpoints of splunkd that the app asks."""

from __future__ import annotations

import http.server
import json
import threading
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kepler_app import broker

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
