"""A real mosquitto on a free loopback port, with the settings we ship (service/deploy/mosquitto).

with Broker(tmp_path) as broker:            # plain, anybody may do all
with Broker(tmp_path, tls=True) as broker:  # client certificates and the access list, as in production
    files = broker.device("press-1")        # ca, cert, key for that device; broker.host() for the service
"""

from __future__ import annotations

import datetime as dt
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from kepler.adapters.security.tls import general_name, key_pem, make_authority, sign_leaf

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "service" / "deploy" / "mosquitto"
HOST_NAME = "kepler-host"


@dataclass(frozen=True)
class ClientFiles:
    """PEM files of one client; `seed` is the raw Ed25519 key of a device, which also signs its frames."""

    ca: Path
    cert: Path
    key: Path
    seed: bytes = b""


def mosquitto() -> str:
    """The program; skips where it is missing."""
    found = shutil.which("mosquitto") or (
        "/usr/sbin/mosquitto" if Path("/usr/sbin/mosquitto").exists() else ""
    )
    if not found:
        pytest.skip("mosquitto is not installed (Debian: apt-get install mosquitto)")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker:
    """One broker; `kill` and `start` again keep its port, certificates and persistence.

    Parameters
    ----------
    folder
        Everything of it lies below ``<folder>/broker``.
    shipped
        False takes mosquitto's own defaults for persistence and queues: those that lose acknowledged messages.
    """

    def __init__(self, folder: Path, *, tls: bool = False, shipped: bool = True) -> None:
        self.folder = folder / "broker"
        self.tls, self._shipped = tls, shipped
        self.port = free_port()
        self._program = mosquitto()
        self._process: subprocess.Popen[bytes] | None = None
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        if tls:
            self._authority, self._authority_key = make_authority("Broker of a test")
            self._write("ca.pem", self._authority.public_bytes(Encoding.PEM))
            key = ec.generate_private_key(ec.SECP256R1())
            names = [general_name("127.0.0.1"), general_name("localhost")]
            made = self._signed("broker", key.public_key(), names, ExtendedKeyUsageOID.SERVER_AUTH)
            self._write("broker.pem", made.public_bytes(Encoding.PEM))
            self._write("broker-key.pem", key_pem(key))
            self.revoke()
            self._write("acl", (SHIPPED / "acl").read_bytes())
        self._write("mosquitto.conf", self._configuration().encode())

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    # Life

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "-c", str(self.folder / "mosquitto.conf")], stdout=log, stderr=log
            )
        until = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                assert self._process.poll() is None, f"mosquitto ended: {self.log}"
                assert time.monotonic() < until, f"mosquitto does not listen: {self.log}"
                time.sleep(0.02)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As a power cut or the kernel would end it."""
        self._end(signal.SIGKILL)

    def reload(self) -> None:
        """Read the access list and the revocations again."""
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(10)
            self._process = None

    # Certificates

    def device(self, name: str, seed: bytes | None = None) -> ClientFiles:
        """Files of a device: its Ed25519 key and a certificate with its name."""
        key = (
            ed25519.Ed25519PrivateKey.from_private_bytes(seed)
            if seed
            else ed25519.Ed25519PrivateKey.generate()
        )
        made = self._signed(name, key.public_key(), [], ExtendedKeyUsageOID.CLIENT_AUTH)
        cert = self._write(f"{name}.pem", made.public_bytes(Encoding.PEM))
        return ClientFiles(
            self.folder / "ca.pem",
            cert,
            self._write(f"{name}-key.pem", key_pem(key)),
            key.private_bytes_raw(),
        )

    def host(self) -> ClientFiles:
        """Files of the service."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = self._signed(HOST_NAME, key.public_key(), [], ExtendedKeyUsageOID.CLIENT_AUTH)
        cert = self._write(f"{HOST_NAME}.pem", made.public_bytes(Encoding.PEM))
        return ClientFiles(self.folder / "ca.pem", cert, self._write(f"{HOST_NAME}-key.pem", key_pem(key)))

    def revoke(self, *names: str) -> None:
        """Write the list of revoked certificates; mosquitto reads it when it starts or is told to `reload`."""
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._authority.subject)
            .last_update(now - dt.timedelta(minutes=1))
            .next_update(now + dt.timedelta(days=1))
        )
        for name in names:
            found = x509.load_pem_x509_certificate((self.folder / f"{name}.pem").read_bytes())
            entry = x509.RevokedCertificateBuilder().serial_number(found.serial_number).revocation_date(now)
            builder = builder.add_revoked_certificate(entry.build())
        self._write("crl.pem", builder.sign(self._authority_key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def _signed(
        self,
        name: str,
        public: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey,
        names: list[x509.GeneralName],
        purpose: x509.ObjectIdentifier,
    ) -> x509.Certificate:
        return sign_leaf(name, public, names, purpose, self._authority, self._authority_key)

    def _write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    # Settings

    def _configuration(self) -> str:
        lines: list[str] = [f"user {pwd.getpwuid(os.geteuid()).pw_name}"]
        dropped = () if self.tls else ("cafile", "certfile", "keyfile", "crlfile", "require_certificate",
                                       "use_identity_as_username", "tls_version", "acl_file")  # fmt: skip
        if not self._shipped:
            dropped += ("autosave_interval", "persistent_client_expiration", "max_queued_messages",
                        "max_queued_bytes", "max_inflight_messages")  # fmt: skip
        for line in (SHIPPED / "mosquitto.conf").read_text("utf-8").splitlines():
            word = line.partition(" ")[0]
            if not word or word == "#" or word in dropped:
                continue
            if word == "listener":
                line = f"listener {self.port} 127.0.0.1"
            elif word == "allow_anonymous" and not self.tls:
                line = "allow_anonymous true"
            elif word == "persistence_location":
                line = f"persistence_location {self.folder / 'data'}/"
            lines.append(line.replace("/etc/kepler/broker", str(self.folder)))
        return "\n".join([*lines, ""])


def _pem(key: ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
