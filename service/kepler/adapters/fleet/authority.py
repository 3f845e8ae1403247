"""The fleet's own authority: implements `ports.fleet.Authority` with a key in the secret store."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kepler.adapters.security.tls import general_name, key_pem, make_authority, sign_leaf
from kepler.core.errors import Conflict, InvalidInput
from kepler.fleet.devices import check_device_id
from kepler.ports.fleet import CertificateRequest, DeviceCertificate
from kepler.ports.security import SecretStore

SECRET_NAME = "kepler.fleet-authority"  # noqa: S105 - the name of a secret, not one
HOST_NAME = "kepler-host"  # what the broker's access list calls the service
MAX_PEM_CHARS = 16_384
_CRL_DAYS = 30


class FleetAuthority:
    """Made once per home; certificate and key are one secret, so that they always fit each other.

    Parameters
    ----------
    secrets
        Where it lives.
    days
        How long a device's certificate is good for.
    """

    def __init__(self, secrets: SecretStore, days: int = 397) -> None:
        self._days = days
        certificate, key = make_authority("Kepler fleet authority")
        fresh = {"certificate": _pem(certificate), "key": key_pem(key).decode()}
        stored = json.loads(secrets.setdefault(SECRET_NAME, json.dumps(fresh)))
        try:
            self._certificate = x509.load_pem_x509_certificate(stored["certificate"].encode())
            loaded = load_pem_private_key(stored["key"].encode(), password=None)
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged() from error
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise _damaged()
        self._key = loaded

    @property
    def ca_pem(self) -> str:
        return _pem(self._certificate)

    def read_request(self, csr_pem: str) -> CertificateRequest:
        try:
            if len(csr_pem) > MAX_PEM_CHARS:
                raise _no_request("It is too long")
            request = x509.load_pem_x509_csr(csr_pem.encode())
            public = request.public_key()
            if not isinstance(public, Ed25519PublicKey):
                raise _no_request("Its key is not Ed25519")
            if not request.is_signature_valid:
                raise _no_request("Its signature does not hold")
            return CertificateRequest(_common_name(request.subject), public.public_bytes_raw())
        except (ValueError, UnsupportedAlgorithm, InvalidSignature, UnicodeEncodeError) as error:
            raise _no_request("It is no PEM request") from error

    def issue(self, request: CertificateRequest, now: float) -> DeviceCertificate:
        public = Ed25519PublicKey.from_public_bytes(request.public_key)
        made = sign_leaf(
            check_device_id(request.device), public, [], ExtendedKeyUsageOID.CLIENT_AUTH, self._certificate,
            self._key, self._days,
        )  # fmt: skip
        return _device_certificate(made, request.device, request.public_key, now, ours=True)

    def read_certificate(self, pem: str) -> DeviceCertificate:
        try:
            found = x509.load_pem_x509_certificate(pem[:MAX_PEM_CHARS].encode())
            public = found.public_key()
            if not isinstance(public, Ed25519PublicKey):
                raise InvalidInput(
                    "The certificate's key is not Ed25519",
                    cause="The key of a device's certificate also signs its messages.",
                    fix="Let the site's authority sign the request that `kepler-edge enrol --request` writes.",
                )
            device = _common_name(found.subject)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise InvalidInput(
                "This is no certificate in PEM", fix="Give the device's own certificate."
            ) from error
        return _device_certificate(
            found, device, public.public_bytes_raw(), found.not_valid_before_utc.timestamp(), ours=False
        )

    def revocations(self, revoked: Sequence[DeviceCertificate], now: float) -> str:
        at = dt.datetime.fromtimestamp(now, dt.UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(at)
            .next_update(at + dt.timedelta(days=_CRL_DAYS))
            .add_extension(x509.CRLNumber(int(now * 1000)), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        for certificate in revoked:
            entry = (
                x509.RevokedCertificateBuilder()
                .serial_number(int(certificate.serial, 16))
                .revocation_date(dt.datetime.fromtimestamp(certificate.revoked_at, dt.UTC))
                .build()
            )
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()

    def server_pair(self, hosts: list[str]) -> tuple[str, str]:
        """Certificate and key in PEM for a broker that answers to ``hosts``."""
        if not hosts:
            raise InvalidInput(
                "A broker's certificate needs a host name or address", fix="Name one with --host."
            )
        return self._pair(hosts[0], [general_name(host) for host in hosts], ExtendedKeyUsageOID.SERVER_AUTH)

    def host_pair(self) -> tuple[str, str]:
        """Certificate and key in PEM with which the service connects to the broker."""
        return self._pair(HOST_NAME, [], ExtendedKeyUsageOID.CLIENT_AUTH)

    def _pair(
        self, name: str, names: list[x509.GeneralName], purpose: x509.ObjectIdentifier
    ) -> tuple[str, str]:
        key = ec.generate_private_key(ec.SECP256R1())
        made = sign_leaf(name[:64], key.public_key(), names, purpose, self._certificate, self._key)
        return _pem(made), key_pem(key).decode()


def _device_certificate(
    made: x509.Certificate, device: str, public_key: bytes, now: float, *, ours: bool
) -> DeviceCertificate:
    return DeviceCertificate(
        serial=f"{made.serial_number:x}",
        device=check_device_id(device),
        public_key=public_key,
        pem=_pem(made),
        issued_at=now,
        expires_at=made.not_valid_after_utc.timestamp(),
        ours=ours,
    )


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(found) != 1 or not isinstance(found[0].value, str):
        raise InvalidInput("It names no device", fix="Use the device's name as the one common name.")
    return check_device_id(found[0].value)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _no_request(cause: str) -> InvalidInput:
    return InvalidInput(
        "This is no certificate request of a device",
        cause=cause,
        fix="Use the request that `kepler-edge enrol` makes: an Ed25519 key and the device's name.",
    )


def _damaged() -> Conflict:
    return Conflict(
        f"Secret {SECRET_NAME!r} is no authority",
        fix="Restore it from a backup, or delete it and enrol every device again.",
    )
