"""CSV files are read as bytes, gzip or not, and say what is wrong with them."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from kepler.core.errors import InvalidInput, NotFound
from kepler.sources.csv_file import CsvFile


def test_a_file_and_its_gzip_give_the_same(tmp_path: Path) -> None:
    text = b'\xef\xbb\xbfa,"b\nc"\r\n1,x\r\n2,"y\r\nz"\r\n'
    (tmp_path / "f.csv").write_bytes(text)
    (tmp_path / "g.csv").write_bytes(gzip.compress(text))
    for name in ("f.csv", "g.csv"):
        source = CsvFile(tmp_path / name)
        assert source.columns == ("a", "b\nc")
        assert list(source.slices()) == [b'1,x\r\n2,"y\r\nz"\r\n']
        assert list(source.slices()) == [b'1,x\r\n2,"y\r\nz"\r\n']
        assert source.size_bytes > 0
    assert "f.csv" in repr(CsvFile(tmp_path / "f.csv"))


def test_a_big_file_loses_nothing(tmp_path: Path) -> None:
    body = b"".join(b'%d,"line\nbreak"\n' % n for n in range(150_000))
    (tmp_path / "f.csv").write_bytes(b"a,b\n" + body)
    parts = list(CsvFile(tmp_path / "f.csv").slices())
    assert len(parts) > 1
    assert b"".join(parts) == body


def test_a_header_alone_has_no_slices(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_bytes(b"a,b")
    assert CsvFile(tmp_path / "f.csv").columns == ("a", "b")
    assert list(CsvFile(tmp_path / "f.csv").slices()) == []


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="There is no file"):
        _ = CsvFile(tmp_path / "none.csv").columns
    with pytest.raises(InvalidInput, match="cannot be read"):
        _ = CsvFile(tmp_path).columns
    (tmp_path / "empty.csv").write_bytes(b"")
    with pytest.raises(InvalidInput, match="has no header"):
        list(CsvFile(tmp_path / "empty.csv").slices())


@pytest.mark.parametrize("share", [0.0001, 0.1, 0.9])
def test_a_damaged_gzip_is_said(tmp_path: Path, share: float) -> None:
    import random

    text = b"a,b\n" + b"".join(b"%f,1\n" % random.Random(n).random() for n in range(50_000))
    whole = gzip.compress(text)
    (tmp_path / "g.csv.gz").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InvalidInput, match="damaged gzip"):
        list(CsvFile(tmp_path / "g.csv.gz").slices())
