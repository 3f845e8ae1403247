"""The file store: sealed, bound to names, and rotated without a moment in which it does not open."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from kepler.adapters.secrets.keys import KeyChain, KeyFile
from kepler.adapters.secrets.store import MAX_VALUE_BYTES, FileSecretStore
from kepler.core.errors import Conflict, Denied, InvalidInput, NotFound, NotReady

CANARY = "canary-5f0c9d-value"


@pytest.fixture
def store(tmp_path: Path) -> FileSecretStore:
    return FileSecretStore(tmp_path / "secrets.json", KeyFile(tmp_path / "secrets.key"))


def reopened(store: FileSecretStore) -> FileSecretStore:
    return FileSecretStore(store.path, KeyFile(store.path.with_name("secrets.key")))


def change(store: FileSecretStore, name: str, field: str, value: object) -> None:
    document = json.loads(store.path.read_text())
    document["secrets"][name][field] = value
    store.path.write_text(json.dumps(document))


def test_values_are_sealed_and_files_private(store: FileSecretStore) -> None:
    store.set("hec", CANARY)
    for file in store.path.parent.iterdir():
        assert CANARY.encode() not in file.read_bytes()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert reopened(store).get("hec") == CANARY


def test_equal_values_look_different(store: FileSecretStore) -> None:
    store.set("a", CANARY)
    store.set("b", CANARY)
    entries = json.loads(store.path.read_text())["secrets"]
    assert entries["a"]["sealed"] != entries["b"]["sealed"]


@pytest.mark.parametrize("field", ["sealed", "wrapped"])
def test_exchanged_entries_are_detected(store: FileSecretStore, field: str) -> None:
    store.set("a", "one")
    store.set("b", "two")
    entries = json.loads(store.path.read_text())["secrets"]
    change(store, "a", field, entries["b"][field])
    with pytest.raises(Conflict, match="changed outside"):
        store.get("a")


def test_an_old_version_under_a_new_number_is_detected(store: FileSecretStore) -> None:
    store.set("a", "one")
    old = json.loads(store.path.read_text())["secrets"]["a"]
    store.set("a", "two")
    change(store, "a", "sealed", old["sealed"])
    change(store, "a", "wrapped", old["wrapped"])
    with pytest.raises(Conflict):
        store.get("a")


@pytest.mark.parametrize("text", ["", "{}", "[]", "not json", '{"format": 1, "secrets": 5}'])
def test_a_damaged_file_is_said(store: FileSecretStore, text: str) -> None:
    store.set("a", "one")
    store.path.write_text(text)
    with pytest.raises(Conflict, match="damaged"):
        store.get("a")


def test_base64_that_is_none_is_detected(store: FileSecretStore) -> None:
    store.set("a", "one")
    change(store, "a", "sealed", "???")
    with pytest.raises(Conflict):
        store.get("a")


def test_a_newer_format_is_refused(store: FileSecretStore) -> None:
    store.path.write_text('{"format": 2, "secrets": {}}')
    store.path.chmod(0o600)
    with pytest.raises(Conflict, match="format 2"):
        store.names()


def test_a_file_others_may_read_is_refused(store: FileSecretStore) -> None:
    store.set("a", "one")
    store.path.with_name("secrets.key").chmod(0o644)
    with pytest.raises(Denied, match="chmod 600"):
        store.get("a")


def test_a_missing_key_is_never_replaced(store: FileSecretStore) -> None:
    store.set("a", "one")
    key = store.path.with_name("secrets.key")
    key.unlink()
    with pytest.raises(NotReady, match="missing"):
        store.get("a")
    with pytest.raises(NotReady, match="missing"):
        store.set("b", "two")
    assert not key.exists()


def test_another_homes_key_is_said(store: FileSecretStore) -> None:
    store.set("a", "one")
    KeyFile(store.path.with_name("secrets.key")).save(KeyChain.new())
    with pytest.raises(NotReady, match="not here"):
        store.get("a")


@pytest.mark.parametrize("name", ["", "a b", "../x", ".x", "x" * 129, "a|b"])
def test_illegal_names_are_refused(store: FileSecretStore, name: str) -> None:
    with pytest.raises(InvalidInput, match="legal name"):
        store.set(name, "x")


@pytest.mark.parametrize("value", ["", "x" * (MAX_VALUE_BYTES + 1)])
def test_empty_and_huge_values_are_refused(store: FileSecretStore, value: str) -> None:
    with pytest.raises(InvalidInput, match="1 to"):
        store.set("a", value)


def test_a_missing_secret_names_what_there_is(store: FileSecretStore) -> None:
    with pytest.raises(NotFound, match="None is stored"):
        store.get("a")
    store.set("b", "x")
    with pytest.raises(NotFound, match="Known are b"):
        store.get("a")


def test_rotation_reseals_and_forgets_the_old_key(store: FileSecretStore) -> None:
    store.set("a", "one")
    place = KeyFile(store.path.with_name("secrets.key"))
    before = place.load()
    key_id = store.rotate()
    after = place.load()
    assert before is not None
    assert after is not None
    assert list(after.keys) == [key_id]
    assert key_id not in before.keys
    assert reopened(store).get("a") == "one"


class FailingPlace(KeyFile):
    """Stops working after some saves, as a killed process does."""

    saves_left = 100

    def save(self, chain: KeyChain) -> None:
        if self.saves_left == 0:
            raise KeyboardInterrupt
        self.saves_left -= 1
        super().save(chain)


@pytest.mark.parametrize("saves", [0, 1])
def test_an_interrupted_rotation_loses_nothing(tmp_path: Path, saves: int) -> None:
    place = FailingPlace(tmp_path / "secrets.key")
    store = FileSecretStore(tmp_path / "secrets.json", place)
    store.set("a", "one")
    place.saves_left = saves
    with pytest.raises(KeyboardInterrupt):
        store.rotate()
    again = reopened(store)
    assert again.get("a") == "one"
    key_id = again.rotate()
    chain = KeyFile(tmp_path / "secrets.key").load()
    assert chain is not None
    assert list(chain.keys) == [key_id]
    assert again.get("a") == "one"


def test_rotating_an_empty_store_makes_a_key(store: FileSecretStore) -> None:
    store.rotate()
    store.set("a", "one")
    assert store.get("a") == "one"


def test_values_are_revealed_to_the_redactor(tmp_path: Path) -> None:
    seen: list[str] = []
    store = FileSecretStore(tmp_path / "s.json", KeyFile(tmp_path / "k"), seen.append)
    store.set("a", CANARY)
    store.get("a")
    assert seen == [CANARY, CANARY]
