"""A real mosquitto on a free port of the loopback device, with TLS where it is asked for; killed and started again."""

from __future__ import annotations

import datetime
import ipaddress
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

ACL = Path(__file__).resolve().parents[2] / "service" / "deploy" / "mosquitto" / "acl"
_DAY = datetime.timedelta(days=1)


def mosquitto() -> str:
    """Path of the broker; skips where there is none."""
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip("mosquitto is not installed")
    return found


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Authority:
    """A certificate authority for tests: of brokers, services and devices."""

    def __init__(self, folder: Path, name: str = "test authority") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._build(self._name, self._key.public_key(), ca=True)
        self.ca_pem = self.certificate.public_bytes(Encoding.PEM).decode()
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_text(self.ca_pem)

    def _build(
        self, subject: x509.Name, public: object, *, ca: bool = False, days: float = 2
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)  # type: ignore[arg-type]
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _DAY)
            .not_valid_after(now + days * _DAY)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if ca:
            usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
            builder = builder.add_extension(usage, critical=True)
        else:
            names: list[x509.GeneralName] = [
                x509.DNSName("localhost"),
                x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
            ]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def sign_request(self, csr_pem: str, *, days: float = 2) -> str:
        """A certificate for a request, as PEM."""
        request = x509.load_pem_x509_csr(csr_pem.encode())
        assert request.is_signature_valid
        return (
            self._build(request.subject, request.public_key(), days=days).public_bytes(Encoding.PEM).decode()
        )

    def issue(
        self, name: str, key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey | None = None
    ) -> tuple[Path, Path]:
        """Certificate and key files under the common name ``name``."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate, key_file = self.folder / f"{name}.pem", self.folder / f"{name}-key.pem"
        certificate.write_bytes(self._build(subject, key.public_key()).public_bytes(Encoding.PEM))
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        key_file.chmod(0o600)
        return certificate, key_file


@dataclass
class Broker:
    """One mosquitto. ``options`` are lines of its configuration beside those of its listener."""

    folder: Path
    port: int
    tls: Authority | None = None
    options: Mapping[str, str] | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"{'mqtts' if self.tls else 'mqtt'}://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        lines = [
            f"listener {self.port} 127.0.0.1",
            "persistence true",
            f"persistence_location {data}/",
            "log_type none",
        ]
        if self.tls is None:
            lines.append("allow_anonymous true")
        else:
            certificate, key = self.tls.issue("broker")
            lines += [
                f"cafile {self.tls.ca_file}", f"certfile {certificate}", f"keyfile {key}", "require_certificate true",
                "use_identity_as_username true", "allow_anonymous false", f"acl_file {ACL}",
            ]  # fmt: skip
        lines += [f"{name} {value}" for name, value in (self.options or {}).items()]
        if os.geteuid() == 0:
            lines.append("user root")
        config = self.folder / "mosquitto.conf"
        config.write_text("\n".join(lines) + "\n")
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([mosquitto(), "-c", str(config)], stdout=log, stderr=log)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"mosquitto ended: {(self.folder / 'log').read_text()}")
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("mosquitto does not listen")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(10)
            self.process = None

    def kill(self) -> None:
        """As when the power goes: nothing is written before."""
        self.stop(signal.SIGKILL)


@contextmanager
def running_broker(
    folder: Path, *, tls: Authority | None = None, options: Mapping[str, str] | None = None
) -> Iterator[Broker]:
    """A broker that is stopped at the end, whatever the test did to it."""
    broker = Broker(folder, free_port(), tls, options)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()
