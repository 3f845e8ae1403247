"""Small files: whole or not there, numbers that only rise."""

from __future__ import annotations

from pathlib import Path

import pytest

from kepler_edge.durable import Durable, write_atomically


def test_values_outlive_the_process(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    first = Durable(path)
    assert [first.rise("bd"), first.rise("bd")] == [1, 2]
    first.put(rev=7)
    again = Durable(path)
    assert (again.number("bd"), again.number("rev"), again.get("other")) == (2, 7, None)
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_a_broken_file_is_set_aside(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(content)
    found = Durable(path)
    assert found.lost
    assert found.rise("bd") == 1
    assert (tmp_path / "state.corrupt").read_bytes() == content


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kepler_edge.durable.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
