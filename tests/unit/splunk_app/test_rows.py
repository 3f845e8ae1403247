"""Records as bytes: cut, extended, replaced, remapped."""

from __future__ import annotations

import csv
import io

from kepler_app import rows
from kepler_app.rows import Appender, Slice, cut, fragments, quote, read_header, records_of, remapped
from unit.splunk_app.plain import refused


def slices(body: bytes, width: int = 2, size: int = rows.SLICE_BYTES) -> list[Slice]:
    return list(cut(body, 0, width, size))


def cells(body: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(body.decode(), newline="")))


def test_header_of_each_line_end() -> None:
    assert read_header(b'age,"_time","__mv_age"\n1,2,\n') == (["age", "_time", "__mv_age"], 23)
    assert read_header(b'age,"_time"\r\n1,2\r\n') == (["age", "_time"], 13)
    assert read_header(b'"a,b","say ""x"""') == (["a,b", 'say "x"'], 17)
    assert read_header(b"") == ([], 0)
    assert read_header(b"\n")[0] == []
    with refused("header", "not closed"):
        read_header(b'"a')


def test_header_is_written_as_splunk_quotes_it() -> None:
    assert rows.header_line(["age", "_time", 'a"b', "x y"]) == b'age,"_time","a""b","x y"\n'
    assert quote("") == ""
    assert quote("-1") == '"-1"'


def test_small_body_is_one_slice_of_the_same_bytes() -> None:
    [slice_] = slices(b'1,"a"\n2,"b"\n')
    assert slice_.raw == b'1,"a"\n2,"b"\n'
    assert slice_.records == [b'1,"a"', b'2,"b"']


def test_slices_end_at_records() -> None:
    body = b"".join(b'%d,"x"\n' % number for number in range(1000))
    found = slices(body, size=100)
    assert b"".join(slice_.raw for slice_ in found) == body
    assert sum(len(slice_.records) for slice_ in found) == 1000
    assert max(len(slice_.raw) for slice_ in found) <= 100
    assert len(found) > 60


def test_a_record_longer_than_a_slice_stays_whole() -> None:
    body = b"1,2\n" + b"9" * 300 + b",1\n3,4\n"
    assert b"".join(slice_.raw for slice_ in slices(body, size=50)) == body
    assert [len(slice_.records) for slice_ in slices(body, size=50)] == [1, 1, 1]


def test_missing_last_line_end_is_added() -> None:
    assert [slice_.raw for slice_ in slices(b"1,2\n3,4")] == [b"1,2\n3,4\n"]


def test_crlf_becomes_lf() -> None:
    [slice_] = slices(b'1,"a"\r\n2,"b"\r\n')
    assert slice_.raw == b'1,"a"\n2,"b"\n'


def test_line_breaks_inside_quotes_stay() -> None:
    body = b'1,"a\nb"\n2,"c\r\nd"\n3,"e""\n""f"\n'
    for size in (4, 12, 1000):
        found = slices(body, size=size)
        assert [record for slice_ in found for record in slice_.records] == [
            b'1,"a\nb"',
            b'2,"c\r\nd"',
            b'3,"e""\n""f"',
        ]
        assert b"".join(slice_.raw for slice_ in found) == body


def test_crlf_with_line_breaks_inside_quotes() -> None:
    assert records_of(b'1,"a\r\nb"\r\n2,c\r\n') == [b'1,"a\r\nb"', b"2,c"]


def test_quoted_breaks_are_found_after_plain_slices() -> None:
    body = b"1,2\n" * 50 + b'3,"x\ny"\n' + b"4,5\n" * 50
    found = slices(body, size=40)
    assert sum(len(slice_.records) for slice_ in found) == 101
    assert b"".join(slice_.raw for slice_ in found) == body


def test_blank_lines_are_no_records_except_in_one_column() -> None:
    assert [slice_.records for slice_ in slices(b"1,2\n\n3,4\n")] == [[b"1,2", b"3,4"]]
    [slice_] = slices(b"1\n\n3\n", width=1)
    assert slice_.records == [b"1", b'""', b"3"]
    assert slice_.raw == b'1\n""\n3\n'
    assert slices(b"\n\n") == []
    assert slices(b"") == []


