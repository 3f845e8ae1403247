"""The folders of jobs under the service's home: made private, cleaned when done, bounded in all."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path

from kepler.adapters.jobs.process_worker import folder_bytes
from kepler.core.errors import InvalidInput

_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


class JobFolders:
    """One folder per job in ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def make_root(self) -> None:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, job_id: str) -> Path:
        """Where the job's folder is, there or not. Raises `InvalidInput` for what is no job id."""
        if not _JOB_ID.fullmatch(job_id) or ".." in job_id:
            raise InvalidInput(
                f"Job id {job_id[:120]!r} is not valid",
                cause="It has 1 to 100 letters, digits, '_', '.' or '-' and starts with a letter or digit",
            )
        return self.root / job_id

    def make(self, job_id: str) -> Path:
        folder = self.path(job_id)
        self.make_root()
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def trim(self, job_id: str, keep: tuple[str, ...]) -> None:
        """Remove all but ``keep`` and what is needed to answer for the result; can be repeated."""
        keeping = {*keep, "spec.json", "result.json", "worker.log"}
        folder = self.path(job_id)
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(folder):
                if name not in keeping:
                    _remove(folder / name)

    def remove(self, job_id: str) -> None:
        _remove(self.path(job_id))

    def known(self) -> dict[str, float]:
        """Ids of the folders there are, with the time each was last changed."""
        found: dict[str, float] = {}
        with contextlib.suppress(FileNotFoundError), os.scandir(self.root) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if entry.is_dir(follow_symlinks=False) and _JOB_ID.fullmatch(entry.name):
                        found[entry.name] = _changed_at(Path(entry.path))
        return found

    def size_bytes(self, job_id: str) -> int:
        return folder_bytes(self.path(job_id))


def _changed_at(folder: Path) -> float:
    """Newest change within: a folder's own time stands still while a file in it grows."""
    times = [folder.stat().st_mtime]
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        times += [entry.stat(follow_symlinks=False).st_mtime for entry in entries]
    return max(times)


def write_text(path: Path, text: str) -> None:
    """``text`` under ``path``, on disk in full before it has that name."""
    part = path.with_name(path.name + ".part")
    with open(part, "w", encoding="utf-8", opener=_private) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
