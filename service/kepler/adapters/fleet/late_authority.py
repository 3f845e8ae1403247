"""The fleet's authority, made when it is first needed: a service without a fleet loads no certificate library."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from kepler.ports.fleet import CertificateRequest, DeviceCertificate
from kepler.ports.security import SecretStore

if TYPE_CHECKING:
    from kepler.adapters.fleet.authority import FleetAuthority


class LateAuthority:
    """Implements `ports.fleet.Authority`; takes what `FleetAuthority` takes."""

    def __init__(self, secrets: SecretStore, days: int) -> None:
        self._secrets = secrets
        self._days = days

    @cached_property
    def made(self) -> FleetAuthority:
        from kepler.adapters.fleet.authority import FleetAuthority

        return FleetAuthority(self._secrets, self._days)

    @property
    def ca_pem(self) -> str:
        return self.made.ca_pem

    def read_request(self, csr_pem: str) -> CertificateRequest:
        return self.made.read_request(csr_pem)

    def issue(self, request: CertificateRequest, now: float) -> DeviceCertificate:
        return self.made.issue(request, now)

    def read_certificate(self, pem: str) -> DeviceCertificate:
        return self.made.read_certificate(pem)

    def revocations(self, revoked: Sequence[DeviceCertificate], now: float) -> str:
        return self.made.revocations(revoked, now)
