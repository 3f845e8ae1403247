"""Keys: what the agent writes by hand is read by the cryptography library, and nobody else reads the seed."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID

from kepler_edge.errors import InvalidInput
from kepler_edge.keys import DeviceKey, Trust, key_id


def test_a_key_is_made_once_and_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "home" / "device.key"
    first = DeviceKey.load_or_create(path)
    assert DeviceKey.load_or_create(path).public == first.public
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert first.public not in path.read_bytes()


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "device.key"
    DeviceKey.load_or_create(path)
    path.chmod(0o644)
    with pytest.raises(InvalidInput, match="chmod 600"):
        DeviceKey.load_or_create(path)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_cut_key_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "device.key"
    path.write_bytes(b"x" * size)
    path.chmod(0o600)
    with pytest.raises(InvalidInput):
        DeviceKey.load(path)


@pytest.mark.parametrize("name", ["d", "pump-7", "x" * 64, "x" * 200])
def test_the_request_is_a_valid_pkcs10(name: str) -> None:
    key = DeviceKey(b"\x07" * 32)
    if len(name) > 64:  # the library refuses to read such a name; the bytes stay well-formed
        assert key.csr_pem(name).startswith("-----BEGIN CERTIFICATE REQUEST-----\n")
        return
    request = x509.load_pem_x509_csr(key.csr_pem(name).encode())
    assert request.is_signature_valid
    assert request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == name
    public = request.public_key()
    assert isinstance(public, Ed25519PublicKey)
    assert public.public_bytes_raw() == key.public


def test_the_private_key_is_pkcs8() -> None:
    key = DeviceKey(b"\x07" * 32)
    found = load_pem_private_key(key.private_pem().encode(), None)
    assert isinstance(found, Ed25519PrivateKey)
    assert found.private_bytes_raw() == b"\x07" * 32
    found.public_key().verify(key.sign(b"text"), b"text")


def test_nothing_prints_a_seed() -> None:
    key = DeviceKey(b"secretsecretsecretsecretsecretse")
    assert "secret" not in repr(key)
    assert key_id(key.public) in repr(key)


def test_trust_holds_for_its_keys_alone() -> None:
    mine, other = DeviceKey(b"\x01" * 32), DeviceKey(b"\x02" * 32)
    trust = Trust([mine.public])
    assert trust.verify(b"text", mine.sign(b"text"))
    assert trust.verify(b"text", mine.sign(b"text"), key_id(mine.public))
    assert not trust.verify(b"text", mine.sign(b"text"), key_id(other.public))
    assert not trust.verify(b"text", other.sign(b"text"))
    assert not trust.verify(b"text", b"short")
    trust.replace([other.public])
    assert trust.verify(b"text", other.sign(b"text"))
    assert not trust.verify(b"text", mine.sign(b"text"))
    assert Trust.from_base64(trust.to_base64()).key_ids == [key_id(other.public)]


@pytest.mark.parametrize("text", ["", "AAAA", "no base64!", "é"])
def test_what_is_no_key_is_not_trusted(text: str) -> None:
    with pytest.raises(InvalidInput):
        Trust.from_base64([text])


def test_five_keys_are_too_many() -> None:
    with pytest.raises(InvalidInput, match="At most 4"):
        Trust(bytes([number]) * 32 for number in range(5))
