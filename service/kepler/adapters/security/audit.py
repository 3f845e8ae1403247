"""The audit log: one JSON object per line, each bound to the one before by a keyed hash.

Beside the log stands ``head.json`` with the last record's number, hash and end in the file, under a keyed
hash of its own: without it, cutting off the last records could not be told from a log that ended there.
Who can write the files but cannot open the secret store can therefore change nothing unseen. Putting back
an old copy of both files can only be seen against a copy elsewhere.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kepler.adapters.security.private_files import disk_error, locked, private_folder, write_private
from kepler.core.errors import Conflict, InvalidInput
from kepler.ports.clock import Clock
from kepler.ports.security import SecretStore

KEY_NAME = "kepler.audit-key"
STARTED_NAME = "kepler.audit-started"  # says that there must be a head
NO_HASH = "0" * 64
MAX_RECORD_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Head:
    """Where the log ends: the last record's number and hash, and the file's size after it."""

    seq: int
    hash: str
    size: int


class HashChainAuditLog:
    """`AuditLog` in ``<folder>/audit.jsonl``; safe for several threads and processes.

    A record is on disk when `append` returns. What a crash left half-written was never acknowledged; the
    next `append` removes it and says so in a record of its own.
    """

    def __init__(self, folder: Path, secret_store: SecretStore, clock: Clock) -> None:
        self.path = folder / "audit.jsonl"
        self.head_path = folder / "head.json"
        self._lock_path = folder / ".lock"
        self._secrets = secret_store
        self._clock = clock
        self._thread_lock = threading.Lock()
        self._key = bytes.fromhex(secret_store.setdefault(KEY_NAME, secrets.token_hex(32)))
        self._started = False

    def append(
        self, *, who: str, action: str, what: str, outcome: str, detail: dict[str, str] | None = None
    ) -> None:
        body = {"who": who, "action": action, "what": what, "outcome": outcome, "detail": detail or {}}
        if len(json.dumps(body)) > MAX_RECORD_BYTES:
            raise InvalidInput(f"An audit record of {action} is too long", fix="Put less into its detail.")
        with self._thread_lock, locked(self._lock_path):
            try:
                self._append(body)
            except OSError as error:
                raise disk_error(error, self.path) from error

    def verify(self) -> int:
        """Number of records; raises `Conflict` naming the first that was changed, removed or moved."""
        with self._thread_lock, locked(self._lock_path):
            head = self._read_head()
            end = self.path.stat().st_size if self.path.exists() else 0
        # Without the lock from here: what is written already does not change, and a long log takes a while.
        seq, hash_, size, found_head = 0, NO_HASH, 0, head.seq == 0
        for line in self._lines(end):
            if not line.endswith(b"\n") and size >= head.size:
                break  # a crash in mid-write: never acknowledged
            record = self._checked(line, seq + 1, hash_)
            seq, hash_, size = seq + 1, str(record["hash"]), size + len(line)
            found_head = found_head or (seq == head.seq and hmac.compare_digest(hash_, head.hash))
        if not found_head:
            raise self._broken(min(seq, head.seq) + 1, f"is missing: the log had {head.seq} records")
        return seq

    def _lines(self, end: int) -> Iterator[bytes]:
        """The lines of the log up to byte ``end``, which may cut the last one."""
        if end == 0:
            return
        with self.path.open("rb") as file:
            while (here := file.tell()) < end:
                yield file.readline(end - here)

    # The steps below run under the lock.

    def _append(self, body: dict[str, Any]) -> None:
        private_folder(self.path.parent)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            head = self._recovered(descriptor, self._last_head())
            head = self._write(descriptor, head, body)
        finally:
            os.close(descriptor)
        self._save_head(head)
        if not self._started:
            self._secrets.setdefault(STARTED_NAME, "yes")
            self._started = True

    def _write(self, descriptor: int, head: Head, body: dict[str, Any]) -> Head:
        now = self._clock.now()
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
        record = {"seq": head.seq + 1, "at": at, **body, "prev": head.hash}
        record["hash"] = self._hash(record)
        line = json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        end = os.fstat(descriptor).st_size
        try:
            view = memoryview(line)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, end)  # on a full disk half a line may stand there
            raise
        return Head(head.seq + 1, str(record["hash"]), end + len(line))

    def _recovered(self, descriptor: int, head: Head) -> Head:
        """The head after records that a crash kept from it, and without a half-written one."""
        size = os.fstat(descriptor).st_size
        if size <= head.size:
            return head  # a shorter file was cut from outside: go on, `verify` tells
        rest = os.pread(descriptor, size - head.size, head.size)
        for line in rest.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                os.ftruncate(descriptor, size - len(line))
                detail = {"bytes": str(len(line))}
                cause = {
                    "who": "kepler",
                    "action": "audit.repair",
                    "what": "half-written record",
                    "outcome": "removed",
                }
                return self._write(descriptor, head, {**cause, "detail": detail})
            try:
                record = self._checked(line, head.seq + 1, head.hash)
            except Conflict:
                return Head(head.seq, head.hash, size)  # not ours: leave it for `verify` to tell
            head = Head(head.seq + 1, str(record["hash"]), head.size + len(line))
        return head

    def _checked(self, line: bytes, seq: int, prev: str) -> dict[str, Any]:
        """The record in ``line`` if it is number ``seq`` and follows ``prev``, else `Conflict`."""
        try:
            record = json.loads(line)
            given = str(record["hash"])
            body = {key: value for key, value in record.items() if key != "hash"}
            right = hmac.compare_digest(given.encode(), self._hash(body).encode())
            # The bytes too: what reads as the same JSON is still a changed file.
            same = json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n" == line
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._broken(seq, "is not a record") from error
        if not right or not same:
            raise self._broken(seq, "was changed")
        if record["seq"] != seq:
            raise self._broken(seq, f"is missing: number {record['seq']} stands in its place")
        if record["prev"] != prev:
            raise self._broken(seq, "does not follow the one before it")
        return record

    def _hash(self, body: dict[str, Any]) -> str:
        canonical = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
        return hmac.new(self._key, canonical, hashlib.sha256).hexdigest()

    def _last_head(self) -> Head:
        """The head to go on from: where it was tampered with, from its file's end under a broken chain."""
        try:
            return self._read_head()
        except Conflict:
            size = self.path.stat().st_size
            return Head(0, "broken", size)

    def _read_head(self) -> Head:
        try:
            value = json.loads(self.head_path.read_bytes())
            head = Head(int(value["seq"]), str(value["hash"]), int(value["size"]))
            right = hmac.compare_digest(str(value["mac"]).encode(), self._head_mac(head).encode())
        except FileNotFoundError:
            if STARTED_NAME not in self._secrets.names():
                return Head(0, NO_HASH, 0)
            raise self._broken(1, f"cannot be trusted: {self.head_path.name} is missing") from None
        except (ValueError, KeyError, TypeError) as error:
            raise self._broken(1, f"cannot be trusted: {self.head_path.name} is damaged") from error
        if not right:
            raise self._broken(1, f"cannot be trusted: {self.head_path.name} was changed")
        return head

    def _save_head(self, head: Head) -> None:
        write_private(self.head_path, json.dumps({**asdict(head), "mac": self._head_mac(head)}).encode())

    def _head_mac(self, head: Head) -> str:
        return self._hash({"head": head.seq, "hash": head.hash, "size": head.size})

    def _broken(self, seq: int, how: str) -> Conflict:
        return Conflict(
            f"Audit record {seq} {how}",
            cause=f"{self.path} was changed outside Kepler.",
            fix="Keep the file as evidence and compare it with the audit events in Splunk.",
        )
