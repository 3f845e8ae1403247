"""Files only their owner may read, replaced whole, and a lock between processes."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kepler.core.errors import Denied, KeplerError, NotFound, Overloaded, Unavailable

OWNER_ONLY = 0o600
OTHERS = stat.S_IRWXG | stat.S_IRWXO


def private_folder(folder: Path) -> Path:
    """Make ``folder`` with mode 0700 where it is missing; an existing one keeps its mode."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(error, folder) from error
    return folder


def write_private(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data`` at once: readers see the old or the new file, also after a power cut."""
    private_folder(path.parent)
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, OWNER_ONLY)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, OWNER_ONLY)  # a draft left by a crash may have another mode
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        draft.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise disk_error(error, path) from error


def read_private(path: Path) -> bytes:
    """The bytes of ``path``; refuses a file that others may read, as ssh does with its keys."""
    try:
        mode = path.stat().st_mode
        if mode & OTHERS:
            raise Denied(
                f"{path} may be read or changed by others",
                cause=f"Its mode is {stat.S_IMODE(mode):o}.",
                fix=f"Run: chmod 600 {path}",
            )
        return path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"{path} does not exist") from error
    except OSError as error:
        raise disk_error(error, path) from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file ``path`` against other processes and threads; waits for it."""
    private_folder(path.parent)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNER_ONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # closing lets go of the lock


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def disk_error(error: OSError, path: Path) -> KeplerError:
    """``error`` as one of ours."""
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Overloaded(
            f"The disk of {path.parent} is full", fix="Make room, then try again.", retry_after_s=30.0
        )
    return Unavailable(
        f"{path} cannot be read or written",
        cause=error.strerror or str(error),
        fix="Check its owner and mode.",
    )
