"""Persistent REST handlers of apps: found by restmap.conf, run in their own process, asked one at a time.

Sources: restmap.conf.spec 9.0.3 and 10.2.3 ([script:...] scripttype = persist, match, script, handler, capability,
passPayload, passSession, passSystemAuth, passHttpHeaders, passConf, requireAuthentication); facts/splunk_app.md
section 6; the keys of the request from public handlers.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .apps import App
from .web import Refused, Request, Response, not_authenticated, not_permitted

if TYPE_CHECKING:
    from .splunkd import Splunkd

HERE = Path(__file__).parent
_TIMEOUT_S = 60.0


def _true(value: str) -> bool:
    return value.strip().lower() in {"1", "true", "t", "yes"}


@dataclass(frozen=True)
class Endpoint:
    app: App
    name: str
    settings: dict[str, str]

    @property
    def match(self) -> str:
        return self.settings.get("match", "").strip("/")

    def flag(self, name: str, default: str) -> bool:
        return _true(self.settings.get(name, default))

    def capability(self, method: str) -> str | None:
        """`capability.get` for a GET, else `capability`."""
        return self.settings.get(f"capability.{method.lower()}") or self.settings.get("capability")


def has_capabilities(expression: str, held: set[str]) -> bool:
    """`a`, `a and (b or c)`: the boolean expressions of restmap.conf; `and` binds tighter."""
    tokens = re.findall(r"\(|\)|[A-Za-z0-9_]+", expression)
    position = 0

    def peek() -> str:
        return tokens[position].lower() if position < len(tokens) else ""

    def either() -> bool:
        nonlocal position
        value = both()
        while peek() == "or":
            position += 1
            value = both() or value
        return value

    def both() -> bool:
        nonlocal position
        value = one()
        while peek() == "and":
            position += 1
            value = one() and value
        return value

    def one() -> bool:
        nonlocal position
        token = tokens[position] if position < len(tokens) else ""
        position += 1
        if token == "(":
            value = either()
            position += 1
            return value
        return token in held

    return either()


@dataclass
class _Process:
    process: subprocess.Popen[bytes]
    stderr: list[str]
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, request: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        timer = threading.Timer(_TIMEOUT_S, self.process.kill)
        timer.start()
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = b""
        finally:
            timer.cancel()
        if not line:
            return {"error": '"the handler process ended": ' + " ".join(self.stderr[-3:])}
        return json.loads(line)


class PersistentHandlers:
    def __init__(self, splunkd: Splunkd) -> None:
        self._splunkd = splunkd
        self._processes: dict[tuple[str, str], _Process] = {}
        self._lock = threading.Lock()
        self.stderr: list[str] = []
        """What handlers wrote to stderr, which splunkd logs."""

    def find(self, path: str) -> Endpoint | None:
        """The endpoint with the longest match of the path."""
        best: Endpoint | None = None
        for app in self._splunkd.apps:
            for stanza, settings in app.conf("restmap").items():
                if not stanza.startswith("script:") or settings.get("scripttype") != "persist":
                    continue
                endpoint = Endpoint(app, stanza, settings)
                inside = path == endpoint.match or path.startswith(endpoint.match + "/")
                if endpoint.match and inside and (best is None or len(endpoint.match) > len(best.match)):
                    best = endpoint
        return best

    def handle(self, endpoint: Endpoint, request: Request) -> Response:
        if endpoint.flag("requireAuthentication", "true") and request.user is None:
            raise not_authenticated()
        wanted = endpoint.capability(request.method)
        if wanted and request.user != "splunk-system-user":
            held = self._splunkd.accounts.capabilities(request.user) if request.user else set()
            if not has_capabilities(wanted, held):
                raise not_permitted()
        process = self._process(endpoint)
        with process.lock:
            reply = process.ask(json.dumps(self._request(endpoint, request), ensure_ascii=False))
        if "error" in reply:
            with self._lock:
                self._processes.pop((endpoint.app.name, endpoint.name), None)
            self._end(process)
            raise Refused(
                500,
                f"Unexpected error {reply['error']}. See splunkd.log/python.log for more details.",
            )
        return _response(reply["ok"])

    def _process(self, endpoint: Endpoint) -> _Process:
        key = (endpoint.app.name, endpoint.name)
        with self._lock:
            found = self._processes.get(key)
            if found is not None and found.process.poll() is None:
                return found
            script = endpoint.app.path / "bin" / endpoint.settings.get("script", "")
            driver = [self._splunkd.python, str(HERE / "persistent_driver.py")]
            process = subprocess.Popen(
                [*driver, str(script), endpoint.settings.get("handler", ""), str(HERE / "python_lib")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._splunkd.script_environment(),
                cwd=self._splunkd.splunk_home,
            )
            made = _Process(process, self.stderr)
            threading.Thread(target=self._read_stderr, args=(process,), daemon=True).start()
            self._processes[key] = made
            return made

    def _read_stderr(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        with process.stderr as stream:
            for line in stream:
                self.stderr.append(line.decode("utf-8", "replace").rstrip())

    def _request(self, endpoint: Endpoint, request: Request) -> dict[str, Any]:
        splunkd = self._splunkd
        value: dict[str, Any] = {
            "output_mode": request.get(
                "output_mode", endpoint.settings.get("output_modes", "xml").split(",")[0]
            ),
            "output_mode_explicit": bool(request.get("output_mode")),
            "server": {
                "rest_uri": splunkd.uri,
                "hostname": "standin",
                "servername": "standin",
                "guid": splunkd.guid,
            },
            "restmap": {"name": endpoint.name},
            "query": [list(pair) for pair in request.query],
            "connection": {
                "src_ip": request.client,
                "ssl": splunkd.uri.startswith("https"),
                "listening_port": splunkd.port,
            },
            "rest_path": "/" + request.path,
            "lang": "en-US",
            "method": request.method,
            "ns": {k: v for k, v in (("app", request.app), ("user", request.owner)) if v},
            "form": [list(pair) for pair in request.form],
        }
        rest = request.path[len(endpoint.match) :].strip("/")
        if rest:
            value["path_info"] = rest
        if endpoint.flag("passConf", "true"):
            value["restmap"]["conf"] = endpoint.settings
        if endpoint.flag("passSession", "true") and request.user:
            value["session"] = {"user": request.user, "authtoken": request.session_key}
        if endpoint.flag("passSystemAuth", "false"):
            value["system_authtoken"] = splunkd.accounts.system_token
        if endpoint.flag("passHttpHeaders", "false"):
            value["headers"] = [[k, v] for k, v in request.headers.items()]
        payload = endpoint.settings.get("passPayload", "false").lower()
        if payload == "base64":
            value["payload_base64"] = base64.b64encode(request.body).decode()
        elif _true(payload):
            value["payload"] = request.body.decode("utf-8", "replace")
        return value

    @staticmethod
    def _end(made: _Process) -> None:
        with contextlib.suppress(OSError):
            if made.process.stdin is not None:
                made.process.stdin.close()
        try:
            made.process.wait(5)
        except subprocess.TimeoutExpired:
            made.process.kill()
            made.process.wait()
        if made.process.stdout is not None:
            made.process.stdout.close()

    def stop(self) -> None:
        with self._lock:
            processes = list(self._processes.values())
            self._processes.clear()
        for made in processes:
            self._end(made)


def _response(answer: Any) -> Response:
    """A dict with payload, status and headers; a payload that is not text is sent as JSON."""
    if not isinstance(answer, dict):
        return Response(200, json.dumps(answer).encode(), "application/json; charset=UTF-8")
    payload = answer.get("payload", "")
    headers = answer.get("headers") or {}
    pairs = list(headers.items()) if isinstance(headers, dict) else [(k, v) for k, v in headers]
    is_text = isinstance(payload, str)
    content_type = next((v for k, v in pairs if k.lower() == "content-type"), None)
    return Response(
        int(answer.get("status", 200)),
        payload.encode() if is_text else json.dumps(payload).encode(),
        content_type or "application/json; charset=UTF-8",
        [(k, str(v)) for k, v in pairs if k.lower() != "content-type"],
    )
