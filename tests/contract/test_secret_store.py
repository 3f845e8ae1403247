"""What every secret store keeps to."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes.secret_store import InMemorySecretStore
from kepler.adapters.secrets.keys import KeyFile
from kepler.adapters.secrets.store import FileSecretStore
from kepler.core.errors import NotFound
from kepler.ports.security import SecretStore


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SecretStore:
    if request.param == "memory":
        return InMemorySecretStore()
    return FileSecretStore(tmp_path / "secrets.json", KeyFile(tmp_path / "secrets.key"))


def test_gives_back_what_was_set(store: SecretStore) -> None:
    store.set("hec", "päss\nword")
    store.set("other", "x")
    assert store.get("hec") == "päss\nword"
    assert store.names() == ["hec", "other"]


def test_set_replaces(store: SecretStore) -> None:
    store.set("hec", "old")
    store.set("hec", "new")
    assert store.get("hec") == "new"
    assert store.names() == ["hec"]


def test_setdefault_keeps_the_first(store: SecretStore) -> None:
    assert store.setdefault("hec", "first") == "first"
    assert store.setdefault("hec", "second") == "first"
    assert store.get("hec") == "first"


def test_delete_forgets(store: SecretStore) -> None:
    store.set("hec", "x")
    store.delete("hec")
    assert store.names() == []
    with pytest.raises(NotFound):
        store.get("hec")
    with pytest.raises(NotFound):
        store.delete("hec")
