"""Hyperparameters as users write them: text in, typed values out, with errors that name what is expected."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from kepler.core.algorithms import AlgorithmInfo, Param
from kepler.core.errors import InvalidInput, nearest

TRUE = frozenset({"t", "true", "1", "yes"})
FALSE = frozenset({"f", "false", "0", "no"})
MAX_LAYERS = 20
MAX_TEXT = 200


def check_params(info: AlgorithmInfo, raw: Mapping[str, str]) -> dict[str, Any]:
    """Typed values of the parameters in ``raw``, by their declared names.

    Names are taken as declared, by alias, or in another case. Parameters left out are left out here too.
    Raises `InvalidInput` for an unknown or doubly given name and for a value of the wrong type or range.
    """
    values: dict[str, Any] = {}
    for written, text in raw.items():
        param = _named(info, written)
        if param.name in values:
            raise InvalidInput(f"Parameter {param.name} of {info.name} is given twice", fix="Give it once.")
        values[param.name] = read_value(param, text)
    return values


def read_value(param: Param, text: str) -> Any:
    """One value of ``param``, or `InvalidInput` in MLTK's wording.

    >>> read_value(Param(100, "int", 1, 100000, name="n_estimators"), "ten")
    Traceback (most recent call last):
    ...
    kepler.core.errors.InvalidInput: Invalid value for n_estimators: 'ten' must be an integer from 1 to 100000.
    """
    text = text.strip()
    if text.lower() in ("none", "null") and _may_be_none(param):
        return None
    for kind in param.kind.split("|"):
        value = _READERS[kind](param, text)
        if value is not None:
            return value
    raise InvalidInput(f"Invalid value for {param.name}: {text[:MAX_TEXT]!r} must be {expected(param)}")


def expected(param: Param) -> str:
    """What values ``param`` takes, in words.

    >>> expected(Param(None, "int|choice", 1, None, ("sqrt", "log2"), name="max_features"))
    'an integer of at least 1, or one of sqrt, log2, none'
    """
    words: list[str] = []
    for kind in param.kind.split("|"):
        if kind in ("int", "float"):
            words.append(("an integer" if kind == "int" else "a number") + _range(param))
        elif kind == "bool":
            words.append("true or false")
        elif kind == "sizes":
            words.append("integers joined by '-' such as 100-50")
        elif kind == "str":
            words.append("a text")
        else:
            extra = ("none",) if param.default is None and "none" not in param.choices else ()
            words.append("one of " + ", ".join((*param.choices, *extra)))
    if param.default is None and "choice" not in param.kind:
        words.append("none")
    return ", or ".join(words)


def _named(info: AlgorithmInfo, written: str) -> Param:
    if written in info.params:
        return info.params[written]
    folded = written.lower()
    for name, param in info.params.items():
        if folded == name.lower() or folded in (alias.lower() for alias in param.aliases):
            return param
    known = sorted(info.params)
    if not known:
        raise InvalidInput(
            f"{info.name} has no parameter {written[:MAX_TEXT]!r}", cause="It takes none at all"
        )
    raise InvalidInput(
        f"{info.name} has no parameter {written[:MAX_TEXT]!r}",
        cause=f"The nearest is {nearest(written, known, 1)[0]}",
        fix=f"Use one of: {', '.join(known)}.",
    )


def _may_be_none(param: Param) -> bool:
    return param.default is None or "none" in param.choices


def _range(param: Param) -> str:
    low, high = param.low, param.high
    if low is not None and high is not None:
        return f" from {low:.12g} to {high:.12g}"
    if low is not None:
        return f" of at least {low:.12g}"
    return "" if high is None else f" of at most {high:.12g}"


def _inside(param: Param, value: float) -> bool:
    return (param.low is None or value >= param.low) and (param.high is None or value <= param.high)


def _read_int(param: Param, text: str) -> int | None:
    # int() would take "1_000", a spelling nobody means here; 40 digits is already more than any range.
    if len(text) > 40 or not text.lstrip("+-").isascii() or not text.lstrip("+-").isdigit():
        return None
    try:
        value = int(text)
    except ValueError:
        return None
    return value if _inside(param, value) else None


def _read_float(param: Param, text: str) -> float | None:
    if "_" in text:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and _inside(param, value) else None


def _read_bool(param: Param, text: str) -> bool | None:
    if text.lower() in TRUE:
        return True
    return False if text.lower() in FALSE else None


def _read_choice(param: Param, text: str) -> str | None:
    folded = text.lower()
    return next((choice for choice in param.choices if choice.lower() == folded), None)


def _read_sizes(param: Param, text: str) -> list[int] | None:
    parts = text.strip("()[] ").replace(",", "-").split("-")
    sizes = [_read_int(param, part.strip()) for part in parts if part.strip()]
    whole = [size for size in sizes if size is not None]
    return whole if whole and len(whole) == len(sizes) <= MAX_LAYERS else None


def _read_str(param: Param, text: str) -> str | None:
    return text if 0 < len(text) <= MAX_TEXT else None


_READERS: dict[str, Any] = {
    "int": _read_int,
    "float": _read_float,
    "bool": _read_bool,
    "choice": _read_choice,
    "sizes": _read_sizes,
    "str": _read_str,
}
KINDS = frozenset(_READERS)
