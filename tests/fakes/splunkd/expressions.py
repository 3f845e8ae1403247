"""The expressions of `eval` and `where`: arithmetic, comparison, text, and a few functions.

Values are float, str, bool or None (null). A field's text counts as a number where both sides of an operator
are numeric, as in Splunk's Search Reference ("eval", "Comparison and conditional functions").
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from .errors import OutsideTheStandIn, SplSyntaxError
from .expression_functions import FUNCTIONS, Value, like, number, shown
from .table import Table

Getter = Callable[[str], str]
Expression = Callable[[Getter], Value]

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)
    | (?P<string>"(?:[^"\\]|\\.)*")
    | (?P<field>'(?:[^'\\]|\\.)*')
    | (?P<name>[A-Za-z_][A-Za-z0-9_:]*(?:\{\})?)
    | (?P<op>==|!=|<=|>=|<>|[-+*/%().,<>=])
    )""",
    re.VERBOSE,
)


class _Parser:
    def __init__(self, text: str, command: str) -> None:
        self._text = text
        self._command = command
        self._tokens: list[tuple[str, str]] = []
        position = 0
        stripped = text.rstrip()
        while position < len(stripped):
            match = _TOKEN.match(stripped, position)
            if match is None or match.lastgroup is None:
                raise self._error()
            self._tokens.append((match.lastgroup, match[match.lastgroup]))
            position = match.end()
        self._i = 0
        self.fields: set[str] = set()

    def _error(self) -> SplSyntaxError:
        return SplSyntaxError(
            f"Error in '{self._command}' command: The expression is malformed: {self._text.strip()}"
        )

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._i] if self._i < len(self._tokens) else ("end", "")

    def _next(self) -> tuple[str, str]:
        token = self._peek()
        self._i += 1
        return token

    def _word(self, *words: str) -> bool:
        kind, value = self._peek()
        if kind == "name" and value.upper() in words:
            self._i += 1
            return True
        return False

    def _op(self, *ops: str) -> str | None:
        kind, value = self._peek()
        if kind == "op" and value in ops:
            self._i += 1
            return value
        return None

    def whole(self) -> Expression:
        expression = self.or_()
        if self._peek()[0] != "end":
            raise self._error()
        return expression

    def or_(self) -> Expression:
        left = self.and_()
        while True:
            if self._word("OR"):
                left = _either(left, self.and_())
            elif self._word("XOR"):
                left = _xor(left, self.and_())
            else:
                return left

    def and_(self) -> Expression:
        left = self.not_()
        while self._word("AND"):
            left = _both(left, self.not_())
        return left

    def not_(self) -> Expression:
        if self._word("NOT"):
            inner = self.not_()
            return lambda get: not _truth(inner(get))
        return self.comparison()

    def comparison(self) -> Expression:
        left = self.sum_()
        op = self._op("==", "=", "!=", "<>", "<=", ">=", "<", ">")
        if op is not None:
            return _compare(op, left, self.sum_())
        if self._word("IN"):
            return self._in(left)
        if self._word("LIKE"):
            right = self.sum_()
            return lambda get: like(left(get), right(get))
        return left

    def _in(self, left: Expression) -> Expression:
        options = self._arguments()
        tests = [_compare("=", left, option) for option in options]
        return lambda get: any(_truth(test(get)) for test in tests)

    def sum_(self) -> Expression:
        left = self.product()
        while op := self._op("+", "-", "."):
            left = _arithmetic(op, left, self.product())
        return left

    def product(self) -> Expression:
        left = self.unary()
        while op := self._op("*", "/", "%"):
            left = _arithmetic(op, left, self.unary())
        return left

    def unary(self) -> Expression:
        if self._op("-"):
            inner = self.unary()
            return _arithmetic("-", lambda _: 0.0, inner)
        if self._op("+"):
            return self.unary()
        return self.atom()

    def atom(self) -> Expression:
        kind, value = self._next()
        if kind == "number":
            constant: Value = float(value)
            return lambda _: constant
        if kind == "string":
            literal = re.sub(r'\\(["\\])', r"\1", value[1:-1])
            return lambda _: literal
        if kind == "field":
            return self._field(value[1:-1])
        if kind == "op" and value == "(":
            inner = self.or_()
            if not self._op(")"):
                raise self._error()
            return inner
        if kind == "name":
            if self._peek() == ("op", "("):
                return self._call(value)
            return self._field(value)
        raise self._error()

    def _field(self, name: str) -> Expression:
        self.fields.add(name)

        def read(get: Getter) -> Value:
            return get(name) or None

        return read

    def _arguments(self) -> list[Expression]:
        if not self._op("("):
            raise self._error()
        arguments: list[Expression] = []
        if self._op(")"):
            return arguments
        while True:
            arguments.append(self.or_())
            if self._op(")"):
                return arguments
            if not self._op(","):
                raise self._error()

    def _call(self, name: str) -> Expression:
        arguments = self._arguments()
        lazy = _LAZY.get(name.lower())
        if lazy is not None:
            return lazy(arguments)
        function = FUNCTIONS.get(name.lower())
        if function is None:
            raise OutsideTheStandIn(f"the function {name}() of '{self._command}'")

        def call(get: Getter) -> Value:
            try:
                return function(*[a(get) for a in arguments])
            except (TypeError, ValueError, OverflowError):
                # A function that cannot take its arguments gives null (Search Reference, "eval").
                return None

        return call


