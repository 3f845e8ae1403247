"""Which group a row belongs to, and the list of groups."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kepler.core.checked_json import Section
from kepler.core.datasets import WideText, number_column, text_column
from kepler.core.errors import InvalidInput
from kepler.core.group_table import GroupTable, Place
from kepler.core.groups import (
    NO_GROUP,
    UNSEEN_GROUP,
    GroupIndex,
    Groups,
    check_by,
    encode_groups,
    group_name,
    part_of,
    spread_of,
)

CELLS = st.sampled_from(["", "a", "b", "c=d", "10", "9", "é"])


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=40), st.integers(1, 3))
def test_groups_are_those_of_a_dictionary(rows, n_fields):
    rows = [row[:n_fields] for row in rows]
    columns = [text_column([row[at] for row in rows]) for at in range(n_fields)]
    codes, keys = encode_groups(columns)
    expected = sorted({row for row in rows if all(row)})
    assert [tuple(texts[g] for texts in keys) for g in range(len(keys[0]))] == expected
    assert [None if c < 0 else expected[c] for c in codes.tolist()] == [r if all(r) else None for r in rows]


@given(
    st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=20),
    st.lists(st.tuples(CELLS, CELLS), max_size=20),
)
def test_the_index_finds_known_groups_and_no_other(known, asked):
    known = sorted({row for row in known if all(row)}, key=lambda row: row[::-1]) or [("x", "y")]
    index = GroupIndex([[row[0] for row in known], [row[1] for row in known]])
    found = index.find([text_column([row[at] for row in asked]) for at in range(2)])
    for row, group in zip(asked, found.tolist(), strict=True):
        if not all(row):
            assert group == NO_GROUP
        elif row in known:
            assert known[group] == row
        else:
            assert group == UNSEEN_GROUP


def test_a_part_has_the_categories_of_its_rows_only():
    column = text_column(["a", "", "b", "c", "b"])
    part = part_of(column, slice(1, 3))
    assert (part.categories, part.codes.tolist()) == (("b",), [-1, 0])
    assert part_of(column, np.array([3])).categories == ("c",)
    assert part_of(number_column([1.0, 2.0]), slice(1, 2)).values.tolist() == [2.0]
    assert part_of(WideText(np.array([True, False])), slice(0, 1)).missing.tolist() == [True]


def test_an_index_with_a_group_twice_is_refused():
    with pytest.raises(InvalidInput, match="names one twice"):
        GroupIndex([["a", "a"]])


def test_names_spreads_and_limits():
    assert group_name(["host"], ["x" * 100]) == "host=" + "x" * 60
    assert spread_of(np.array([3.0, np.nan, 1.0, 2.0])) == (1.0, 2.0, 3.0)
    assert spread_of(np.array([np.nan])) == ()
    check_by(["a"])
    with pytest.raises(InvalidInput, match="at most 8"):
        check_by(["f"] * 9)


def test_the_manifests_section_is_read_back_and_checked():
    groups = Groups(("host",), 3, 1, 2, (1.0, 2.0, 3.0), "r2", (0.1, 0.2, 0.3))
    assert Groups.from_json(Section(groups.to_json(), "groups")) == groups
    with pytest.raises(InvalidInput, match="different fields"):
        Groups.from_json(Section({**groups.to_json(), "fields": ["a", "a"]}, "groups"))


TABLE = GroupTable(
    ("host", "site"), (("a", "b"), ("n", "n")), (5, 3), "r2", (0.5, None), ("", "too few rows"), (0, -1),
    (Place(), Place(7, 9, "f" * 64)),
)  # fmt: skip


def test_the_list_of_groups_is_read_back_and_shown():
    assert GroupTable.from_bytes(TABLE.to_bytes()) == TABLE
    shown = TABLE.summary(10)
    assert shown.columns == ("host", "site", "rows", "r2", "state", "reason")
    assert shown.rows == (
        ("a", "n", "5", "0.5", "trained", ""),
        ("b", "n", "3", "", "failed", "too few rows"),
    )
    assert len(TABLE.summary(1).rows) == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"rows":[5,3]', b'"rows":[5]'),
        (b'"rows":[5,3]', b'"rows":[5,true]'),
        (b'"slots":[0,-1]', b'"slots":[0,-2]'),
        (b'"figures":[0.5,null]', b'"figures":[0.5,"x"]'),
        (b'"keys":[["a","b"],["n","n"]]', b'"keys":[["a","b"]]'),
        (b'"keys":[["a","b"],["n","n"]]', b'"keys":[["a",1],["n","n"]]'),
        (b"{", b"\xff{"),
        (b'"metric"', b'"other"'),
    ],
)
def test_a_list_that_is_not_exactly_one_is_refused(before, after):
    content = TABLE.to_bytes()
    assert before in content
    with pytest.raises(InvalidInput):
        GroupTable.from_bytes(content.replace(before, after, 1))
