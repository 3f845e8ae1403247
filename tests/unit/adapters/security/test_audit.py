"""The audit log: durable, chained, repaired after a crash and never silently."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes.clock import FakeClock
from fakes.secret_store import InMemorySecretStore
from kepler.adapters.security.audit import HashChainAuditLog
from kepler.core.errors import Conflict, InvalidInput, Overloaded


@pytest.fixture
def secrets() -> InMemorySecretStore:
    return InMemorySecretStore()


@pytest.fixture
def log(tmp_path: Path, secrets: InMemorySecretStore) -> HashChainAuditLog:
    return HashChainAuditLog(tmp_path / "audit", secrets, FakeClock())


def fill(log: HashChainAuditLog, count: int) -> None:
    for number in range(count):
        log.append(who="ana", action="model.delete", what=f"app.search/m{number}", outcome="ok")


def lines(log: HashChainAuditLog) -> list[bytes]:
    return log.path.read_bytes().splitlines(keepends=True)


def test_an_empty_log_is_whole(log: HashChainAuditLog) -> None:
    assert log.verify() == 0


def test_records_say_who_did_what_when(log: HashChainAuditLog) -> None:
    log.append(who="ana", action="token.create", what="abc", outcome="ok", detail={"can": "train"})
    log.append(who="\udc80é", action="x", what="y", outcome="denied")
    first, second = (json.loads(line) for line in lines(log))
    assert first["at"] == "2027-01-15T08:00:00.000Z"
    assert (first["seq"], first["who"], first["action"], first["what"]) == (1, "ana", "token.create", "abc")
    assert first["detail"] == {"can": "train"}
    assert second["prev"] == first["hash"]
    assert log.verify() == 2
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600


def test_two_openers_write_one_chain(log: HashChainAuditLog, secrets: InMemorySecretStore) -> None:
    other = HashChainAuditLog(log.path.parent, secrets, FakeClock())
    for _ in range(3):
        fill(log, 1)
        fill(other, 1)
    assert log.verify() == other.verify() == 6


def _edit(log: HashChainAuditLog) -> None:
    log.path.write_bytes(log.path.read_bytes().replace(b"app.search/m2", b"app.search/m9"))


def _drop(which: int) -> Callable[[HashChainAuditLog], None]:
    def change(log: HashChainAuditLog) -> None:
        kept = lines(log)
        del kept[which]
        log.path.write_bytes(b"".join(kept))

    return change


def _swap(log: HashChainAuditLog) -> None:
    kept = lines(log)
    kept[1], kept[2] = kept[2], kept[1]
    log.path.write_bytes(b"".join(kept))


def _same_json(log: HashChainAuditLog) -> None:
    kept = lines(log)
    kept[2] = kept[2].replace(b'", "', b'",  "', 1)
    log.path.write_bytes(b"".join(kept))


def _garbage(log: HashChainAuditLog) -> None:
    with log.path.open("ab") as file:
        file.write(b"[]\n")


def _repeat(log: HashChainAuditLog) -> None:
    with log.path.open("ab") as file:
        file.write(lines(log)[-1])


def _cut(count: int) -> Callable[[HashChainAuditLog], None]:
    return lambda log: os.truncate(log.path, log.path.stat().st_size - count)


def _head(text: str) -> Callable[[HashChainAuditLog], None]:
    return lambda log: log.head_path.write_text(text) and None


def _cut_with_head(log: HashChainAuditLog) -> None:
    """Cut off the end and write a head for what is left, as somebody without the key can."""
    kept = lines(log)[:2]
    log.path.write_bytes(b"".join(kept))
    head = json.loads(log.head_path.read_text())
    head.update(seq=2, hash=json.loads(kept[-1])["hash"], size=log.path.stat().st_size)
    log.head_path.write_text(json.dumps(head))


TAMPERINGS: dict[str, tuple[Callable[[HashChainAuditLog], object], str]] = {
    "edited": (_edit, "record 3 was changed"),
    "same JSON in other bytes": (_same_json, "record 3 was changed"),
    "first dropped": (_drop(0), "record 1 is missing"),
    "third dropped": (_drop(2), "record 3 is missing"),
    "last dropped": (_drop(-1), "record 4 is missing"),
    "swapped": (_swap, "record 2 is missing"),
    "garbage added": (_garbage, "record 5 is not a record"),
    "last repeated": (_repeat, "record 5 is missing: number 4"),
    "last byte cut": (_cut(1), "record 4"),
    "half of the last cut": (_cut(100), "record 4"),
    "emptied": (lambda log: log.path.write_bytes(b""), "record 1 is missing"),
    "log removed": (lambda log: log.path.unlink(), "record 1 is missing"),
    "head removed": (lambda log: log.head_path.unlink(), "head.json is missing"),
    "both removed": (lambda log: (log.path.unlink(), log.head_path.unlink()), "head.json is missing"),
    "head damaged": (_head("{"), "head.json is damaged"),
    "head without fields": (_head("{}"), "head.json is damaged"),
    "cut, with a head of its own": (_cut_with_head, "head.json was changed"),
}


@pytest.mark.parametrize("what", TAMPERINGS)
def test_every_tampering_is_named_and_stays_named(log: HashChainAuditLog, what: str) -> None:
    fill(log, 4)
    tamper, said = TAMPERINGS[what]
    tamper(log)
    with pytest.raises(Conflict, match=said):
        log.verify()
    # The service goes on and the break remains to be seen.
    fill(log, 2)
    with pytest.raises(Conflict):
        log.verify()


def test_a_record_of_another_key_is_none_of_ours(log: HashChainAuditLog) -> None:
    fill(log, 2)
    stranger = HashChainAuditLog(log.path.parent / "b", InMemorySecretStore(), FakeClock())
    fill(stranger, 3)
    with log.path.open("ab") as file:
        file.write(lines(stranger)[2])
    with pytest.raises(Conflict, match="record 3 was changed"):
        log.verify()


def test_a_chain_that_forks_is_detected(log: HashChainAuditLog, secrets: InMemorySecretStore) -> None:
    fill(log, 2)
    other = HashChainAuditLog(log.path.parent / "b", secrets, FakeClock())
    other.append(who="eve", action="x", what="y", outcome="ok")
    fill(other, 2)
    with log.path.open("ab") as file:
        file.write(lines(other)[2])
    with pytest.raises(Conflict, match="record 3 does not follow"):
        log.verify()


def test_a_half_written_record_is_removed_and_said(log: HashChainAuditLog) -> None:
    fill(log, 2)
    with log.path.open("ab") as file:
        file.write(b'{"seq": 3, "who": "an')
    assert log.verify() == 2  # never acknowledged
    fill(log, 1)
    assert log.verify() == 4
    repair = json.loads(lines(log)[2])
    assert (repair["action"], repair["detail"]) == ("audit.repair", {"bytes": "21"})


def test_records_a_crash_kept_from_the_head_count(log: HashChainAuditLog) -> None:
    fill(log, 1)
    old = log.head_path.read_bytes()
    fill(log, 2)
    log.head_path.write_bytes(old)
    assert log.verify() == 3
    fill(log, 1)
    assert log.verify() == 4


def test_a_crash_in_the_very_first_record_is_no_tampering(
    log: HashChainAuditLog, secrets: InMemorySecretStore, tmp_path: Path
) -> None:
    other = HashChainAuditLog(tmp_path / "other", secrets, FakeClock())
    fill(other, 1)
    secrets.delete("kepler.audit-started")
    log.path.parent.mkdir()
    log.path.write_bytes(lines(other)[0])  # on disk, and then the process was killed
    assert log.verify() == 1
    fill(log, 1)
    assert log.verify() == 2


def test_a_full_disk_fails_the_call_and_leaves_the_log_whole(
    log: HashChainAuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(log, 1)
    real = os.write

    def half(descriptor: int, data: bytes) -> int:
        if len(data) > 100:
            return real(descriptor, bytes(data)[:50])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: half(fd, data) if len(data) != 50 else 50)
        with pytest.raises(Overloaded, match="full"):
            fill(log, 1)
    assert log.verify() == 1
    fill(log, 1)
    assert log.verify() == 2


def test_a_record_has_a_bound(log: HashChainAuditLog) -> None:
    with pytest.raises(InvalidInput, match="too long"):
        log.append(who="ana", action="x", what="y", outcome="ok", detail={"k": "x" * 70_000})
    assert log.verify() == 0
