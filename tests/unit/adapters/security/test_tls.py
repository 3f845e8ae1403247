"""Certificates: made so that they work, and refused with the reason where they would not."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from kepler.adapters.security.tls import (
    DevelopmentCertificates,
    load_server_credentials,
    make_self_signed,
)
from kepler.core.errors import Conflict, InvalidInput, NotFound, Unavailable

YEAR_S = 365 * 86_400.0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> DevelopmentCertificates:
    return make_self_signed(tmp_path_factory.mktemp("home"), ["plant.example", "10.0.0.4", "::1"])


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_the_server_is_known_by_its_names(made: DevelopmentCertificates) -> None:
    names = load(made.server_cert).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["plant.example"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.4", "::1"]
    authority = load(made.ca)
    load(made.server_cert).verify_directly_issued_by(authority)
    load(made.client_cert).verify_directly_issued_by(authority)


def test_private_keys_are_private(made: DevelopmentCertificates) -> None:
    for key in (made.server_key, made.client_key, made.ca.with_suffix(".key")):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(made.ca.parent.stat().st_mode) == 0o700


def test_a_pair_loads(made: DevelopmentCertificates) -> None:
    loaded = load_server_credentials(made.server_cert, made.server_key)
    assert loaded.certificate == made.server_cert.read_bytes()
    assert loaded.key == made.server_key.read_bytes()
    assert loaded.client_ca is None
    assert loaded.expires_at == load(made.server_cert).not_valid_after_utc.timestamp()
    assert (
        load_server_credentials(made.server_cert, made.server_key, made.ca).client_ca == made.ca.read_bytes()
    )


def test_time_is_checked(made: DevelopmentCertificates) -> None:
    ends = load(made.server_cert).not_valid_after_utc.timestamp()
    load_server_credentials(made.server_cert, made.server_key, now=ends - 1)
    with pytest.raises(InvalidInput, match="expired on"):
        load_server_credentials(made.server_cert, made.server_key, now=ends + 1)
    with pytest.raises(InvalidInput, match="clock"):
        load_server_credentials(made.server_cert, made.server_key, now=ends - 3 * YEAR_S)


def test_an_expired_authority_of_clients_is_said(made: DevelopmentCertificates, tmp_path: Path) -> None:
    leaf_ends = load(made.server_cert).not_valid_after_utc.timestamp()
    brief = make_self_signed(tmp_path, ["x"]).client_cert
    load_server_credentials(made.server_cert, made.server_key, brief, now=leaf_ends - 1)
    both = tmp_path / "both.crt"
    both.write_bytes(made.ca.read_bytes() + b"junk")
    load_server_credentials(made.server_cert, made.server_key, both)


def test_a_key_of_another_pair_is_said(made: DevelopmentCertificates) -> None:
    with pytest.raises(InvalidInput, match="does not belong"):
        load_server_credentials(made.server_cert, made.client_key)


def test_a_key_with_a_password_is_said(made: DevelopmentCertificates, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    path = tmp_path / "key"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"pw")))
    with pytest.raises(InvalidInput, match="without password"):
        load_server_credentials(made.server_cert, path)


def test_files_that_are_not_there_or_not_pem_are_said(made: DevelopmentCertificates, tmp_path: Path) -> None:
    for arguments in ((tmp_path / "no.crt", made.server_key), (made.server_cert, tmp_path / "no.key")):
        with pytest.raises(NotFound, match=r"no\.(crt|key) does not exist"):
            load_server_credentials(*arguments)
    with pytest.raises(NotFound):
        load_server_credentials(made.server_cert, made.server_key, tmp_path / "no.crt")
    with pytest.raises(InvalidInput, match="is a folder"):
        load_server_credentials(tmp_path, made.server_key)
    (tmp_path / "text").write_text("hello")
    with pytest.raises(InvalidInput, match="no PEM certificate"):
        load_server_credentials(tmp_path / "text", made.server_key)
    with pytest.raises(InvalidInput, match="no PEM key"):
        load_server_credentials(made.server_cert, tmp_path / "text")
    with pytest.raises(Unavailable):
        load_server_credentials(tmp_path / "text" / "under", made.server_key)


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> dict[str, object]:
    """A TLS handshake in memory; gives the client's certificate as the server saw it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    left = client.wrap_bio(to_client, to_server, server_hostname=host)
    right = server.wrap_bio(to_server, to_client, server_side=True)
    waiting = [left, right]
    for _ in range(10):
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                continue
        if not waiting:
            break
    return dict(right.getpeercert() or {})


def contexts(made: DevelopmentCertificates) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(made.server_cert, made.server_key)
    server.load_verify_locations(made.ca)
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cafile=str(made.ca))
    client.load_cert_chain(made.client_cert, made.client_key)
    return server, client


def test_both_sides_accept_each_other(made: DevelopmentCertificates) -> None:
    server, client = contexts(made)
    seen = handshake(server, client, "plant.example")
    assert seen["subject"] == ((("commonName", "kepler-client"),),)
    assert handshake(server, client, "10.0.0.4")


def test_strangers_do_not(made: DevelopmentCertificates, tmp_path: Path) -> None:
    server, client = contexts(made)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(server, client, "other.example")
    _, stranger = contexts(make_self_signed(tmp_path, ["plant.example"]))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, stranger, "plant.example")
    client.load_cert_chain(made.server_cert, made.server_key)  # a server's certificate makes no client
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, client, "plant.example")


def test_renewal_keeps_the_authority(tmp_path: Path) -> None:
    first = make_self_signed(tmp_path, ["a"])
    authority, server = first.ca.read_bytes(), first.server_cert.read_bytes()
    with pytest.raises(Conflict, match="--force"):
        make_self_signed(tmp_path, ["b"])
    second = make_self_signed(tmp_path, ["b"], force=True)
    assert second.ca.read_bytes() == authority
    assert second.server_cert.read_bytes() != server
    load_server_credentials(second.server_cert, second.server_key)


def test_a_foreign_authority_key_is_refused(tmp_path: Path) -> None:
    made = make_self_signed(tmp_path, ["a"])
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    made.ca.with_suffix(".key").write_bytes(pem)
    with pytest.raises(InvalidInput, match="tls init"):
        make_self_signed(tmp_path, ["a"], force=True)


@pytest.mark.parametrize("hosts", [[], [""], ["a b"], ["https://x"], ["x:1"], ["é"]])
def test_hosts_that_are_none_are_refused(tmp_path: Path, hosts: list[str]) -> None:
    with pytest.raises(InvalidInput):
        make_self_signed(tmp_path, hosts)
    assert not (tmp_path / "tls" / "ca.crt").exists()
