"""The HTTP side as probes, Prometheus and strangers meet it: a real listener."""

from __future__ import annotations

import io
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from fakes.clock import FakeClock
from fakes.secret_store import InMemorySecretStore
from kepler.adapters.http import server as server_module
from kepler.adapters.http.app import create_app
from kepler.adapters.http.guard import HEADERS, MAX_BODY_BYTES, Guard, host_name
from kepler.adapters.http.problems import STATUS, problem
from kepler.adapters.http.server import HttpServer
from kepler.adapters.security.tls import make_self_signed
from kepler.adapters.security.tokens import SqliteTokenStore
from kepler.adapters.telemetry.logs import configure_logging
from kepler.adapters.telemetry.metrics import ServiceMetrics
from kepler.core.errors import ALL_ERRORS, InternalError, KeplerError, Overloaded, Unavailable
from kepler.ports.health import Check, ServiceState


@dataclass
class FakeHealth:
    state: ServiceState = ServiceState.READY
    parts: list[Check] = field(
        default_factory=lambda: [Check("jobs", True), Check("disk", True, "9 GB free")]
    )
    asked: int = 0
    wait: threading.Event | None = None
    error: Exception | None = None

    def checks(self) -> list[Check]:
        self.asked += 1
        if self.wait is not None:
            self.wait.wait(20)
        if self.error is not None:
            raise self.error
        return self.parts


Serve = Callable[..., httpx.Client]


@pytest.fixture
def health() -> FakeHealth:
    return FakeHealth()


@pytest.fixture
def metrics() -> ServiceMetrics:
    return ServiceMetrics()


@pytest.fixture
def serve(health: FakeHealth, metrics: ServiceMetrics) -> Iterator[Serve]:
    """Starts a server; gives a client of it."""
    open_now: list[tuple[HttpServer, httpx.Client]] = []

    def start(tokens: SqliteTokenStore | None = None, **options: Any) -> httpx.Client:
        app = create_app(health, metrics, tokens, version="1", **options)
        server = HttpServer(app, "127.0.0.1", 0)
        host, port = server.start()
        client = httpx.Client(base_url=f"http://{host}:{port}", trust_env=False, timeout=20)
        open_now.append((server, client))
        return client

    yield start
    for server, client in open_now:
        client.close()
        server.stop(5)


@pytest.fixture
def tokens(tmp_path: Path) -> Iterator[SqliteTokenStore]:
    store = SqliteTokenStore(tmp_path / "tokens.sqlite", InMemorySecretStore(), FakeClock())
    yield store
    store.close()


def address(client: httpx.Client) -> tuple[str, int]:
    return client.base_url.host, client.base_url.port or 0


def test_alive_whatever_the_state(serve: Serve, health: FakeHealth) -> None:
    client = serve()
    for state in ServiceState:
        health.state = state
        assert client.get("/healthz").json() == {"status": "alive"}
    answer = client.head("/healthz")
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("state", [state for state in ServiceState if state is not ServiceState.READY])
def test_not_ready_outside_ready(serve: Serve, health: FakeHealth, state: ServiceState) -> None:
    health.state = state
    answer = serve().get("/readyz")
    assert answer.status_code == 503
    assert (answer.json()["state"], answer.json()["ready"]) == (state.value, False)


def test_ready_when_every_check_is(serve: Serve, health: FakeHealth) -> None:
    answer = serve().get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["checks"] == [
        {"name": "jobs", "ok": True},
        {"name": "disk", "ok": True, "detail": "9 GB free"},
    ]
    health.parts = [Check("jobs", True), Check("disk", False, "full")]
    assert serve().get("/readyz").status_code == 503


def test_probes_are_no_load(serve: Serve, health: FakeHealth) -> None:
    client = serve()
    for _ in range(10):
        client.get("/readyz")
    assert health.asked < 10


def test_metrics_are_prometheus_text(serve: Serve, metrics: ServiceMetrics) -> None:
    client = serve()
    client.get("/healthz")
    client.get("/secret-path-nobody-knows")
    answer = client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'kepler_http_requests_total{route="/healthz",status="200"} 1.0' in answer.text
    assert 'kepler_http_requests_total{route="other",status="404"} 1.0' in answer.text
    assert "secret-path" not in answer.text


def every_route(client: httpx.Client, app_routes: list[Any]) -> list[tuple[str, str]]:
    methods = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
    return [(method, route.path) for route in app_routes for method in methods]


