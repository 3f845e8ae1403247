"""The functions of `eval` and `where` (Search Reference, "Evaluation functions")."""

from __future__ import annotations

import math
import random
import re
import time
from collections.abc import Callable
from typing import Any

from .table import number_text

Value = Any


def number(value: Value) -> float | None:
    """The value as a number, or None when it is none."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, (int, float)):
        return float(value)
    try:
        return float(value)
    except ValueError:
        return None


def shown(value: Value) -> str:
    """The value as a field's text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "True" if value else "False"
    if isinstance(value, float):
        return number_text(value)
    return str(value)


def like(value: Value, pattern: Value) -> Value:
    if value is None or pattern is None:
        return None
    parts = {"%": ".*", "_": "."}
    regex = "".join(parts.get(c, re.escape(c)) for c in shown(pattern))
    return re.fullmatch(regex, shown(value), re.DOTALL) is not None


def _number_or_fail(value: Value) -> float:
    found = number(value)
    if found is None:
        raise TypeError("not a number")
    return found


def _round(value: Value, digits: Value = 0.0) -> Value:
    x = _number_or_fail(value)
    n = int(digits)
    # Splunk rounds half away from zero (Search Reference, "round").
    scaled = math.floor(abs(x) * 10**n + 0.5) / 10**n
    rounded = math.copysign(scaled, x)
    return f"{rounded:.{n}f}" if n > 0 else rounded


def _substr(value: Value, start: Value, length: Value = None) -> Value:
    text_, i = shown(value), int(start)
    begin = i - 1 if i > 0 else max(0, len(text_) + i)
    return text_[begin:] if length is None else text_[begin : begin + int(length)]


def _mvindex(value: Value, start: Value, end: Value = None) -> Value:
    """Values of a multivalue from `start` to `end`, both included; they stand on lines of their own here."""
    if value is None:
        return None
    values = shown(value).split("\n")
    first = int(start) + (len(values) if start < 0 else 0)
    last = first if end is None else int(end) + (len(values) if end < 0 else 0)
    return "\n".join(values[first : last + 1]) or None if 0 <= first <= last else None


def _unary(function: Callable[[float], float]) -> Callable[[Value], Value]:
    return lambda value: float(function(_number_or_fail(value)))


FUNCTIONS: dict[str, Callable[..., Value]] = {
    "abs": _unary(abs),
    "ceil": _unary(math.ceil),
    "ceiling": _unary(math.ceil),
    "exp": _unary(math.exp),
    "false": lambda: False,
    "floor": _unary(math.floor),
    "isnotnull": lambda value: value is not None,
    "isnull": lambda value: value is None,
    "isnum": lambda value: number(value) is not None,
    "len": lambda value: (
        float(len(value if isinstance(value, str) else shown(value))) if value is not None else None
    ),
    "like": like,
    "ln": _unary(math.log),
    "log": lambda value, base=10.0: math.log(_number_or_fail(value), _number_or_fail(base)),
    "lower": lambda value: shown(value).lower() if value is not None else None,
    "match": lambda value, regex: (
        re.search(shown(regex), shown(value)) is not None if value is not None else None
    ),
    "max": lambda *values: max(_number_or_fail(v) for v in values),
    "min": lambda *values: min(_number_or_fail(v) for v in values),
    "mvindex": _mvindex,
    "now": lambda: float(int(time.time())),
    "null": lambda: None,
    "pow": lambda a, b: _number_or_fail(a) ** _number_or_fail(b),
    "random": lambda: float(random.getrandbits(31)),
    "replace": lambda value, regex, new: (
        re.sub(shown(regex), shown(new), shown(value)) if value is not None else None
    ),
    "round": _round,
    "sin": _unary(math.sin),
    "cos": _unary(math.cos),
    "sqrt": _unary(math.sqrt),
    "substr": _substr,
    "tonumber": number,
    "tostring": lambda value: shown(value) if value is not None else None,
    "true": lambda: True,
    "upper": lambda value: shown(value).upper() if value is not None else None,
}
