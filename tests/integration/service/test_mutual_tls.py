"""Mutual TLS from end to end: the right certificate works, every other one does not get in."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from kepler.adapters.security.tls import make_self_signed
from kepler.core.errors import Unauthenticated, Unavailable
from support.running_service import NotStarted, start
from support.service_client import Line, connect, predict_one, trained


def leaf(
    folder: Path, authority: Path, authority_key: Path, *, days: int, server: bool = False
) -> tuple[Path, Path]:
    """A certificate that ends in ``days`` (negative: has ended), by the given authority; with its key."""
    issuer = x509.load_pem_x509_certificate(authority.read_bytes())
    issuer_key: Any = load_pem_private_key(authority_key.read_bytes(), None)
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "somebody")])
    usage = x509.ExtendedKeyUsageOID.SERVER_AUTH if server else x509.ExtendedKeyUsageOID.CLIENT_AUTH
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=30))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    folder.mkdir(exist_ok=True)
    cert_file, key_file = folder / "leaf.crt", folder / "leaf.key"
    cert_file.write_bytes(certificate.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return cert_file, key_file


def test_train_predict_and_alias_with_a_certificate_and_a_token(mutual: Any) -> None:
    with mutual.connect("train", "predict", user="eva") as client:
        assert trained(client, "app:mutual") == "app.search/mutual@1"
        assert client.set_alias("app:mutual@1", "prod").aliases == ("prod",)
        model, scored = predict_one(client, "app:mutual@prod", 6, 2)
        assert model == "app.search/mutual@1"
        assert Line().says(6, 2, scored.values)
        identity = client.who_am_i()
        assert (identity.user, identity.tls) == ("eva", True)


def test_a_certificate_alone_is_no_token(mutual: Any) -> None:
    tls = mutual.tls
    with (
        connect(mutual.running, ca=tls.ca, cert=tls.client_cert, key=tls.client_key) as client,
        pytest.raises(Unauthenticated),
    ):
        client.models()


@pytest.mark.parametrize(
    "kind", ["none", "expired", "of another authority", "of a server", "self-made server"]
)
def test_other_certificates_do_not_get_in(mutual: Any, tmp_path: Path, kind: str) -> None:
    tls = mutual.tls
    own_key = tls.ca.with_name("ca.key")
    other = make_self_signed(tmp_path / "other", ["127.0.0.1"])
    ca: Path = tls.ca
    cert: Path | str = tls.client_cert
    key: Path | str = tls.client_key
    if kind == "none":
        cert = key = ""
    elif kind == "expired":
        cert, key = leaf(tmp_path / "made", tls.ca, own_key, days=-1)
    elif kind == "of another authority":
        cert, key = other.client_cert, other.client_key
    elif kind == "of a server":
        cert, key = leaf(tmp_path / "made", tls.ca, own_key, days=5, server=True)
    else:
        ca = other.ca  # the client's side: it does not believe a service of another authority
    token = mutual.mint("admin")
    with (
        connect(mutual.running, token=token, ca=ca, cert=cert, key=key, timeout_s=5) as client,
        pytest.raises(Unavailable),
    ):
        client.models()


def test_a_certificate_that_is_still_good_gets_in(mutual: Any, tmp_path: Path) -> None:
    """The refusals above are for the reason they name."""
    tls = mutual.tls
    cert, key = leaf(tmp_path / "made", tls.ca, tls.ca.with_name("ca.key"), days=5)
    with connect(mutual.running, token=mutual.mint("predict"), ca=tls.ca, cert=cert, key=key) as client:
        client.models()


def test_a_service_with_an_expired_certificate_does_not_start(tmp_path: Path) -> None:
    home = tmp_path / "home"
    tls = make_self_signed(home, ["127.0.0.1"])
    cert, key = leaf(tmp_path / "made", tls.ca, tls.ca.with_name("ca.key"), days=-1, server=True)
    env = {"KEPLER_TLS__CERT_FILE": str(cert), "KEPLER_TLS__KEY_FILE": str(key)}
    with pytest.raises(NotStarted, match="expired"):
        start(home, env=env)
    assert "Traceback" not in (home / "stderr.log").read_text()
