"""No change of the log's bytes goes unseen."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.clock import FakeClock
from fakes.secret_store import InMemorySecretStore
from kepler.adapters.security.audit import HashChainAuditLog
from kepler.core.errors import Conflict

RECORDS = 6


@pytest.fixture(scope="module")
def whole() -> Iterator[tuple[HashChainAuditLog, bytes, bytes]]:
    folder = Path(tempfile.mkdtemp())
    log = HashChainAuditLog(folder / "audit", InMemorySecretStore(), FakeClock())
    for number in range(RECORDS):
        log.append(who=f"ü{number}", action="a", what="b", outcome="ok", detail={"n": str(number)})
    yield log, log.path.read_bytes(), log.head_path.read_bytes()
    shutil.rmtree(folder)


def assert_seen(whole: tuple[HashChainAuditLog, bytes, bytes], changed: bytes) -> None:
    log, original, head = whole
    log.path.write_bytes(changed)
    log.head_path.write_bytes(head)
    if changed == original:
        assert log.verify() == RECORDS
        return
    with pytest.raises(Conflict):
        log.verify()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_one_changed_byte(whole: tuple[HashChainAuditLog, bytes, bytes], data: st.DataObject) -> None:
    original = whole[1]
    at = data.draw(st.integers(0, len(original) - 1))
    value = data.draw(st.integers(0, 255))
    assert_seen(whole, original[:at] + bytes([value]) + original[at + 1 :])


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_removed_stretch(whole: tuple[HashChainAuditLog, bytes, bytes], data: st.DataObject) -> None:
    original = whole[1]
    first = data.draw(st.integers(0, len(original)))
    last = data.draw(st.integers(first, len(original)))
    assert_seen(whole, original[:first] + original[last:])


@settings(max_examples=100, deadline=None)
@given(order=st.lists(st.integers(0, RECORDS - 1), max_size=RECORDS + 2))
def test_any_other_order_or_choice(whole: tuple[HashChainAuditLog, bytes, bytes], order: list[int]) -> None:
    lines = whole[1].splitlines(keepends=True)
    assert_seen(whole, b"".join(lines[number] for number in order))
