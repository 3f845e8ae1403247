"""Where the store's key may live."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from keyring.errors import KeyringLocked

from kepler.adapters.secrets import keys
from kepler.adapters.secrets.keys import KeyChain, KeyFile, KeyringPlace, trusted_backend
from kepler.adapters.secrets.store import FileSecretStore
from kepler.core.errors import Conflict, NotReady


class MemoryKeyring:
    """A back end of the keyring package as far as we use one."""

    def __init__(self, *, locked: bool = False) -> None:
        self.passwords: dict[tuple[str, str], str] = {}
        self.locked = locked

    def get_password(self, service: str, name: str) -> str | None:
        if self.locked:
            raise KeyringLocked("no prompt here")
        return self.passwords.get((service, name))

    def set_password(self, service: str, name: str, password: str) -> None:
        self.passwords[service, name] = password


def backend(module: str, priority: float) -> Any:
    return type("Keyring", (), {"__module__": module, "priority": priority})()


def test_the_keyring_keeps_the_key(tmp_path: Path) -> None:
    ring = MemoryKeyring()
    store = FileSecretStore(tmp_path / "secrets.json", KeyringPlace("home-a", ring))
    store.set("a", "one")
    assert FileSecretStore(tmp_path / "secrets.json", KeyringPlace("home-a", ring)).get("a") == "one"
    assert [file.name for file in tmp_path.iterdir() if "key" in file.name] == []
    with pytest.raises(NotReady, match="missing"):
        FileSecretStore(tmp_path / "secrets.json", KeyringPlace("home-b", ring)).get("a")


def test_a_locked_keyring_is_said() -> None:
    with pytest.raises(NotReady, match="Unlock it"):
        KeyringPlace("home", MemoryKeyring(locked=True)).load()


def test_only_back_ends_that_encrypt_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = backend("keyrings.alt.file", 9)
    good = backend("keyring.backends.SecretService", 5)
    monkeypatch.setattr("keyring.backend.get_all_keyring", lambda: [plain, good])
    assert trusted_backend() is good
    monkeypatch.setattr("keyring.backend.get_all_keyring", lambda: [plain])
    with pytest.raises(NotReady, match="KEPLER_SECRETS__KEY=file"):
        trusted_backend()


def test_the_best_back_end_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    rings = [backend("keyring.backends.kwallet", 4), backend("keyring.backends.SecretService", 5)]
    monkeypatch.setattr("keyring.backend.get_all_keyring", lambda: rings)
    assert KeyringPlace("home").backend is rings[1]


def test_headless_systems_have_none_or_a_trusted_one() -> None:
    try:
        module = type(trusted_backend()).__module__
    except NotReady:
        return
    assert module.startswith(keys.TRUSTED_BACKENDS)


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", '{"current": "a", "keys": {"a": "AAAA"}}', '{"current": "b", "keys": {}}', "null"],
)
def test_a_damaged_key_file_is_said(tmp_path: Path, text: str) -> None:
    place = KeyFile(tmp_path / "key")
    assert place.load() is None
    place.path.write_text(text)
    place.path.chmod(0o600)
    with pytest.raises(Conflict, match="damaged"):
        place.load()


def test_a_chain_survives_its_text() -> None:
    chain = KeyChain.new().with_next()
    assert KeyChain.from_text(chain.to_text(), "here") == chain
    assert list(chain.only_current().keys) == [chain.current]
