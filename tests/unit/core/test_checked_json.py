"""JSON from outside."""

import pytest

from kepler.core.checked_json import Section, canonical, parse_object
from kepler.core.errors import InvalidInput


def test_canonical_is_sorted_and_tight():
    assert canonical({"b": [1, "é"], "a": 1.0}) == '{"a":1.0,"b":[1,"é"]}'.encode()
    with pytest.raises(ValueError, match="Out of range"):
        canonical({"a": float("nan")})


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"a": NaN}', "[" * 100_000, "null"])
def test_not_an_object(text):
    with pytest.raises(InvalidInput, match="Thing"):
        parse_object(text, "Thing")


def test_too_large():
    with pytest.raises(InvalidInput, match="larger than 5 characters"):
        parse_object('{"a": 1}', "Thing", max_chars=5)


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (lambda s: s.text("k"), 1),
        (lambda s: s.text("k", max_chars=2), "abc"),
        (lambda s: s.choice("k", ("a",)), "b"),
        (lambda s: s.flag("k"), 1),
        (lambda s: s.integer("k"), True),
        (lambda s: s.integer("k"), -1),
        (lambda s: s.integer("k"), 1.0),
        (lambda s: s.number("k"), "1"),
        (lambda s: s.number("k"), True),
        (lambda s: s.number("k"), float("inf")),
        (lambda s: s.number_or_none("k"), "x"),
        (lambda s: s.text_or_none("k"), 1),
        (lambda s: s.texts("k"), "abc"),
        (lambda s: s.texts("k"), [1]),
        (lambda s: s.numbers("k"), [None]),
        (lambda s: s.rows("k"), [[["x"]]]),
        (lambda s: s.rows("k", max_items=1), [[1, 2]]),
        (lambda s: s.section("k"), []),
        (lambda s: list(s.sections("k")), [1]),
        (lambda s: s.items("k", max_items=1), [1, 2]),
        (lambda s: s.text_map("k"), {"a": 1}),
        (lambda s: s.text_map("k", max_items=1), {"a": "1", "b": "2"}),
        (lambda s: s.number_map("k"), {"a": None}),
        (lambda s: s.scalars("k"), {"a": {"b": 1}}),
        (lambda s: s.scalars("k"), {"a": [[1]]}),
        (lambda s: s.done(), 1),
        (lambda s: s.text("other"), 1),
    ],
)
def test_refusals_name_the_place(read, value):
    with pytest.raises(InvalidInput, match="Thing"):
        read(Section({"k": value}, "Thing"))


def test_what_is_right_passes_and_is_used_up():
    section = Section(
        {
            "t": "x",
            "f": True,
            "i": 3,
            "n": 1,
            "none": None,
            "ts": ["a"],
            "ns": [1, 2.5],
            "rows": [[1, None]],
            "m": {"a": "b"},
            "nm": {"a": 1},
            "s": {"a": [1, "x", None], "b": False},
            "tn": None,
        },
        "Thing",
    )
    assert "t" in section
    assert section.text("t") == "x"
    assert section.flag("f") is True
    assert section.integer("i", high=3) == 3
    assert section.number("n") == 1.0
    assert section.number_or_none("none") is None
    assert section.text_or_none("tn") is None
    assert section.texts("ts") == ("a",)
    assert section.numbers("ns") == (1.0, 2.5)
    assert section.rows("rows") == ((1.0, None),)
    assert section.text_map("m") == {"a": "b"}
    assert section.number_map("nm") == {"a": 1.0}
    assert section.scalars("s") == {"a": [1, "x", None], "b": False}
    assert section.text("t", "default") == "default"
    section.done()