def _truth(value: Value) -> bool:
    if isinstance(value, bool):
        return value
    as_number = number(value)
    return bool(as_number) if as_number is not None else False


def _either(a: Expression, b: Expression) -> Expression:
    return lambda get: _truth(a(get)) or _truth(b(get))


def _both(a: Expression, b: Expression) -> Expression:
    return lambda get: _truth(a(get)) and _truth(b(get))


def _xor(a: Expression, b: Expression) -> Expression:
    return lambda get: _truth(a(get)) != _truth(b(get))


def _compare(op: str, a: Expression, b: Expression) -> Expression:
    def compare(get: Getter) -> Value:
        left, right = a(get), b(get)
        if left is None or right is None:
            return None
        x, y = number(left), number(right)
        one, two = (x, y) if x is not None and y is not None else (shown(left), shown(right))
        if op in ("=", "=="):
            return one == two
        if op in ("!=", "<>"):
            return one != two
        if op == "<":
            return one < two  # type: ignore[operator]
        if op == "<=":
            return one <= two  # type: ignore[operator]
        return one > two if op == ">" else one >= two  # type: ignore[operator]

    return compare


def _arithmetic(op: str, a: Expression, b: Expression) -> Expression:
    def compute(get: Getter) -> Value:
        left, right = a(get), b(get)
        if left is None or right is None:
            return None
        if op == ".":
            return shown(left) + shown(right)
        x, y = number(left), number(right)
        if x is None or y is None:
            return shown(left) + shown(right) if op == "+" and x is None and y is None else None
        if op == "+":
            return x + y
        if op == "-":
            return x - y
        if op == "*":
            return x * y
        if y == 0:
            return None
        return x / y if op == "/" else math.fmod(x, y)

    return compute


def _if(arguments: list[Expression]) -> Expression:
    test, yes, no = arguments
    return lambda get: yes(get) if _truth(test(get)) else no(get)


def _case(arguments: list[Expression]) -> Expression:
    pairs = list(zip(arguments[::2], arguments[1::2], strict=True))

    def choose(get: Getter) -> Value:
        for test, value in pairs:
            if _truth(test(get)):
                return value(get)
        return None

    return choose


def _coalesce(arguments: list[Expression]) -> Expression:
    def first(get: Getter) -> Value:
        for argument in arguments:
            value = argument(get)
            if value is not None:
                return value
        return None

    return first


_LAZY: dict[str, Callable[[list[Expression]], Expression]] = {"if": _if, "case": _case, "coalesce": _coalesce}


def compile_expression(text: str, command: str) -> tuple[Expression, set[str]]:
    """The expression and the fields it reads."""
    parser = _Parser(text, command)
    return parser.whole(), parser.fields


def evaluate(expression: Expression, fields: set[str], table: Table) -> list[Value]:
    """One value per row."""
    names = [f for f in fields if f in table.columns]
    if not names:
        return [expression(lambda _: "") for _ in range(table.n_rows)]
    values: list[Value] = []
    for cells in zip(*(table.columns[n] for n in names), strict=True):
        row = dict(zip(names, cells, strict=True))
        values.append(expression(lambda name, row=row: row.get(name, "")))
    return values


def split_assignments(text: str) -> list[tuple[str, str]]:
    """`a=1, b="x,y"` into [("a", "1"), ("b", '"x,y"')]: commas inside quotes and parentheses do not part."""
    parts: list[str] = []
    start, depth, quote = 0, 0, ""
    i = 0
    while i < len(text):
        c = text[i]
        if quote:
            if c == "\\":
                i += 1
            elif c == quote:
                quote = ""
        elif c in "\"'":
            quote = c
        elif c == "(":
            depth += 1
        elif c == ")":
            depth -= 1
        elif c == "," and not depth:
            parts.append(text[start:i])
            start = i + 1
        i += 1
    parts.append(text[start:])
    assignments: list[tuple[str, str]] = []
    for part in parts:
        match = re.match(r"""\s*(?:"([^"]+)"|'([^']+)'|([^\s="']+))\s*=(?!=)(.*)$""", part, re.DOTALL)
        if match is None:
            raise SplSyntaxError(
                "Error in 'eval' command: The arguments to the 'eval' command are missing or malformed."
            )
        assignments.append((match[1] or match[2] or match[3], match[4]))
    return assignments
