"""Whose packages are taken."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fakes.secret_store import InMemorySecretStore
from kepler.adapters.secrets.signer import Ed25519Signer
from kepler.adapters.secrets.trusted_keys import OWN, TrustedKeys
from kepler.core.errors import Conflict, InvalidInput, NotFound


@pytest.fixture
def secrets() -> InMemorySecretStore:
    return InMemorySecretStore()


@pytest.fixture
def keys(secrets: InMemorySecretStore) -> TrustedKeys:
    return TrustedKeys(secrets, Ed25519Signer(secrets))


def test_own_and_added_keys_are_trusted_until_they_are_removed(
    keys: TrustedKeys, secrets: InMemorySecretStore
) -> None:
    own, plant = Ed25519Signer(secrets), Ed25519Signer(InMemorySecretStore())
    assert keys.signer_of(b"x", own.sign(b"x")) == own.key_id
    assert keys.signer_of(b"x", plant.sign(b"x")) == ""
    added = keys.add(plant.public_pem().encode(), "plant")
    assert (added.key_id, added.name) == (plant.key_id, "plant")
    assert keys.signer_of(b"x", plant.sign(b"x")) == plant.key_id
    assert not keys.verify(b"y", plant.sign(b"x"))
    assert not keys.verify(b"x", b"")
    keys.add(plant.public_pem().encode(), "plant 2")
    assert [(key.key_id, key.name) for key in keys.list()] == [(own.key_id, OWN), (plant.key_id, "plant 2")]
    assert TrustedKeys(secrets, own).verify(b"x", plant.sign(b"x"))
    keys.remove(plant.key_id)
    assert not keys.verify(b"x", plant.sign(b"x"))
    with pytest.raises(NotFound, match="is trusted here"):
        keys.remove(plant.key_id)


def test_only_ed25519_public_keys_with_a_name(keys: TrustedKeys, secrets: InMemorySecretStore) -> None:
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = Ed25519Signer(InMemorySecretStore()).public_pem().encode()
    for wrong in (
        b"",
        b"no key",
        pem[:-30],
        pem + b" " * 10_000,
        other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    ):
        with pytest.raises(InvalidInput, match="no Ed25519 public key"):
            keys.add(wrong, "x")
    for name in ("", "a\nb", "x" * 101):
        with pytest.raises(InvalidInput, match="name"):
            keys.add(pem, name)
    with pytest.raises(Conflict, match="trusted already"):
        keys.add(Ed25519Signer(secrets).public_pem().encode(), "me")
