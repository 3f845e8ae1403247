"""What proves who the device is: key, certificate (and the next one), and whom it believes. All in its home."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from .durable import write_atomically
from .errors import InvalidInput
from .keys import DeviceKey, Trust
from .settings import Settings

KEY_FILE = "device.key"
PEM_FILE = "device.key.pem"
CERTIFICATE_FILE = "certificate.pem"
NEXT_FILE = "certificate.next.pem"
OLD_FILE = "certificate.old.pem"
CA_FILE = "ca.pem"
TRUST_FILE = "trust.json"
ENROLMENT_FILE = "enrolment.json"
# Connections that a new certificate may fail before the old one is kept.
NEXT_TRIES = 3


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What the service answered: whose device this is and where its broker is."""

    tenant: str
    device: str
    broker: str


class Credentials:
    """Key, certificates and trust of one home. Certificates change while connections come and go."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._home = settings.home
        self._lock = threading.Lock()
        self._next_failures = 0
        self._used_next = False
        self.key = DeviceKey.load_or_create(self._home / KEY_FILE)
        self.trust = Trust.from_base64(self._stored_trust())

    def context(self, broker: str) -> ssl.SSLContext | None:
        """TLS for the next connection, with the newest certificate; None for `mqtt://`.

        Raises
        ------
        InvalidInput
            When a certificate or key file cannot be used.
        """
        if urlsplit(broker).scheme != "mqtts":
            return None
        ca, certificate, key = self._files()
        with self._lock:
            fresh = self._home / NEXT_FILE
            self._used_next = fresh.is_file() and not self._settings.cert_file
            if self._used_next:
                certificate = fresh
        try:
            context = ssl.create_default_context(cafile=str(ca) if ca else None)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if certificate is not None:
                context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            self.failed()
            raise InvalidInput(
                "The certificate or its key cannot be used", cause=str(error), fix="Enrol the device again."
            ) from error
        return context

    def worked(self) -> None:
        """The last context connected: a next certificate becomes the certificate."""
        with self._lock:
            self._next_failures = 0
            if not self._used_next:
                return
            self._used_next = False
            current, old = self._home / CERTIFICATE_FILE, self._home / OLD_FILE
            if current.is_file():
                write_atomically(old, current.read_bytes())
            (self._home / NEXT_FILE).replace(current)

    def failed(self) -> bool:
        """The last context did not connect. True when that was the last try of a next certificate."""
        with self._lock:
            if not self._used_next:
                return False
            self._used_next = False
            self._next_failures += 1
            if self._next_failures < NEXT_TRIES:
                return False
            self._next_failures = 0
            with contextlib.suppress(OSError):
                (self._home / NEXT_FILE).unlink()
            return True

    def offer_certificate(self, certificate_pem: str, ca_pem: str = "") -> None:
        """Keeps a certificate for the next connection.

        Raises
        ------
        InvalidInput
            When it is none, or not of this device's key.
        """
        fresh = self._home / f"{NEXT_FILE}.check"
        write_atomically(fresh, certificate_pem.encode())
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(fresh, self._pem())
            if ca_pem:
                ssl.create_default_context(cadata=ca_pem)
        except (OSError, ssl.SSLError, ValueError) as error:
            fresh.unlink()
            raise InvalidInput(
                "The certificate is none, or belongs to another key",
                cause=type(error).__name__,
                fix="Ask for a new certificate request.",
            ) from error
        if ca_pem:
            # Both authorities hold while the fleet moves from one to the other.
            ca = self._home / CA_FILE
            known = ca.read_text("ascii") if ca.is_file() else ""
            if ca_pem.strip() not in known:
                write_atomically(ca, f"{ca_pem.strip()}\n{known}".encode("ascii"))
        with self._lock:
            self._next_failures = 0
            fresh.replace(self._home / NEXT_FILE)

    def believe(self, keys: list[bytes]) -> None:
        """Trusts these keys from now on; on disk first."""
        checked = Trust(keys)
        if not checked.key_ids:
            raise InvalidInput("A device must trust at least one key")
        write_atomically(self._home / TRUST_FILE, json.dumps(checked.to_base64()).encode())
        self.trust.replace(keys)

    def store(self, answer: Enrolment, certificate_pem: str, ca_pem: str, trusted: list[bytes]) -> None:
        """Keeps the answer to an enrolment. Raises InvalidInput when the certificate is not this key's."""
        self.offer_certificate(certificate_pem)
        (self._home / NEXT_FILE).replace(self._home / CERTIFICATE_FILE)
        write_atomically(self._home / CA_FILE, ca_pem.encode("ascii"))
        self.believe(trusted)
        kept = {"tenant": answer.tenant, "device": answer.device, "broker": answer.broker}
        write_atomically(self._home / ENROLMENT_FILE, json.dumps(kept).encode())

    def _files(self) -> tuple[Path | None, Path | None, Path | None]:
        stored = [self._home / name for name in (CA_FILE, CERTIFICATE_FILE)]
        ca = Path(self._settings.ca_file) if self._settings.ca_file else stored[0]
        certificate = Path(self._settings.cert_file) if self._settings.cert_file else stored[1]
        key = Path(self._settings.key_file) if self._settings.key_file else self._pem()
        return (ca if ca.is_file() else None), (certificate if certificate.is_file() else None), key

    def _pem(self) -> Path:
        """The key in the form the TLS library reads from a file."""
        path, text = self._home / PEM_FILE, self.key.private_pem().encode("ascii")
        if not path.is_file() or path.read_bytes() != text:
            write_atomically(path, text, mode=0o600)
        return path

    def _stored_trust(self) -> list[str]:
        try:
            found: object = json.loads((self._home / TRUST_FILE).read_bytes())
        except FileNotFoundError:
            return []
        except ValueError as error:
            raise InvalidInput(f"{TRUST_FILE} is no JSON", fix="Enrol the device again.") from error
        if not isinstance(found, list):
            raise InvalidInput(f"{TRUST_FILE} is no list", fix="Enrol the device again.")
        return [str(item) for item in cast("list[object]", found)]


def stored_enrolment(home: Path) -> Enrolment | None:
    """What an enrolment stored in ``home``; None when there was none."""
    try:
        found = json.loads((home / ENROLMENT_FILE).read_bytes())
        return Enrolment(str(found["tenant"]), str(found["device"]), str(found["broker"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{ENROLMENT_FILE} is broken", fix="Enrol the device again.") from error
