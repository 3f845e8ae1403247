"""Tokens: what they grant, when they end, and that nothing else passes."""

from __future__ import annotations

import base64
import json
import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.clock import FakeClock
from fakes.secret_store import InMemorySecretStore
from kepler.adapters.security.tokens import LAST_USED_STEP_S, SqliteTokenStore
from kepler.core.errors import Denied, InvalidInput, NotFound, Unauthenticated, Unavailable
from kepler.ports.security import CAPABILITIES, Principal

ALL = frozenset(CAPABILITIES)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def secrets() -> InMemorySecretStore:
    return InMemorySecretStore()


@pytest.fixture
def store(tmp_path: Path, secrets: InMemorySecretStore, clock: FakeClock) -> Iterator[SqliteTokenStore]:
    made = SqliteTokenStore(tmp_path / "tokens.sqlite", secrets, clock)
    yield made
    made.close()


def parent_of(store: SqliteTokenStore, *can: str, ttl_s: float = 0) -> tuple[Principal, str]:
    _, text = store.create("installation", "splunk", frozenset(can), ttl_s)
    return store.authenticate(text), text


def test_a_token_is_who_it_was_made_for(store: SqliteTokenStore, clock: FakeClock) -> None:
    info, text = store.create("sh1", "ana", frozenset({"train", "predict"}), 60)
    kind, token_id, secret = text.split("_", 2)
    assert (kind, token_id, len(secret)) == ("kp", info.id, 43)
    principal = store.authenticate(text)
    assert principal == Principal("ana", frozenset({"train", "predict"}), info.id, clock.at + 60)
    assert principal.can("train")
    assert not principal.can("deploy")


def test_only_the_hash_is_kept_and_the_file_is_private(store: SqliteTokenStore) -> None:
    _, text = store.create("sh1", "ana", frozenset({"train"}), 0)
    for file in store.path.parent.glob("tokens.sqlite*"):
        assert text.split("_", 2)[2].encode() not in file.read_bytes()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1] + ("A" if text[-1] != "A" else "B"),
        lambda text: text + "x",
        lambda text: text[:-1],
        lambda text: text.replace("kp_", "kpx_"),
        lambda text: text.upper(),
        lambda text: "kp_" + "a" * 12 + "_" + text.split("_", 2)[2],
        lambda text: "",
        lambda text: "kp__",
        lambda text: "kp_é_x",
        lambda text: "x" * 100_000,
        lambda text: "kpu_",
        lambda text: "kpu_abc",
        lambda text: "kpu_abc.def",
        lambda text: "kpu_!!.!!",
        lambda text: "kpu_e30.e30",
    ],
)
def test_anything_else_is_refused(store: SqliteTokenStore, change: object) -> None:
    _, text = store.create("sh1", "ana", frozenset({"train"}), 0)
    with pytest.raises(Unauthenticated, match="not known"):
        store.authenticate(change(text))  # type: ignore[operator]


def test_an_expired_token_is_refused(store: SqliteTokenStore, clock: FakeClock) -> None:
    _, text = store.create("sh1", "ana", frozenset({"train"}), 60)
    clock.advance(59.9)
    store.authenticate(text)
    clock.advance(0.1)
    with pytest.raises(Unauthenticated, match="expired"):
        store.authenticate(text)


def test_a_revoked_token_is_refused_by_every_opener(
    store: SqliteTokenStore, secrets: InMemorySecretStore, clock: FakeClock
) -> None:
    info, text = store.create("sh1", "ana", frozenset({"train"}), 0)
    other = SqliteTokenStore(store.path, secrets, clock)
    assert other.authenticate(text).user == "ana"
    assert store.revoke(info.id).revoked
    with pytest.raises(Unauthenticated, match="revoked"):
        other.authenticate(text)
    other.close()
    assert store.revoke(info.id).revoked  # can be repeated
    assert [entry.revoked for entry in store.list()] == [True]


def test_two_tokens_of_one_name_live_side_by_side(store: SqliteTokenStore) -> None:
    (first, old), (_, new) = (store.create("sh1", "ana", frozenset({"train"}), 0) for _ in range(2))
    store.revoke(first.id)
    assert store.authenticate(new).user == "ana"
    with pytest.raises(Unauthenticated):
        store.authenticate(old)


