"""The fleet: what is known of devices, who may join, what is on its way to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from kepler.fleet.desired import Document, Release
from kepler.fleet.devices import Device, LoadedModel, Selector
from kepler.fleet.rollouts import DevicePart, Rollout


@dataclass(frozen=True, slots=True)
class Birth:
    """What a device says of itself when it connects."""

    bd: int
    epoch: str
    agent: str
    caps: tuple[str, ...] = ()
    models: tuple[LoadedModel, ...] = ()


@dataclass(frozen=True, slots=True)
class ReportedRelease:
    """A release a device knows, and how far it is with it."""

    id: str
    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Reported:
    """What a device is, as it says."""

    rev_seen: int
    rev_applied: int
    status: str
    error: str = ""
    releases: tuple[ReportedRelease, ...] = ()


@dataclass(frozen=True, slots=True)
class Desired:
    """What a device should be. ``published_at`` is 0 for a revision no broker has taken yet."""

    device: str
    rev: int
    doc: Document
    published_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Step:
    """One transition of a release, as its device told it. ``ts`` is the device's clock."""

    device: str
    release: str
    model: str
    version: int
    n: int
    from_state: str
    to_state: str
    reason: str = ""
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])
    ts: float = 0.0
    received_at: float = 0.0


@dataclass(frozen=True, slots=True)
class JoinToken:
    """A one-time token for one device, without its secret. ``device`` empty lets the device choose its name."""

    id: str
    device: str
    labels: Mapping[str, str]
    created_by: str
    created_at: float
    expires_at: float
    used_by: str = ""
    used_at: float = 0.0


@dataclass(frozen=True, slots=True)
class DeviceCertificate:
    """A device's certificate. ``public_key`` are the 32 bytes of its Ed25519 key, which signs its frames.

    ``ours`` is false for one that the site's own authority made: that authority revokes it too.
    """

    serial: str
    device: str
    public_key: bytes
    pem: str
    issued_at: float
    expires_at: float
    revoked_at: float = 0.0
    ours: bool = True


class DeviceStore(Protocol):
    """Devices and what they should be. Every method is safe from several threads and services."""

    def device(self, device_id: str) -> Device:
        """Raises `NotFound`."""
        ...

    def devices(self, selector: Selector | None = None, *, limit: int = 0, offset: int = 0) -> list[Device]:
        """By name; all of them without ``limit``, revoked ones only without a selector."""
        ...

    def set_labels(self, device_id: str, labels: Mapping[str, str]) -> Device: ...

    def born(self, device_id: str, birth: Birth, now: float) -> Device | None:
        """None for a device that is not enrolled, or a birth older than the latest."""
        ...

    def died(self, device_id: str, bd: int, now: float) -> bool:
        """False for the death of a connection that is not the latest."""
        ...

    def reported(self, device_id: str, reported: Reported, now: float) -> bool:
        """False for a device that is not enrolled."""
        ...

    def desired(self, device_id: str) -> Desired: ...

    def change_desired(self, device_id: str, change: Callable[[Document], Document]) -> Desired:
        """Write what ``change`` makes of the document under the next revision; the same one changes nothing."""
        ...

    def republish(self, device_id: str) -> Desired:
        """Give the document another revision, so that it is sent again."""
        ...

    def unpublished(self, limit: int = 500) -> list[Desired]:
        """Documents whose newest revision no broker has taken, oldest first."""
        ...

    def published(self, device_id: str, rev: int, now: float) -> None: ...

    def next_command(self, device_id: str) -> int:
        """The rising number of a command."""
        ...