def test_every_route_without_a_right_token(
    serve: Serve, health: FakeHealth, metrics: ServiceMetrics, tokens: SqliteTokenStore
) -> None:
    """Made from the live routes: what is added later is asked too."""
    app = create_app(health, metrics, tokens, loopback=False)
    routes: list[Any] = app.app.routes  # type: ignore[attr-defined]
    client = serve(tokens, loopback=False)
    info, revoked = tokens.create("old", "ana", frozenset({"admin"}), 0)
    tokens.revoke(info.id)
    headers = [{}, {"Authorization": "Bearer kp_x_y"}, {"Authorization": f"Bearer {revoked}"}]
    headers += [{"Authorization": "Bearer"}, {"Authorization": f"Basic {revoked}"}]
    open_routes = {"/healthz", "/readyz"}
    asked = 0
    for method, path in every_route(client, routes):
        for header in headers:
            asked += 1
            answer = client.request(method, path, headers=header)
            if path in open_routes and method in ("GET", "HEAD"):
                assert answer.status_code == 200
                assert "detail" not in answer.text
            else:
                assert answer.status_code in (401, 405), (method, path, header)
                if method in ("GET", "HEAD"):
                    assert answer.headers["www-authenticate"] == "Bearer"
    assert asked == 3 * 8 * 5
    _, good = tokens.create("prometheus", "prometheus", frozenset({"predict"}), 0)
    with_token = {"Authorization": f"bearer {good}"}
    assert client.get("/metrics", headers=with_token).status_code == 200
    assert "9 GB free" in client.get("/readyz", headers=with_token).text


def test_errors_are_problem_documents(serve: Serve) -> None:
    client = serve()
    for answer, status in (
        (client.get("/none"), 404),
        (client.post("/metrics"), 405),
        (client.get("/docs"), 404),
    ):
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status


def test_the_interface_is_described_on_loopback_only(serve: Serve) -> None:
    assert set(serve().get("/openapi.json").json()["paths"]) == {"/healthz", "/readyz", "/metrics"}
    assert serve(loopback=False).get("/openapi.json").status_code == 404


def test_unexpected_errors_tell_nothing_and_are_logged(
    serve: Serve, health: FakeHealth, metrics: ServiceMetrics
) -> None:
    stream = io.StringIO()
    setup = configure_logging(format="json", stream=stream)
    health.error = RuntimeError("/srv/path and canary")
    answer = serve().get("/readyz")
    setup.close()
    assert answer.status_code == 500
    assert "canary" not in answer.text
    error_id = answer.json()["detail"].split("(error ")[1][:12]
    assert error_id in stream.getvalue()
    assert "RuntimeError" in stream.getvalue()
    for name, value in HEADERS.items():
        assert answer.headers[name] == value


def test_known_errors_are_told(serve: Serve, health: FakeHealth) -> None:
    health.error = Overloaded("The queue is full", fix="Wait.", retry_after_s=7)
    answer = serve().get("/readyz")
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "7"
    assert answer.json() == {
        "type": "about:blank",
        "title": "Too Many Requests",
        "status": 429,
        "detail": "The queue is full. Wait.",
        "code": "Overloaded",
        "fix": "Wait.",
    }


def test_every_error_has_a_status() -> None:
    assert set(STATUS) == set(ALL_ERRORS)
    for kind in ALL_ERRORS:
        assert problem(kind("x")).status_code >= 400


def test_every_answer_is_guarded(serve: Serve) -> None:
    client = serve(tls=True)
    for path in ("/healthz", "/none", "/metrics"):
        answer = client.get(path)
        for name, value in HEADERS.items():
            assert answer.headers[name] == value, path
        assert "strict-transport-security" in answer.headers
        assert "server" not in answer.headers
    assert "strict-transport-security" not in serve().get("/healthz").headers


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8791", "127.0.0.1.evil.example", "", "[::2]:1", "10.0.0.1"]
)
def test_foreign_host_names_are_refused_on_loopback(serve: Serve, host: str) -> None:
    answer = serve().get("/healthz", headers={"Host": host})
    assert answer.status_code == 400
    assert "allowed_hosts" in answer.json()["detail"]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:99", "127.0.0.1:1", "[::1]:8791"])
def test_loopback_names_are_allowed(serve: Serve, host: str) -> None:
    assert serve().get("/healthz", headers={"Host": host}).status_code == 200


def test_hosts_are_open_elsewhere_unless_named(serve: Serve) -> None:
    assert serve(loopback=False).get("/healthz", headers={"Host": "10.1.2.3:8791"}).status_code == 200
    named = serve(loopback=False, allowed_hosts=["Plant.example"])
    assert named.get("/healthz", headers={"Host": "plant.example:8791"}).status_code == 200
    assert named.get("/healthz", headers={"Host": "10.1.2.3"}).status_code == 400


def test_bodies_are_bounded(serve: Serve) -> None:
    client = serve()
    assert client.post("/healthz", content=b"x" * MAX_BODY_BYTES).status_code == 405
    assert client.post("/healthz", content=b"x" * (MAX_BODY_BYTES + 1)).status_code == 413


