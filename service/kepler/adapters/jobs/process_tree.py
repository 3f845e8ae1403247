"""Processes of one worker: counting what they use, and ending all of them.

A worker leads its own process group and adopts its orphans (it is a subreaper on Linux), so its
descendants are a tree even when they tried to leave it. Every descendant also carries the worker's token
in its environment, by which leftovers are found after the worker itself is gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

TOKEN_VARIABLE = "KEPLER_WORKER_TOKEN"  # noqa: S105 - the name of a variable, and its value is no secret
_PROC = Path("/proc")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_TICKS_PER_S = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


@dataclass(frozen=True, slots=True)
class TreeUsage:
    """What a process and its descendants use now. ``cpu_s`` includes children that have ended."""

    processes: int
    memory_bytes: int
    cpu_s: float


def descendants(root: int) -> list[int]:
    """``root`` and all below it that live, parents before children."""
    children = _children_from_files if _HAS_CHILDREN_FILES else _ParentTable().children
    found = [root]
    seen = {root}
    for pid in found:
        for child in children(pid):
            if child not in seen:
                seen.add(child)
                found.append(child)
    return found


# Kernels built with CONFIG_PROC_CHILDREN answer with one small file per thread; a look at every process
# of the machine, many times a second, is dear beside that.
_HAS_CHILDREN_FILES = (_PROC / "self" / "task" / str(os.getpid()) / "children").exists()


def _children_from_files(pid: int) -> list[int]:
    tasks = _PROC / str(pid) / "task"
    children: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(tasks):
            with contextlib.suppress(OSError):
                children += map(int, (tasks / thread / "children").read_bytes().split())
    return children


class _ParentTable:
    """Every process with its parent, read once."""

    def __init__(self) -> None:
        self._children: dict[int, list[int]] = {}
        for pid, parent in _parents():
            self._children.setdefault(parent, []).append(pid)

    def children(self, pid: int) -> list[int]:
        return self._children.get(pid, [])


def _parents() -> Iterator[tuple[int, int]]:
    if not _PROC.is_dir():
        for process in psutil.process_iter(["ppid"]):
            yield process.pid, process.info["ppid"] or 0
        return
    for name in os.listdir(_PROC):
        if name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                yield int(name), int(_stat_fields(name)[1])


def _stat_fields(pid: int | str) -> list[bytes]:
    """Fields of ``stat`` from the third on; the second is a name that may hold spaces and parentheses."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()


def measure(pids: list[int], memory_limit_bytes: int = 0) -> TreeUsage:
    """Usage of ``pids``, which `descendants` gave; those that have ended since count nothing.

    Resident sizes count pages shared between forked processes several times. Where their sum passes
    ``memory_limit_bytes`` the dearer proportional sizes are read instead, so that sharing costs nothing.
    """
    resident = 0
    cpu_s = 0.0
    for pid in pids:
        memory_bytes, cpu = _use_of(pid)
        resident += memory_bytes
        cpu_s += cpu
    if len(pids) > 1 and 0 < memory_limit_bytes < resident:
        resident = sum(_proportional_bytes(pid) for pid in pids)
    return TreeUsage(len(pids), resident, cpu_s)


def _use_of(pid: int) -> tuple[int, float]:
    try:
        pages = int((_PROC / str(pid) / "statm").read_bytes().split()[1])
        return pages * _PAGE_BYTES, sum(map(int, _stat_fields(pid)[11:15])) / _TICKS_PER_S
    except (OSError, IndexError, ValueError):
        pass
    if _PROC.is_dir():
        return 0, 0.0  # it ended between the listing and the look
    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
        return process.memory_info().rss, times.user + times.system
    except psutil.Error:
        return 0, 0.0


def _proportional_bytes(pid: int) -> int:
    try:
        for line in (_PROC / str(pid) / "smaps_rollup").read_bytes().splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    except (OSError, IndexError, ValueError):
        pass
    return _use_of(pid)[0]


def kill_tree(leader: int, token: str) -> None:
    """End the group led by ``leader``, its descendants, and whatever else carries ``token``.

    ``leader`` must not have been reaped yet: until then its number cannot belong to anybody else.
    """
    _signal_group(leader, signal.SIGSTOP)  # nothing forks while the tree is listed
    outside = [pid for pid in descendants(leader) if pid != leader and _group_of(pid) != leader]
    for pid in outside:
        _signal(pid, signal.SIGSTOP)
    for pid in descendants(leader):  # with what they forked before they stopped
        if pid != leader:
            _signal(pid, signal.SIGKILL)
    _signal_group(leader, signal.SIGKILL)
    kill_by_token(token)


def kill_by_token(token: str) -> int:
    """End every process whose environment carries ``token``; gives their number."""
    killed = 0
    for _ in range(5):  # one of them may have forked while it was listed
        found = _with_token(token)
        for pid in found:
            _signal(pid, signal.SIGKILL)
        killed += len(found)
        if not found:
            break
    return killed


def _with_token(token: str) -> list[int]:
    mark = f"{TOKEN_VARIABLE}={token}".encode()
    found: list[int] = []
    for name in os.listdir(_PROC) if _PROC.is_dir() else ():
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError):
                if mark in (_PROC / name / "environ").read_bytes().split(b"\0") and not _is_dead(name):
                    found.append(int(name))
    return found


def _is_dead(pid: str) -> bool:
    return _stat_fields(pid)[0] in (b"Z", b"X")


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except OSError:
        return 0


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, number)


def _signal_group(leader: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(leader, number)