class EnrolmentStore(Protocol):
    """Tokens that let a device join, and the certificates of those that did."""

    def add_token(self, token: JoinToken, digest: bytes) -> None: ...

    def token(self, token_id: str) -> tuple[JoinToken, bytes] | None:
        """The token with the SHA-256 of its text."""
        ...

    def tokens(self) -> list[JoinToken]: ...

    def join(self, token: JoinToken, certificate: DeviceCertificate, now: float) -> bool:
        """Use up ``token`` for the certificate's device, enrol the device, keep the certificate: all or nothing.

        False when the token was used meanwhile, `Conflict` when the key belongs to another device.
        """
        ...

    def register(self, certificate: DeviceCertificate, labels: Mapping[str, str], now: float) -> Device:
        """Enrol a device with a certificate of the site's authority."""
        ...

    def certificates(self, device_id: str = "") -> list[DeviceCertificate]:
        """Newest first."""
        ...

    def certificate_of(self, token: JoinToken) -> DeviceCertificate | None:
        """The newest certificate of the device that used the token."""
        ...

    def keys_of(self, device_id: str, now: float) -> list[bytes]:
        """Public keys whose frames hold for this device: not revoked, not expired. Empty for a stranger."""
        ...

    def revoke(self, device_id: str, now: float, *, but: str = "") -> Device:
        """Revoke its certificates, but the one with serial ``but``; without that the device is revoked too."""
        ...


class RolloutStore(Protocol):
    """Rollouts, their devices, and every step a device told."""

    def create(self, rollout: Rollout, parts: Sequence[DevicePart], release: Release) -> Rollout:
        """Idempotent by id. `Conflict` while another rollout of the model is under way to one of the devices."""
        ...

    def rollout(self, rollout_id: str) -> Rollout:
        """Raises `NotFound`."""
        ...

    def rollouts(self, *, limit: int = 100, offset: int = 0) -> list[Rollout]:
        """Newest first."""
        ...

    def open_rollouts(self) -> list[Rollout]:
        """Those that are not final, and final ones with a device under way; oldest first."""
        ...

    def parts(self, rollout_id: str) -> list[DevicePart]: ...

    def save(self, rollout: Rollout, was_n: int, parts: Sequence[DevicePart]) -> bool:
        """Write the rollout and the parts that changed; False when somebody else changed it meanwhile."""
        ...

    def offer(self, rollout: Rollout, part: DevicePart, now: float) -> bool:
        """Name the release in the device's desired state and remember what was there before: all or nothing.

        False when rollout or part are not what they were, or the device is gone.
        """
        ...

    def withdraw(self, rollout: Rollout, part: DevicePart, now: float) -> bool:
        """Put back what the device's desired state named before."""
        ...

    def tell(self, step: Step) -> bool:
        """Keep a step and move the device's part with it; False for one that is known."""
        ...

    def observe(self, device_id: str, releases: Sequence[ReportedRelease], now: float) -> int:
        """Move parts by what the device reports of its releases; gives how many moved."""
        ...

    def steps(self, rollout_id: str, *, device: str = "", limit: int = 1000) -> list[Step]:
        """What the devices told, newest first."""
        ...

    def delete(self, rollout_id: str) -> None:
        """Forget a rollout that has ended, with its steps; can be repeated."""
        ...


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """A request whose own signature holds: the name it asks for and its Ed25519 key."""

    device: str
    public_key: bytes


class Authority(Protocol):
    """Makes the certificates of the fleet."""

    @property
    def ca_pem(self) -> str: ...

    def read_request(self, csr_pem: str) -> CertificateRequest:
        """Raises `InvalidInput`."""
        ...

    def issue(self, request: CertificateRequest, now: float) -> DeviceCertificate: ...

    def read_certificate(self, pem: str) -> DeviceCertificate:
        """A certificate that another authority made. Raises `InvalidInput` for anything but an Ed25519 one."""
        ...

    def revocations(self, revoked: Sequence[DeviceCertificate], now: float) -> str:
        """The list for the broker, in PEM."""
        ...


class FleetChannel(Protocol):
    """The way to the devices."""

    @property
    def online(self) -> bool: ...

    def send_desired(self, desired: Desired) -> bool:
        """Hand the document to the broker; False when there is no connection now. Does not wait for the device."""
        ...

    def send_command(
        self,
        device: str,
        verb: str,
        *,
        command_id: str,
        n: int,
        args: Mapping[str, str | float | bool],
        expires: float,
    ) -> bool: ...

    def send_chunk(self, device: str, sha256: str, off: int, data: bytes) -> bool: ...
