"""A service that asks for client certificates (mTLS)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from fakes.splunkd import Splunkd
from integration.splunk_app.search_head import configure, plan, saved
from integration.splunk_app.talk import Double, error_of, getinfo, make_certificate, records, talk
from kepler_app import broker
from kepler_app.commands.health import KeplerHealth
from kepler_app.commands.predict import KeplerPredict
from kepler_app.splunkd import Splunkd as Rest
from unit.splunk_app.plain import refused

PLAN = getinfo("app:m")


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "client.crt", tmp_path / "client.key"


@pytest.fixture
def strict(tmp_path: Path, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Double]:
    """A service that takes clients with a certificate of its authority only."""
    ca, _, issuer = make_certificate(names=("Test CA",))
    certificate, key, _ = make_certificate(issuer=issuer)
    for path, content in zip(pair, make_certificate(names=("search-head",), issuer=issuer), strict=False):
        path.write_bytes(content)  # type: ignore[arg-type]
    (tmp_path / "ca.pem").write_bytes(ca)
    service = Double()
    service.signature, service.fields = "s", ["a"]
    monkeypatch.setenv("KEPLER_ADDRESS", service.secure(certificate, key, client_ca=ca))
    monkeypatch.setenv("KEPLER_CA_FILE", str(tmp_path / "ca.pem"))
    with service:
        yield service


@pytest.fixture
def shown(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.setenv("KEPLER_CLIENT_CERT_FILE", str(pair[0]))
    monkeypatch.setenv("KEPLER_CLIENT_KEY_FILE", str(pair[1]))
    return pair


def health() -> list[tuple[str, str, str]]:
    _, answers = talk(KeplerHealth(), getinfo(), b"")
    return [(row["check"], row["status"], row["detail"]) for row in records(answers[1][1])]


def test_the_certificate_is_shown(strict: Double, shown: tuple[Path, Path]) -> None:
    code, answers = talk(KeplerPredict(), PLAN, b"a\n1\n")
    assert code == 0, answers
    assert {status for _, status, _ in health()} == {"ok"}


def test_without_one_the_search_says_what_is_missing(strict: Double) -> None:
    assert "It may ask for a client certificate. Set the files" in error_of(KeplerPredict(), PLAN, b"a\n1\n")
    assert [status for _, status, _ in health()].count("failed") == 1


def test_one_of_another_authority_is_refused(strict: Double, shown: tuple[Path, Path]) -> None:
    certificate, key, _ = make_certificate(names=("stranger",))
    shown[0].write_bytes(certificate)
    shown[1].write_bytes(key)
    sentence = error_of(KeplerPredict(), PLAN, b"a\n1\n")
    assert f"may not accept the client certificate {str(shown[0])!r}" in sentence


def test_what_is_wrong_with_the_files(
    strict: Double, shown: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = shown
    good = key.read_bytes()

    def sentence() -> str:
        return error_of(KeplerPredict(), PLAN, b"a\n1\n")

    key.write_bytes(make_certificate()[1])
    assert "no pair in PEM form" in sentence()
    secret = serialization.load_pem_private_key(good, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"x"),
    )
    key.write_bytes(secret)
    assert "or the key has a password" in sentence(), "and nobody is asked for it"
    key.unlink()
    assert f"The client key file {str(key)!r} cannot be read (No such file or directory)" in sentence()
    certificate.write_text("nonsense")
    key.write_bytes(good)
    assert "no pair in PEM form" in sentence()
    monkeypatch.delenv("KEPLER_CLIENT_KEY_FILE")
    assert "no key file is set" in sentence()
    assert [check for check, status, _ in health() if status == "failed"] == ["tls"]
    monkeypatch.delenv("KEPLER_CLIENT_CERT_FILE")
    monkeypatch.setenv("KEPLER_CLIENT_KEY_FILE", str(key))
    assert "no certificate file is set" in sentence()


def test_from_the_configuration_page_to_the_search(
    strict: Double,
    pair: tuple[Path, Path],
    splunkd: Splunkd,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The broker connects with the pair, too; users get the paths and never the key."""
    import os

    configure(
        splunkd,
        address=os.environ["KEPLER_ADDRESS"],
        ca_certificate=str(tmp_path / "ca.pem"),
        client_cert_file=str(pair[0]),
        client_key_file=str(pair[1]),
    )
    system, page = splunkd.accounts.system_token, saved(splunkd)
    monkeypatch.delenv("KEPLER_ADDRESS")
    strict.capabilities = ["issue"]
    broker.check_settings(splunkd.uri, system, page)
    with refused("may ask for a client certificate"):
        broker.check_settings(splunkd.uri, system, {**page, "client_cert_file": "", "client_key_file": ""})
    code, answers = talk(KeplerPredict(), plan(splunkd, "ana", "app:m"), b"a\n1\n")
    assert code == 0, answers
    answer = Rest(splunkd.uri, splunkd.accounts.session_for("ana")).post("/services/kepler/token")
    assert (answer["cert_file"], answer["key_file"]) == (str(pair[0]), str(pair[1]))
    assert "PRIVATE" not in json.dumps(answer)
