"""Certificates: those the service is given, checked with clear errors, and a small authority for trials."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kepler.adapters.security.private_files import disk_error, private_folder, write_private
from kepler.core.errors import Conflict, InvalidInput, NotFound

AUTHORITY_DAYS = 3650
LEAF_DAYS = 397  # what browsers and others still accept
CLOCK_SKEW = dt.timedelta(minutes=5)
LeafKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class ServerCredentials:
    """PEM bytes for a server. ``client_ca`` is None unless clients must show a certificate (mTLS)."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None
    expires_at: float


@dataclass(frozen=True, slots=True)
class DevelopmentCertificates:
    """Paths of what `make_self_signed` wrote."""

    ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path


def load_server_credentials(
    cert_file: Path, key_file: Path, client_ca_file: Path | None = None, *, now: float | None = None
) -> ServerCredentials:
    """Read and check a server's certificate chain and key, and the authority of its clients.

    Raises `NotFound` for a missing file, `InvalidInput` for one that is no PEM, a certificate that is not
    valid at ``now`` (seconds since the epoch, the system's clock when None), or a key of another one.
    """
    at = dt.datetime.fromtimestamp(now, dt.UTC) if now is not None else dt.datetime.now(dt.UTC)
    certificate = _read(cert_file, "certificate")
    leaf = _certificates(certificate, cert_file)[0]
    _check_time(leaf, cert_file, at)
    key = _read(key_file, "key")
    try:
        private = load_pem_private_key(key, password=None)
    except (ValueError, TypeError) as error:
        raise InvalidInput(
            f"The TLS key {key_file} is no PEM key without password",
            fix="Give it an unencrypted PEM private key.",
        ) from error
    public = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*public) != leaf.public_key().public_bytes(*public):
        raise InvalidInput(
            f"The TLS key {key_file} does not belong to the certificate {cert_file}",
            fix="Set tls.cert_file and tls.key_file to files of one pair.",
        )
    client_ca = None
    if client_ca_file is not None:
        client_ca = _read(client_ca_file, "client authority")
        for authority in _certificates(client_ca, client_ca_file):
            _check_time(authority, client_ca_file, at)
    return ServerCredentials(certificate, key, client_ca, leaf.not_valid_after_utc.timestamp())


def make_self_signed(home: Path, hosts: list[str], *, force: bool = False) -> DevelopmentCertificates:
    """An authority, a server and a client certificate under ``<home>/tls``, for trying out and small sites.

    An authority that is there is used again, so that clients which trust it need no change. Raises
    `Conflict` when a server certificate is there and ``force`` is not set.
    """
    folder = private_folder(home / "tls")
    paths = DevelopmentCertificates(
        ca=folder / "ca.crt",
        server_cert=folder / "server.crt",
        server_key=folder / "server.key",
        client_cert=folder / "client.crt",
        client_key=folder / "client.key",
    )
    if paths.server_cert.exists() and not force:
        raise Conflict(f"{paths.server_cert} exists already", fix="Use --force to replace it.")
    names = [general_name(host) for host in hosts]
    if not names:
        raise InvalidInput("A server certificate needs a host name or address", fix="Name one with --host.")
    authority_key_path = folder / "ca.key"
    if authority_key_path.exists() and paths.ca.exists():
        authority = _certificates(_read(paths.ca, "authority"), paths.ca)[0]
        authority_key = load_pem_private_key(_read(authority_key_path, "authority key"), password=None)
        if not isinstance(authority_key, ec.EllipticCurvePrivateKey):
            raise InvalidInput(f"{authority_key_path} is not a key that `kepler tls init` made")
    else:
        authority, authority_key = make_authority("Kepler development authority")
        write_private(authority_key_path, key_pem(authority_key))
        write_private(paths.ca, authority.public_bytes(Encoding.PEM))
    server, server_key = _leaf(
        "kepler-server", names, ExtendedKeyUsageOID.SERVER_AUTH, authority, authority_key
    )
    client, client_key = _leaf("kepler-client", [], ExtendedKeyUsageOID.CLIENT_AUTH, authority, authority_key)
    write_private(paths.server_key, key_pem(server_key))
    write_private(paths.server_cert, server.public_bytes(Encoding.PEM))
    write_private(paths.client_key, key_pem(client_key))
    write_private(paths.client_cert, client.public_bytes(Encoding.PEM))
    for shared in (paths.ca, paths.server_cert, paths.client_cert):
        shared.chmod(0o644)  # public by nature, and copied to others
    return paths


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(
            f"The TLS {what} {path} does not exist", fix="Correct the path in the tls settings."
        ) from error
    except IsADirectoryError as error:
        raise InvalidInput(f"The TLS {what} {path} is a folder", fix="Name the PEM file in it.") from error
    except OSError as error:
        raise disk_error(error, path) from error


def _certificates(pem: bytes, path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise InvalidInput(
            f"{path} holds no PEM certificate", fix="Give it a PEM file, leaf first."
        ) from error


def _check_time(certificate: x509.Certificate, path: Path, now: dt.datetime) -> None:
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > last:
        raise InvalidInput(f"The certificate {path} expired on {last:%Y-%m-%d %H:%M} UTC", fix="Renew it.")
    if now < first - CLOCK_SKEW:
        raise InvalidInput(
            f"The certificate {path} is valid only from {first:%Y-%m-%d %H:%M} UTC",
            fix="Check this machine's clock.",
        )


def general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        if not host or not host.isascii() or any(char.isspace() or char in "/:" for char in host):
            raise InvalidInput(
                f"{host[:100]!r} is not a host name", fix="Give a name or address only."
            ) from None
        return x509.DNSName(host)


def make_authority(title: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A new authority called ``title``, good for ten years, that may sign no further authorities."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = common_name(title)
    builder = (
        _builder(name, name, key.public_key(), AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(signs_certificates=True), critical=True)
    )
    return builder.sign(key, hashes.SHA256()), key


def sign_leaf(
    subject: str,
    public_key: LeafKey,
    names: list[x509.GeneralName],
    purpose: x509.ObjectIdentifier,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    days: int = LEAF_DAYS,
) -> x509.Certificate:
    """A certificate for ``public_key``, with ``subject`` as common name and ``names`` as alternative names."""
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    builder = (
        _builder(common_name(subject), authority.subject, public_key, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(issuer, critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(authority_key, hashes.SHA256())


def _leaf(
    subject: str,
    names: list[x509.GeneralName],
    purpose: x509.ObjectIdentifier,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    return sign_leaf(subject, key.public_key(), names, purpose, authority, authority_key), key


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: LeafKey, days: int
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