def test_an_open_quote_is_refused() -> None:
    with refused("not closed"):
        slices(b'1,"a\n2,b\n')


def test_a_row_that_no_message_holds_is_refused() -> None:
    with refused("too long", "fields - _raw"):
        slices(b"1," + b"9" * rows.MAX_SLICE_BYTES + b"\n")
    with refused("too long"):
        slices(b'1,"\n' + b"9" * rows.MAX_SLICE_BYTES + b'"\n')


def test_fragments_match_the_rows() -> None:
    assert fragments(b"1\n2\n", 2, True) == [b"1", b"2"]
    assert fragments(b"\n\n", 2, True) == [b"", b""]
    assert fragments(b"", 1, True) == [b""]
    assert fragments(b'"a\nb"\n2\n', 2, False) == [b'"a\nb"', b"2"]
    with refused("answered 1 rows for 2"):
        fragments(b"1\n", 2, True)
    with refused("answered 3 rows for 2"):
        fragments(b"1\n2\n3\n", 2, False)


def test_append_adds_columns_at_the_ends() -> None:
    appender = Appender(["a", "__mv_a", "_chunked_idx"], ["predicted(y)", "p"])
    assert appender.header == b'a,"__mv_a","_chunked_idx","predicted(y)",p\n'
    [slice_] = slices(b"1,,0\n2,,1\n", width=3)
    assert appender.append(slice_, [b"x,1", b"y,2"]) == b"1,,0,x,1\n2,,1,y,2\n"


def test_append_replaces_an_earlier_column_and_its_twin() -> None:
    appender = Appender(["a", "p", "b", "__mv_a", "__mv_p", "__mv_b"], ["p"])
    assert appender.header == b'a,b,"__mv_a","__mv_b",p\n'
    [slice_] = slices(b'1,"old, one","x\ny",,,\n2,old,z,,,\n', width=6)
    assert cells(appender.append(slice_, [b"n1", b"n2"])) == [
        ["1", "x\ny", "", "", "n1"],
        ["2", "z", "", "", "n2"],
    ]


def test_append_when_only_the_replaced_column_is_there() -> None:
    appender = Appender(["p"], ["p"])
    [slice_] = slices(b"1\n2\n", width=1)
    assert appender.header == b"p\n"
    assert appender.append(slice_, [b"n1", b"n2"]) == b"n1\nn2\n"
    assert appender.append(Slice(b"", []), []) == b""


def test_append_without_new_columns_gives_the_rows() -> None:
    [slice_] = slices(b"1,2\n")
    assert Appender(["a", "b"], []).append(slice_, [b""]) == b"1,2\n"


def test_append_never_loses_a_row_silently() -> None:
    appender = Appender(["a", "p"], ["p"])
    with refused("stray quote"):
        appender.append(Slice(b'1,"x\n2,y"\n', [b'1,"x', b'2,y"']), [b"1", b"2"])


def test_remapping_follows_names() -> None:
    assert remapped(b'1,"a\nb"\n\n3\n', ["x", "y"], ["y", "z", "x"]) == [b'"a\nb",,1', b",,3"]
    assert remapped(b'1,""\n', ["x", "y"], ["y"]) == [b'""']


def test_bytes_that_are_no_text_pass() -> None:
    body = b'\xff,"\xfe"\n'
    [slice_] = slices(body)
    assert Appender(["a", "b"], ["p"]).append(slice_, [b"1"]) == b'\xff,"\xfe",1\n'
    assert remapped(body, ["a", "b"], ["b", "a"]) == [b'"\xfe","\xff"']


def test_long_cells_are_read_on_the_slow_path() -> None:
    long = b"x" * 300_000
    assert remapped(long + b",1\n", ["a", "b"], ["b", "a"]) == [b"1," + long]


def test_tables() -> None:
    assert rows.table_body(["a", "b c"], [["1", "x,y"], ["", 'q"']]) == b'a,"b c"\n1,"x,y"\n,"q"""\n'