def test_revoking_what_is_not_there_names_the_nearest(store: SqliteTokenStore) -> None:
    with pytest.raises(NotFound, match="kepler token create"):
        store.revoke("abc")
    info, _ = store.create("sh1", "ana", frozenset({"train"}), 0)
    with pytest.raises(NotFound, match=info.id):
        store.revoke(info.id[:-1])


@pytest.mark.parametrize(
    ("name", "user", "can", "ttl_s", "said"),
    [
        ("", "ana", {"train"}, 0, "Token name"),
        ("x", "a\nb", {"train"}, 0, "User"),
        ("x", " ana", {"train"}, 0, "User"),
        ("x", "a" * 201, {"train"}, 0, "User"),
        ("x", "ana", set(), 0, "needs a capability"),
        ("x", "ana", {"trian"}, 0, "Did you mean train"),
        ("x", "ana", {"train"}, -1, "negative"),
        ("x", "ana", {"train"}, float("nan"), "negative"),
        ("x", "ana", {"train"}, float("inf"), "negative"),
    ],
)
def test_bad_tokens_are_not_made(
    store: SqliteTokenStore, name: str, user: str, can: set[str], ttl_s: float, said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        store.create(name, user, frozenset(can), ttl_s)
    assert store.list() == []


def test_last_used_is_kept_to_a_minute(store: SqliteTokenStore, clock: FakeClock) -> None:
    info, text = store.create("sh1", "ana", frozenset({"train"}), 0)
    assert store.last_used() == {info.id: 0.0}
    store.authenticate(text)
    first = clock.at
    clock.advance(LAST_USED_STEP_S - 1)
    store.authenticate(text)
    assert store.last_used() == {info.id: first}
    clock.advance(1)
    store.authenticate(text)
    assert store.last_used() == {info.id: clock.at}


def test_a_locked_store_still_knows_its_tokens(store: SqliteTokenStore) -> None:
    info, text = store.create("sh1", "ana", frozenset({"train"}), 0)
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert store.authenticate(text).user == "ana"
    other.execute("ROLLBACK")
    other.close()
    assert store.last_used() == {info.id: 0.0}


def test_a_user_token_is_bounded_by_its_parent(store: SqliteTokenStore, clock: FakeClock) -> None:
    parent, _ = parent_of(store, "train", "issue")
    issued, text = store.issue(parent, "bob", frozenset({"train", "predict"}), 60)
    assert issued.user == "bob"
    assert issued.capabilities == {"train"}
    assert issued.expires_at == clock.at + 60
    assert store.authenticate(text) == issued
    assert len(text) < 400
    clock.advance(60)
    with pytest.raises(Unauthenticated, match="expired"):
        store.authenticate(text)


def test_nobody_is_issued_the_right_to_issue(store: SqliteTokenStore) -> None:
    parent, _ = parent_of(store, "admin")
    issued, text = store.issue(parent, "bob", ALL, 60)
    assert issued.capabilities == ALL - {"issue"}
    with pytest.raises(Denied, match="cannot issue"):
        store.issue(store.authenticate(text), "eve", frozenset({"train"}), 60)


def test_zero_means_ten_minutes_and_never_beyond_the_parent(
    store: SqliteTokenStore, clock: FakeClock
) -> None:
    lasting, _ = parent_of(store, "train", "issue")
    assert store.issue(lasting, "bob", frozenset({"train"}), 0)[0].expires_at == clock.at + 600
    brief, _ = parent_of(store, "train", "issue", ttl_s=30)
    assert store.issue(brief, "bob", frozenset({"train"}), 0)[0].expires_at == clock.at + 30


@pytest.mark.parametrize("ttl_s", [-1, 600.1, float("nan")])
def test_user_tokens_are_short(store: SqliteTokenStore, ttl_s: float) -> None:
    parent, _ = parent_of(store, "train", "issue")
    with pytest.raises(InvalidInput, match="lives 1 to 600"):
        store.issue(parent, "bob", frozenset({"train"}), ttl_s)


def test_issuing_needs_the_capability_and_something_in_common(store: SqliteTokenStore) -> None:
    without, _ = parent_of(store, "train")
    with pytest.raises(Denied, match="may not issue"):
        store.issue(without, "bob", frozenset({"train"}), 60)
    # What the store says counts, not what a caller claims.
    with pytest.raises(Denied, match="may not issue"):
        store.issue(replace(without, capabilities=ALL), "bob", frozenset({"train"}), 60)
    parent, _ = parent_of(store, "train", "issue")
    for asked in ({"deploy"}, {"issue"}, set[str]()):
        with pytest.raises(Denied, match="none of the capabilities"):
            store.issue(parent, "bob", frozenset(asked), 60)
    with pytest.raises(InvalidInput, match="no capability"):
        store.issue(parent, "bob", frozenset({"fly"}), 60)
    with pytest.raises(InvalidInput, match="no token"):
        store.issue(Principal("", ALL), "bob", frozenset({"train"}), 60)


def test_a_user_token_dies_with_its_parent(store: SqliteTokenStore, clock: FakeClock) -> None:
    parent, _ = parent_of(store, "train", "issue", ttl_s=60)
    _, revoked = store.issue(parent, "bob", frozenset({"train"}), 0)
    store.revoke(parent.token_id)
    with pytest.raises(Unauthenticated, match="revoked"):
        store.authenticate(revoked)
    with pytest.raises(Unauthenticated, match="revoked"):
        store.issue(parent, "bob", frozenset({"train"}), 60)


def test_claims_cannot_be_changed(store: SqliteTokenStore) -> None:
    parent, _ = parent_of(store, "train", "admin")
    _, text = store.issue(parent, "bob", frozenset({"train"}), 60)
    body, signature = text[4:].split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    claims["c"] = ["admin"]
    forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    with pytest.raises(Unauthenticated, match="not known"):
        store.authenticate(f"kpu_{forged}.{signature}")


def test_another_home_knows_none_of_them(store: SqliteTokenStore, tmp_path: Path, clock: FakeClock) -> None:
    parent, text = parent_of(store, "train", "issue")
    _, user_text = store.issue(parent, "bob", frozenset({"train"}), 60)
    other = SqliteTokenStore(tmp_path / "b" / "tokens.sqlite", InMemorySecretStore(), clock)
    for token in (text, user_text):
        with pytest.raises(Unauthenticated, match="not known"):
            other.authenticate(token)
    other.close()


def test_signed_for_a_parent_that_is_gone(
    store: SqliteTokenStore, secrets: InMemorySecretStore, tmp_path: Path, clock: FakeClock
) -> None:
    parent, _ = parent_of(store, "train", "issue")
    issued, text = store.issue(parent, "bob", frozenset({"train"}), 60)
    emptied = SqliteTokenStore(tmp_path / "b" / "tokens.sqlite", secrets, clock)
    with pytest.raises(Unauthenticated, match="not known"):
        emptied.authenticate(text)
    with pytest.raises(Unauthenticated, match="not known"):
        emptied.recheck(issued)
    emptied.close()


def test_recheck_ends_long_streams(store: SqliteTokenStore, clock: FakeClock) -> None:
    parent, _ = parent_of(store, "train", "issue")
    issued, _ = store.issue(parent, "bob", frozenset({"train"}), 60)
    for principal in (parent, issued, Principal("", ALL)):
        store.recheck(principal)
    clock.advance(600)
    store.recheck(issued)  # its stream was opened in time and goes on
    store.revoke(parent.token_id)
    for principal in (parent, issued):
        with pytest.raises(Unauthenticated, match="revoked"):
            store.recheck(principal)


def test_a_broken_store_is_said(tmp_path: Path, secrets: InMemorySecretStore, clock: FakeClock) -> None:
    path = tmp_path / "tokens.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(Unavailable, match="does not answer"):
        SqliteTokenStore(path, secrets, clock)
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(Unavailable):
        SqliteTokenStore(folder, secrets, clock)
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable):
        SqliteTokenStore(tmp_path / "file" / "tokens.sqlite", secrets, clock)
