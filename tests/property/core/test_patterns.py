"""The linear matcher answers like a regular expression does."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from kepler.core.patterns import matches

NAMES = st.text(alphabet="ab_\n.", max_size=12)


@given(st.text(alphabet="ab_*.", max_size=8), NAMES)
def test_like_a_regular_expression(pattern, name):
    expression = re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.DOTALL)
    assert matches(pattern, name) == bool(expression.fullmatch(name))


def test_many_stars_take_no_time():
    assert not matches("*a" * 200 + "*b", "a" * 5_000)