async def test_bodies_without_a_length_are_bounded() -> None:
    async def reads(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass

    from starlette.applications import Starlette
    from starlette.routing import Mount

    statuses: list[int] = []
    guard = Guard(
        Starlette(routes=[Mount("/", app=reads)]), (), False, lambda path, status: statuses.append(status)
    )
    transport = httpx.ASGITransport(guard)

    async def pieces() -> Any:
        for _ in range(MAX_BODY_BYTES // 1000 + 2):
            yield b"x" * 1000

    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        answer = await client.post("/", content=pieces())
    assert answer.status_code == 413
    assert statuses == [413]


async def test_a_failure_before_any_answer_is_raised_to_the_server() -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("no handler")

    guard = Guard(fails, (), False, None)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(guard), base_url="http://x") as client:
        with pytest.raises(RuntimeError):
            await client.get("/")
    sent: list[Any] = []
    await guard({"type": "lifespan"}, fails, sent.append)  # type: ignore[arg-type]
    assert sent == []


def test_garbage_and_huge_heads_do_not_hurt(serve: Serve) -> None:
    client = serve()
    for data in (
        b"\x16\x03\x01\x02\x00\x01",
        b"GET / HTTP/9.9\r\n\r\n",
        b"A" * 40_000,
        b"GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n",
    ):
        with socket.create_connection(address(client), timeout=10) as peer:
            peer.sendall(data)
            peer.settimeout(10)
            try:
                first = peer.recv(4096)
            except ConnectionResetError:
                first = b""
            assert b"Traceback" not in first
    assert client.get("/healthz").status_code == 200


def test_a_slow_head_is_cut_off(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "REQUEST_TIMEOUT_S", 0.3)
    client = serve()
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
    with socket.create_connection(address(client), timeout=10) as peer:
        peer.sendall(request)
        assert peer.recv(100) == b""  # closed, without an answer
    with socket.create_connection(address(client), timeout=10) as peer:
        peer.sendall(request + b"\r\n")
        assert b"200 OK" in peer.recv(4096)
        peer.sendall(request)  # the second on the same connection
        assert b"200" not in peer.recv(100)
    assert client.get("/healthz").status_code == 200


def until_refused(host: str, port: int) -> None:
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.01)


def test_what_is_in_flight_ends_before_the_stop(
    serve: Serve, health: FakeHealth, metrics: ServiceMetrics
) -> None:
    health.wait = threading.Event()
    server = HttpServer(create_app(health, metrics, None), "127.0.0.1", 0)
    host, port = server.start()
    answers: list[httpx.Response] = []
    call = threading.Thread(
        target=lambda: answers.append(httpx.get(f"http://{host}:{port}/readyz", trust_env=False, timeout=20))
    )
    call.start()
    while not health.asked:
        time.sleep(0.01)
    stop = threading.Thread(target=server.stop, args=(10,))
    stop.start()
    until_refused(host, port)
    health.wait.set()
    stop.join(20)
    call.join(20)
    assert [answer.status_code for answer in answers] == [200]
    server.stop(1)  # can be repeated


def test_a_call_that_never_ends_does_not_hold_the_stop(health: FakeHealth, metrics: ServiceMetrics) -> None:
    health.wait = threading.Event()
    server = HttpServer(create_app(health, metrics, None), "127.0.0.1", 0)
    host, port = server.start()
    peer = socket.create_connection((host, port), timeout=10)
    peer.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    while not health.asked:
        time.sleep(0.01)
    threading.Timer(1.0, health.wait.set).start()
    server.stop(0.1)
    peer.close()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((host, port), timeout=5)


def test_a_taken_port_is_said(serve: Serve, health: FakeHealth, metrics: ServiceMetrics) -> None:
    host, port = address(serve())
    with pytest.raises(Unavailable, match=f"cannot listen on {host}:{port}"):
        HttpServer(create_app(health, metrics, None), host, port).start()
    with pytest.raises(Unavailable, match=r"cannot listen on no-such-host\.invalid"):
        HttpServer(create_app(health, metrics, None), "no-such-host.invalid", 0).start()


def test_a_server_that_dies_at_once_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(self: object, sockets: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("uvicorn.Server.run", dies)
    with pytest.raises(InternalError, match="did not start"):
        HttpServer(Guard(None, (), False, None), "127.0.0.1", 0).start()  # type: ignore[arg-type]


def test_tls(tmp_path: Path, health: FakeHealth, metrics: ServiceMetrics) -> None:
    made = make_self_signed(tmp_path, ["127.0.0.1"])
    app = create_app(health, metrics, None, tls=True)
    server = HttpServer(app, "127.0.0.1", 0, cert_file=made.server_cert, key_file=made.server_key)
    host, port = server.start()
    trust = ssl.create_default_context(cafile=str(made.ca))
    assert httpx.get(f"https://{host}:{port}/healthz", verify=trust, trust_env=False).status_code == 200
    with pytest.raises(httpx.ConnectError, match="certificate"):
        httpx.get(f"https://{host}:{port}/healthz", trust_env=False, verify=ssl.create_default_context())
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://{host}:{port}/healthz", trust_env=False)
    server.stop(5)


def test_a_certificate_that_does_not_load_is_the_callers_error(tmp_path: Path) -> None:
    made = make_self_signed(tmp_path, ["127.0.0.1"])
    with pytest.raises((ssl.SSLError, KeplerError)):
        HttpServer(None, "127.0.0.1", 0, cert_file=made.server_cert, key_file=made.client_key).start()


def test_host_names() -> None:
    assert host_name("[::1]") == "::1"
    assert host_name("[::1") == "::1"
    assert host_name("A.b:1:2") == "a.b"
