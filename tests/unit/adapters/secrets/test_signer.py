"""Package signatures."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from fakes.secret_store import InMemorySecretStore
from kepler.adapters.secrets.signer import SECRET_NAME, Ed25519Signer
from kepler.core.errors import Conflict


def test_what_was_signed_verifies_and_nothing_else() -> None:
    signer = Ed25519Signer(InMemorySecretStore())
    signature = signer.sign(b"payload")
    assert signer.verify(b"payload", signature)
    assert not signer.verify(b"payloae", signature)
    assert not signer.verify(b"payload", signature[:-1] + bytes([signature[-1] ^ 1]))
    assert not signer.verify(b"payload", b"")


def test_the_key_stays_and_others_differ() -> None:
    store = InMemorySecretStore()
    first, second = Ed25519Signer(store), Ed25519Signer(store)
    assert first.key_id == second.key_id
    assert second.verify(b"x", first.sign(b"x"))
    stranger = Ed25519Signer(InMemorySecretStore())
    assert stranger.key_id != first.key_id
    assert not first.verify(b"x", stranger.sign(b"x"))


def test_the_public_key_checks_elsewhere() -> None:
    signer = Ed25519Signer(InMemorySecretStore())
    public = load_pem_public_key(signer.public_pem().encode())
    assert isinstance(public, Ed25519PublicKey)
    public.verify(signer.sign(b"x"), b"x")


@pytest.mark.parametrize("stored", ["no base64 !", base64.b64encode(b"short").decode()])
def test_a_key_that_is_none_is_said(stored: str) -> None:
    store = InMemorySecretStore()
    store.set(SECRET_NAME, stored)
    with pytest.raises(Conflict, match="no Ed25519 key"):
        Ed25519Signer(store)
