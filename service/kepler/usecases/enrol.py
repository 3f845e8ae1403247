"""How a device joins the fleet and how it leaves: tokens, certificates, revocation."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kepler.core.errors import Denied, InvalidInput, KeplerError, NotFound
from kepler.fleet.devices import Device, check_device_id, check_labels
from kepler.ports.clock import Clock
from kepler.ports.fleet import (
    Authority,
    CertificateRequest,
    DeviceCertificate,
    DeviceStore,
    EnrolmentStore,
    JoinToken,
)
from kepler.ports.security import AuditLog
from kepler.usecases.auditing import audited
from kepler.usecases.identity import Caller

MAX_TTL_S = 30 * 86_400.0
DEFAULT_TTL_S = 86_400.0
MAX_TOKEN_CHARS = 200
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


@dataclass(frozen=True, slots=True)
class Welcome:
    """What a device gets when it joins."""

    certificate_pem: str
    ca_pem: str
    broker: str
    tenant: str
    trusted_keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FleetAddress:
    """Where devices find the fleet. ``more_ca_pem`` are authorities they believe beside the fleet's own."""

    broker: str
    tenant: str
    more_ca_pem: str = ""


class EnrolDevices:
    """Every change is audited. What a stranger gets wrong is answered with one sentence, always the same.

    Parameters
    ----------
    trusted_key
        The 32 bytes of the key that signs models, desired states and acknowledgements.
    publish_revocations
        Takes the list for the broker whenever it changed.
    """

    def __init__(
        self,
        devices: DeviceStore,
        enrolment: EnrolmentStore,
        authority: Authority,
        audit: AuditLog,
        clock: Clock,
        address: FleetAddress,
        trusted_key: bytes,
        publish_revocations: Callable[[str], None],
    ) -> None:
        self._devices = devices
        self._enrolment = enrolment
        self._authority = authority
        self._audit = audit
        self._clock = clock
        self._address = address
        self._trusted = (base64.b64encode(trusted_key).decode(),)
        self._publish_revocations = publish_revocations

    def create_token(
        self, caller: Caller, device: str, labels: Mapping[str, str], ttl_s: float
    ) -> tuple[JoinToken, str]:
        """A one-time token and its text, which is shown once. ``device`` empty: any name that is not taken."""
        if device:
            check_device_id(device)
        check_labels(dict(labels))
        if not 0 <= ttl_s <= MAX_TTL_S:
            raise InvalidInput("A token for a device lives at most 30 days", fix="Ask for less.")
        with audited(self._audit, caller.user, "edge.token.create", device or "any device"):
            return self._token(device, labels, caller.user, ttl_s or DEFAULT_TTL_S)

    def tokens(self) -> list[JoinToken]:
        return self._enrolment.tokens()

    def rotation_token(self, device: str, ttl_s: float) -> str:
        """The text of a token with which an enrolled device fetches its next certificate."""
        self._devices.device(device)
        return self._token(device, {}, "kepler", ttl_s)[1]

    def enrol(self, token: str, device: str, csr_pem: str) -> Welcome:
        """Give the holder of ``token`` the certificate it asks for.

        Sent again with the same key, as after a lost answer, it gets the same certificate. Raises `Denied` for
        whatever is wrong: a stranger learns nothing.
        """
        now = self._clock.now()
        try:
            request = self._authority.read_request(csr_pem)
            certificate = self._join(token, device, request, now)
        except KeplerError as error:
            if error.retryable:
                raise
            self._audit.append(
                who="device", action="edge.enrol", what=_shown(device), outcome="refused",
                detail={"error": error.code},
            )  # fmt: skip
            raise Denied("The device is not admitted", fix="Ask for a new token and try again.") from error
        return Welcome(
            certificate.pem,
            self._authority.ca_pem + self._address.more_ca_pem,
            self._address.broker,
            self._address.tenant,
            self._trusted,
        )

    def register(self, caller: Caller, pem: str, labels: Mapping[str, str]) -> Device:
        """Enrol a device whose certificate the site's own authority made."""
        certificate = self._authority.read_certificate(pem)
        if certificate.expires_at <= self._clock.now():
            raise InvalidInput("The certificate has expired", fix="Let the site's authority renew it.")
        with audited(self._audit, caller.user, "edge.register", certificate.device):
            return self._enrolment.register(certificate, check_labels(dict(labels)), self._clock.now())

    def revoke(self, caller: Caller, device: str) -> Device:
        """Put a device out of the fleet: its frames hold no more from now on, its connection when the broker
        reads the new list."""
        with audited(self._audit, caller.user, "edge.revoke", _shown(device)):
            revoked = self._enrolment.revoke(device, self._clock.now())
            self.write_revocations()
        return revoked

    def set_labels(self, caller: Caller, device: str, labels: Mapping[str, str]) -> Device:
        with audited(self._audit, caller.user, "edge.label", _shown(device)):
            return self._devices.set_labels(device, labels)

    def certificates(self, device: str) -> list[DeviceCertificate]:
        return self._enrolment.certificates(device)

    def retire_old_certificates(self, device: str, serial: str) -> None:
        """Revoke a device's other certificates once it has connected with the one named."""
        self._enrolment.revoke(device, self._clock.now(), but=serial)
        self.write_revocations()

    def write_revocations(self) -> None:
        """Give the broker's list anew."""
        now = self._clock.now()
        gone = [
            item
            for item in self._enrolment.certificates()
            if item.revoked_at and item.ours and item.expires_at > now
        ]
        self._publish_revocations(self._authority.revocations(gone, now))

    def _token(
        self, device: str, labels: Mapping[str, str], created_by: str, ttl_s: float
    ) -> tuple[JoinToken, str]:
        now = self._clock.now()
        token_id = "".join(secrets.choice(_ALPHABET) for _ in range(12))
        text = f"ke_{token_id}_{secrets.token_urlsafe(32)}"
        token = JoinToken(token_id, device, dict(labels), created_by, now, now + ttl_s)
        self._enrolment.add_token(token, _digest(text))
        return token, text

    def _join(self, text: str, device: str, request: CertificateRequest, now: float) -> DeviceCertificate:
        if request.device != check_device_id(device):
            raise InvalidInput("The request is for another device")
        parts = text.split("_", 2)
        if len(text) > MAX_TOKEN_CHARS or len(parts) != 3 or parts[0] != "ke":
            raise Denied("That is no token")
        found = self._enrolment.token(parts[1])
        if found is None or not hmac.compare_digest(found[1], _digest(text)):
            raise Denied("That is no token")
        token = found[0]
        if token.expires_at <= now or token.device not in ("", device):
            raise Denied("The token is for another device or has expired")
        if token.used_by:
            return self._again(token, device, request)
        if not token.device and self._is_known(device):
            raise Denied("A token for any device does not replace one that is there")
        certificate = self._authority.issue(request, now)
        self._audit.append(
            who="device", action="edge.enrol", what=device, outcome="begun", detail={"token": token.id}
        )
        if not self._enrolment.join(token, certificate, now):
            raise Denied("The token was used meanwhile")
        self._audit.append(
            who="device", action="edge.enrol", what=device, outcome="done",
            detail={"token": token.id, "serial": certificate.serial},
        )  # fmt: skip
        return certificate

    def _again(self, token: JoinToken, device: str, request: CertificateRequest) -> DeviceCertificate:
        made = self._enrolment.certificate_of(token)
        if (
            made is None
            or made.device != device
            or made.revoked_at
            or not hmac.compare_digest(made.public_key, request.public_key)
        ):
            raise Denied("The token was used already")
        return made

    def _is_known(self, device: str) -> bool:
        try:
            self._devices.device(device)
        except NotFound:
            return False
        return True


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()


def _shown(device: str) -> str:
    """A name from outside, as the audit log may carry it."""
    return "".join(char if char.isalnum() or char == "-" else "?" for char in device[:64])
