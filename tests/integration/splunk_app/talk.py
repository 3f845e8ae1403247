"""Speak with the app's commands as splunkd does, in this process or with the built app in another."""

from __future__ import annotations

import csv
import datetime
import io
import ipaddress
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from fakes.service_double import ServiceDouble, parse, render
from kepler.core.errors import Unauthenticated
from kepler.v1 import prediction_pb2
from kepler_app.chunks import Command, read_message, serve

Message = tuple[dict[str, Any], bytes]
MORE: dict[str, Any] = {"action": "execute", "finished": False}
LAST: dict[str, Any] = {"action": "execute", "finished": True}


def frame(metadata: dict[str, Any], body: bytes = b"") -> bytes:
    text = json.dumps(metadata).encode()
    return b"chunked 1.0,%d,%d\n" % (len(text), len(body)) + text + body


def getinfo(*raw_args: str, **searchinfo: Any) -> dict[str, Any]:
    return {
        "action": "getinfo",
        "preview": searchinfo.pop("preview", False),
        "searchinfo": {
            "args": [arg.replace('"', "") for arg in raw_args],
            "raw_args": list(raw_args),
            "sid": "1.7",
            "app": "search",
            "username": "ana",
            "owner": "ana",
            "search": "%7C%20inputlookup%20x",
            "earliest_time": "0",
            "latest_time": "1700000000",
            "dispatch_dir": "",
            **searchinfo,
        },
    }


def replies(output: bytes) -> list[Message]:
    stream, found = io.BytesIO(output), []
    while True:
        message = read_message(stream)
        if message is None:
            assert stream.tell() == len(output), "what follows the last reply is no message"
            return found
        found.append(message)


def talk(command: Command, plan: dict[str, Any], *bodies: bytes) -> tuple[int, list[Message]]:
    """Run ``command`` in this process over ``bodies``, the last of which is the search's last."""
    messages = [frame(plan)]
    for number, body in enumerate(bodies):
        messages.append(frame(LAST if number == len(bodies) - 1 else MORE, body))
    output = io.BytesIO()
    code = serve(command, io.BytesIO(b"".join(messages)), output)
    return code, replies(output.getvalue())


def error_of(command: Command, plan: dict[str, Any], *bodies: bytes) -> str:
    """The one sentence the search fails with."""
    code, answers = talk(command, plan, *bodies)
    assert code == 1
    metadata, body = answers[-1]
    assert body == b""
    assert metadata["finished"] is True
    assert ["ERROR", metadata["error"]] in metadata["inspector"]["messages"]
    assert "\n" not in metadata["error"]
    assert "Traceback" not in metadata["error"]
    return str(metadata["error"])


def said(answers: list[Message]) -> list[list[str]]:
    return [item for metadata, _ in answers for item in metadata.get("inspector", {}).get("messages", [])]


def cells(body: bytes) -> list[list[str]]:
    csv.field_size_limit(1 << 27)
    return list(csv.reader(io.StringIO(body.decode("utf-8", "surrogateescape"), newline="")))


def records(body: bytes) -> list[dict[str, str]]:
    header, *rows = cells(body)
    return [dict(zip(header, row, strict=True)) for row in rows]


