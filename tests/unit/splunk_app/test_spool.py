"""Rows on disk until their predictions come."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kepler_app import spool
from kepler_app.rows import cut
from kepler_app.spool import RowSpool
from unit.splunk_app.plain import refused


def filled(folder: Path | str, *chunks: tuple[list[str], bytes]) -> RowSpool:
    rows = RowSpool(str(folder))
    for columns, body in chunks:
        for slice_ in cut(body, 0, len(columns), 8):
            rows.add(slice_, columns)
    return rows


def joined(rows: RowSpool, new: list[str], parts: list[list[bytes]]) -> bytes:
    body, size = rows.with_columns(new, iter(parts))
    text = b"".join(body)
    assert len(text) == size
    rows.close()
    return text


def test_parts_of_any_size_meet_their_rows(tmp_path: Path) -> None:
    for sizes in ([6], [1] * 6, [2, 3, 1], [5, 1]):
        rows = filled(tmp_path, (["a", "b"], b"".join(b"%d,x\n" % number for number in range(6))))
        cells = iter(b"p%d" % number for number in range(6))
        parts = [[next(cells) for _ in range(size)] for size in sizes]
        expected = b"a,b,p\n" + b"".join(b"%d,x,p%d\n" % (number, number) for number in range(6))
        assert joined(rows, ["p"], parts) == expected


def test_rows_go_back_without_new_columns() -> None:
    rows = filled("", (["a"], b"1\n2\n"))
    assert joined(rows, [], []) == b"a\n1\n2\n"


def test_headers_are_joined_by_name(tmp_path: Path) -> None:
    rows = filled(tmp_path, (["a", "b"], b"1,2\n"), (["b", "c"], b'3,"x\ny"\n'), (["a", "b"], b"5,6\n"))
    assert rows.columns == ["a", "b", "c"]
    assert joined(rows, ["p"], [[b"7", b"8", b"9"]]) == b'a,b,c,p\n1,2,,7\n,3,"x\ny",8\n5,6,,9\n'


def test_an_earlier_prediction_is_replaced(tmp_path: Path) -> None:
    rows = filled(tmp_path, (["p", "a", "__mv_p"], b"old,1,\nold,2,\n"))
    assert joined(rows, ["p"], [[b"7", b"8"]]) == b"a,p\n1,7\n2,8\n"
    alone = filled(tmp_path, (["p"], b"old\n"))
    assert joined(alone, ["p"], [[b"7"]]) == b"p\n7\n"


@pytest.mark.parametrize("parts", [[[b"1"]], [[b"1", b"2", b"3"]], []])
def test_a_wrong_number_of_predictions_is_refused(tmp_path: Path, parts: list[list[bytes]]) -> None:
    rows = filled(tmp_path, (["a"], b"1\n2\n"))
    with refused("of 2 rows", "output=summary"):
        rows.with_columns(["p"], iter(parts))
    rows.close()


class Full:
    """A file on a full disk."""

    def close(self) -> None:
        pass

    def __getattr__(self, _name: str) -> Any:
        def fail(*_: object) -> None:
            raise OSError(28, "No space left on device")

        return fail


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = filled(tmp_path, (["a"], b"1\n"))
    monkeypatch.setattr(spool, "_temporary", lambda _folder: Full())
    with refused("No space left", "output=summary"):
        rows.with_columns(["p"], iter([[b"1"]]))
    rows.close()
    full = RowSpool(str(tmp_path))

    def slices() -> Iterator[Any]:
        return cut(b"1\n", 0, 1)

    with refused("No space left"):
        for slice_ in slices():
            full.add(slice_, ["a"])
