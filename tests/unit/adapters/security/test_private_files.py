"""Private files: whole, owned, and clear when the disk refuses."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from kepler.adapters.security.private_files import disk_error, private_folder, read_private, write_private
from kepler.core.errors import Denied, NotFound, Overloaded, Unavailable


def test_written_files_and_folders_are_the_owners(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    write_private(path, b"one")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert read_private(path) == b"one"


def test_a_draft_left_by_a_crash_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    draft = tmp_path / f".file.{os.getpid()}.draft"
    draft.write_bytes(b"much longer than the new content")
    draft.chmod(0o666)
    write_private(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_what_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    path.chmod(0o640)
    with pytest.raises(Denied, match="640"):
        read_private(path)


def test_missing_and_unreadable_files_are_said(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_private(tmp_path / "none")
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o700)
    with pytest.raises(Unavailable):
        read_private(folder)
    with pytest.raises(Unavailable):
        write_private(folder, b"x")
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable):
        private_folder(tmp_path / "file" / "under")
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "file"}


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, Overloaded), (errno.EDQUOT, Overloaded), (errno.EACCES, Unavailable)]
)
def test_a_full_disk_is_worth_a_retry(number: int, kind: type[Exception]) -> None:
    error = disk_error(OSError(number, os.strerror(number)), Path("/x/y"))
    assert isinstance(error, kind)
    assert error.fix
