"""Enrolment over HTTPS against a stand-in of the service's answer; refusals, wrong authorities, wrong answers."""

from __future__ import annotations

import base64
import http.server
import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kepler.adapters.security.tls import make_authority, make_self_signed, sign_leaf
from kepler_edge.credentials import Credentials, stored_enrolment
from kepler_edge.settings import make

ROOT = Path(__file__).resolve().parents[3]
TOKEN = "one-time-token-5f1c"


class Service:
    """Answers `POST /v1/edge/enrol`; ``change`` makes the answer wrong."""

    def __init__(self, folder: Path) -> None:
        self.certificates = make_self_signed(folder, ["127.0.0.1"])
        self.authority, self.authority_key = make_authority("Devices of a test")
        self.asked: list[dict[str, Any]] = []
        self.change: Callable[[dict[str, Any]], Any] = lambda answer: answer
        self.status = 200
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                service.asked.append({"path": self.path, **asked})
                status, body = service.answer(asked)
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificates.server_cert, self.certificates.server_key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        self.url = f"https://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, asked: dict[str, Any]) -> tuple[int, Any]:
        if asked["token"] != TOKEN:
            return 403, {"error": {"message": "The token does not hold"}}
        request = x509.load_pem_x509_csr(asked["csr_pem"].encode())
        assert request.is_signature_valid
        name = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        assert name == asked["device"]
        public: Any = request.public_key()
        made = sign_leaf(
            str(name), public, [], ExtendedKeyUsageOID.CLIENT_AUTH, self.authority, self.authority_key
        )
        answer = {
            "certificate_pem": made.public_bytes(Encoding.PEM).decode(),
            "ca_pem": self.authority.public_bytes(Encoding.PEM).decode(),
            "broker": "mqtts://broker.plant:8883",
            "tenant": "acme",
            "trusted_keys": [base64.b64encode(b"\x09" * 32).decode()],
        }
        return self.status, self.change(answer)

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join(5)
        self.server.server_close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path / "service")
    yield made
    made.close()


def enrol(
    service: Service, home: Path, *more: str, token: str = TOKEN, ca: Path | None = None, url: str = ""
) -> Any:
    command = [
        sys.executable,
        "-m",
        "kepler_edge",
        "--home",
        str(home),
        "enrol",
        "--service",
        url or service.url,
    ]
    return subprocess.run(
        [*command, "--ca", str(ca or service.certificates.ca), *more],
        input=token + "\n", capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT / "edge_agent")},
    )  # fmt: skip


def test_a_device_is_enrolled_and_again_with_the_same_key(tmp_path: Path, service: Service) -> None:
    home = tmp_path / "home"
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN)
    for more in (("--device", "pump-7"), ("--device", "pump-7", "--token-file", str(token_file))):
        done = enrol(service, home, *more)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {
            "device": "pump-7",
            "tenant": "acme",
            "broker": "mqtts://broker.plant:8883",
        }
        assert TOKEN not in done.stdout + done.stderr
    assert service.asked[0]["path"] == "/v1/edge/enrol"
    assert set(service.asked[0]) == {"path", "token", "device", "csr_pem"}
    keys = [x509.load_pem_x509_csr(one["csr_pem"].encode()).public_key() for one in service.asked]
    assert keys[0] == keys[1]
    assert stored_enrolment(home) is not None
    credentials = Credentials(make({"home": str(home)}))
    assert credentials.context("mqtts://broker.plant:8883") is not None
    assert len(credentials.trust.key_ids) == 1
    assert not [file for file in home.rglob("*") if file.is_file() and TOKEN.encode() in file.read_bytes()]
    for name in ("device.key", "device.key.pem"):
        assert (home / name).stat().st_mode & 0o077 == 0


def test_a_wrong_token_is_refused_with_the_reason(tmp_path: Path, service: Service) -> None:
    done = enrol(service, tmp_path / "home", "--device", "pump-7", token="wrong-secret-token")
    assert done.returncode == 1
    assert "The token does not hold" in done.stderr
    assert "wrong-secret-token" not in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "home" / "enrolment.json").exists()


def test_another_authority_is_not_believed(tmp_path: Path, service: Service) -> None:
    other = make_self_signed(tmp_path / "other", ["127.0.0.1"])
    done = enrol(service, tmp_path / "home", "--device", "pump-7", ca=other.ca)
    assert done.returncode == 1
    assert "certificate does not hold" in done.stderr
    assert service.asked == []


def test_a_service_that_is_away_is_worth_trying_again(tmp_path: Path, service: Service) -> None:
    service.status = 503
    assert enrol(service, tmp_path / "home", "--device", "pump-7").returncode == 75
    assert enrol(service, tmp_path / "home", "--device", "pump-7", url="https://127.0.0.1:1").returncode == 75
    assert enrol(service, tmp_path / "home", "--device", "pump-7", url="http://127.0.0.1:1").returncode == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda answer: [],
        lambda answer: b"<html>",
        lambda answer: {**answer, "tenant": "a/b"},
        lambda answer: {**answer, "broker": "http://x"},
        lambda answer: {**answer, "trusted_keys": []},
        lambda answer: {**answer, "trusted_keys": ["AAAA"]},
        lambda answer: {**answer, "certificate_pem": answer["ca_pem"]},
        lambda answer: {**answer, "certificate_pem": 5},
        lambda answer: {**answer, "ca_pem": "x" * 300_000},
    ],
    ids=range(9),
)
def test_a_wrong_answer_leaves_the_device_as_it_was(
    tmp_path: Path, service: Service, change: Callable[[dict[str, Any]], Any]
) -> None:
    service.change = change
    done = enrol(service, tmp_path / "home", "--device", "pump-7")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    left = {file.name for file in (tmp_path / "home").iterdir()}
    assert not left & {"certificate.pem", "enrolment.json", "trust.json", "ca.pem"}
