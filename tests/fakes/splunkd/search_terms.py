"""The language of `search`: field comparisons, bare terms, AND, OR, NOT, parentheses and IN.

Field values are compared without regard to case and `*` matches anything (Splunk Search Manual, "Use the search
command").
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from .errors import OutsideTheStandIn, SplSyntaxError

Row = Callable[[str], str]
Test = Callable[[Row], bool]

_TOKEN = re.compile(
    r"""\s*(?:(?P<open>\()|(?P<close>\))|(?P<comma>,)
    |(?P<op>!=|<=|>=|=|<|>)
    |(?P<string>"(?:[^"\\]|\\.)*")
    |(?P<word>[^\s()=<>!,"]+(?:!(?!=)[^\s()=<>!,"]*)*))""",
    re.VERBOSE,
)


@dataclass
class Terms:
    """A parsed search: `test` a row, and the plain comparisons with `=` that stand at its top level."""

    test: Test
    equals: dict[str, str] = field(default_factory=dict)
    fields: set[str] = field(default_factory=set)


def parse_terms(text: str) -> Terms:
    tokens: list[tuple[str, str]] = []
    position, stripped = 0, text.rstrip()
    while position < len(stripped):
        match = _TOKEN.match(stripped, position)
        if match is None or match.lastgroup is None:
            raise SplSyntaxError(f"Error in 'search' command: Unable to parse the search: '{text.strip()}'.")
        tokens.append((match.lastgroup, match[match.lastgroup]))
        position = match.end()
    parser = _Parser(tokens, text)
    test = parser.whole()
    return Terms(test, parser.equals, parser.fields)


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]], text: str) -> None:
        self._tokens, self._text, self._i, self._depth = tokens, text, 0, 0
        self._is_plain = not any(t == ("word", "OR") or t == ("word", "NOT") for t in tokens)
        self.equals: dict[str, str] = {}
        self.fields: set[str] = set()

    def _peek(self, ahead: int = 0) -> tuple[str, str]:
        i = self._i + ahead
        return self._tokens[i] if i < len(self._tokens) else ("end", "")

    def _error(self) -> SplSyntaxError:
        return SplSyntaxError(
            f"Error in 'search' command: Unable to parse the search: '{self._text.strip()}'."
        )

    def whole(self) -> Test:
        if not self._tokens:
            return lambda _: True
        test = self._or()
        if self._peek()[0] != "end":
            raise self._error()
        return test

    def _or(self) -> Test:
        # In `search`, OR binds tighter than AND (Search Manual, "Boolean expressions").
        tests = [self._group()]
        while self._peek()[0] not in ("end", "close"):
            if self._peek() == ("word", "AND"):
                self._i += 1
            tests.append(self._group())
        return lambda row: all(test(row) for test in tests)

    def _group(self) -> Test:
        tests = [self._not()]
        while self._peek() == ("word", "OR"):
            self._i += 1
            tests.append(self._not())
        return tests[0] if len(tests) == 1 else lambda row: any(test(row) for test in tests)

    def _not(self) -> Test:
        if self._peek() == ("word", "NOT"):
            self._i += 1
            inner = self._not()
            return lambda row: not inner(row)
        return self._atom()

    def _atom(self) -> Test:
        kind, value = self._peek()
        self._i += 1
        if kind == "open":
            test = self._or()
            if self._peek()[0] != "close":
                raise self._error()
            self._i += 1
            return test
        if kind not in ("word", "string"):
            raise self._error()
        name = _unquote(value)
        if self._peek()[0] == "op":
            op = self._peek()[1]
            self._i += 1
            kind, raw = self._peek()
            if kind not in ("word", "string"):
                raise self._error()
            self._i += 1
            wanted = _unquote(raw)
            if op == "=" and self._is_plain:
                self.equals[name] = wanted
            self.fields.add(name)
            return _comparison(name, op, wanted)
        if self._peek() == ("word", "IN") and self._peek(1)[0] == "open":
            self._i += 2
            self.fields.add(name)
            return self._in(name)
        if value.startswith("["):
            raise OutsideTheStandIn("subsearches in 'search'")
        return _bare(name)

    def _in(self, name: str) -> Test:
        tests: list[Test] = []
        while True:
            kind, value = self._peek()
            self._i += 1
            if kind == "close":
                return lambda row: any(test(row) for test in tests)
            if kind in ("word", "string"):
                tests.append(_comparison(name, "=", _unquote(value)))
            elif kind != "comma":
                raise self._error()


def _unquote(value: str) -> str:
    return re.sub(r'\\(["\\])', r"\1", value[1:-1]) if value.startswith('"') else value


def wildcard(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(p) for p in pattern.split("*")), re.IGNORECASE | re.DOTALL)


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _comparison(name: str, op: str, wanted: str) -> Test:
    number = _number(wanted)
    if op in ("=", "!="):
        regex = wildcard(wanted)

        def equal(row: Row) -> bool:
            value = row(name)
            if value == "":
                # `x=*` and `x!=y` both want the field to exist.
                return op == "=" and wanted == ""
            same = regex.fullmatch(value) is not None
            if not same and number is not None:
                same = _number(value) == number
            return same if op == "=" else not same

        return equal

    def ordered(row: Row) -> bool:
        value = row(name)
        if value == "":
            return False
        mine = _number(value)
        a, b = (mine, number) if mine is not None and number is not None else (value, wanted)
        if op == "<":
            return a < b  # type: ignore[operator]
        if op == "<=":
            return a <= b  # type: ignore[operator]
        return a > b if op == ">" else a >= b  # type: ignore[operator]

    return ordered


def _bare(term: str) -> Test:
    if term == "*":
        return lambda _: True
    regex = wildcard(term)
    return lambda row: regex.search(row("_raw")) is not None