class Process:
    """A command of the built app, in lock-step."""

    def __init__(self, python: str, app: Path, command: str, **env: str) -> None:
        self.child = subprocess.Popen(
            [python, str(app / "bin" / f"{command}.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": os.environ.get("PATH", ""), "PYTHONDONTWRITEBYTECODE": "1", **env},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.child.poll() is None:
            self.child.kill()
        for stream in (self.child.stdin, self.child.stdout, self.child.stderr):
            assert stream is not None
            try:
                stream.close()
            except BrokenPipeError:
                continue
        self.child.wait()

    def say(self, metadata: dict[str, Any], body: bytes = b"") -> Message:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write(frame(metadata, body))
        self.child.stdin.flush()
        answer = read_message(self.child.stdout)  # type: ignore[arg-type]
        assert answer is not None
        return answer

    def end(self) -> tuple[int, bytes]:
        """Close its input; gives exit code and whatever it wrote besides replies."""
        assert self.child.stdin is not None
        self.child.stdin.close()
        assert self.child.stdout is not None
        assert self.child.stderr is not None
        rest = self.child.stdout.read() + self.child.stderr.read()
        return self.child.wait(20), rest


class Double(ServiceDouble):
    """`ServiceDouble` with health, TLS, signatures and predictions that go wrong on demand.

    ``signature`` and ``fields`` are what the model reads; ``misbehave`` is "", "short" (too few rows),
    "lines" (values with line breaks), "die" (fails in mid-stream) or "hang". ``instead`` replaces streams.
    With ``newest_only`` each issued token is another one, and calls of users need the newest; ``lifetime_s`` is
    how long the service says that tokens live.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.health = health.HealthServicer()
        self.health.set("", health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        self.signature, self.fields = "", [""]
        self.misbehave = ""
        self.instead: dict[str, Callable[[Any, Any], Iterator[Any]]] = {}
        self.issued: list[Any] = []
        self.newest_only = False
        self.lifetime_s = 600.0
        self.refused: list[str] = []
        self.capabilities = ["predict", "train"]
        self.server_time = datetime.datetime.now(datetime.UTC).isoformat()

    def secure(self, certificate: bytes, key: bytes, client_ca: bytes | None = None) -> str:
        """Listen with TLS too, before the start, and ask for certificates of ``client_ca``; gives the address."""
        credentials = grpc.ssl_server_credentials(
            [(key, certificate)], root_certificates=client_ca, require_client_auth=client_ca is not None
        )
        return f"localhost:{self._server.add_secure_port('127.0.0.1:0', credentials)}"

    def WhoAmI(self, request: Any, context: Any) -> Any:
        reply = super().WhoAmI(request, context)
        del reply.capabilities[:]
        reply.capabilities.extend(self.capabilities)
        reply.server_time = self.server_time
        return reply

    def WatchJob(self, request: Any, context: Any) -> Iterator[Any]:
        return self.instead.get("WatchJob", super().WatchJob)(request, context)

    def Train(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        return self.instead.get("Train", super().Train)(requests, context)

    def IssueToken(self, request: Any, context: Any) -> Any:
        from kepler.v1 import auth_pb2

        super()._begin("IssueToken", context)
        self.issued.append(request)
        token = f"user-{request.user}" + (f"-{len(self.issued)}" if self.newest_only else "")
        return auth_pb2.IssueTokenResponse(token=token, expires_at=time.time() + self.lifetime_s)

    def _begin(self, method: str, context: grpc.ServicerContext) -> None:
        if not self.newest_only:
            super()._begin(method, context)
            return
        sent = str(dict(context.invocation_metadata()).get("authorization"))
        if not sent.startswith("Bearer user-") or not sent.endswith(f"-{len(self.issued)}"):
            self.refused.append(method)
            self._abort(Unauthenticated("The token has expired", fix="Run the search again"), context)

    def Predict(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        if "Predict" in self.instead:
            yield from self.instead["Predict"](requests, context)
            return
        if not self.signature and not self.misbehave:
            yield from super().Predict(requests, context)
            return
        self._begin("Predict", context)
        open_ = next(requests).open
        self.seen.append(open_)
        stale = bool(open_.signature) and open_.signature != self.signature
        yield prediction_pb2.PredictResponse(
            opened=prediction_pb2.PredictOpened(
                model="app.search/m@1",
                signature=self.signature,
                required_fields=self.fields,
                output_columns=["p"],
                signature_changed=stale,
            )
        )
        if stale:
            return
        for number, request in enumerate(requests):
            rows = parse(request.rows)
            if self.misbehave == "die" and number == 1:
                context.abort(grpc.StatusCode.INTERNAL, "It broke.")
            if self.misbehave == "hang":
                context.add_callback(lambda: None)
                while context.is_active():
                    time.sleep(0.05)
                return
            values = render([[f"{row[0]}\n!" if self.misbehave == "lines" else f"{row[0]}!"] for row in rows])
            short = self.misbehave == "short"
            yield prediction_pb2.PredictResponse(
                scored=prediction_pb2.Scored(
                    rows=len(rows) - short, values=values, one_line_per_row=self.misbehave != "lines"
                )
            )


def make_certificate(
    *, names: tuple[str, ...] = ("localhost",), days: float = 30.0, issuer: tuple[Any, Any] | None = None
) -> tuple[bytes, bytes, tuple[Any, Any]]:
    """PEM certificate and key, valid from ten days ago; and (certificate, key) to issue others with."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.datetime.now(datetime.UTC)
    parent, parent_key = issuer or (None, key)
    alternatives: list[x509.GeneralName] = []
    for name in names:
        try:
            alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            alternatives.append(x509.DNSName(name))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(parent.subject if parent is not None else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=10))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=parent is None, path_length=None), critical=True)
        .sign(parent_key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem, secret, (certificate, key)
