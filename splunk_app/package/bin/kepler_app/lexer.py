"""Search arguments as words and options, the way the machine learning toolkit's users write them.

Splunk splits arguments at blanks, also around ``=``, and keeps quotes in ``raw_args``. Here they become
words (``y``, ``"probability(y=1)"``) and options (``k=3``, ``b = "two"``), wherever these stand.
"""

from __future__ import annotations

import re

from kepler_app.errors import SearchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_OPTION_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_TRUE = {"t", "true", "1", "yes", "y"}
_FALSE = {"f", "false", "0", "no", "n"}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|)")
_UNIT_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


class Word:
    """One argument. ``quoted`` words are never keywords; ``joined`` words follow a comma."""

    __slots__ = ("joined", "quoted", "text")

    def __init__(self, text: str, quoted: bool = False, joined: bool = False) -> None:
        self.text = text
        self.quoted = quoted
        self.joined = joined

    def is_keyword(self, word: str) -> bool:
        return not self.quoted and self.text.lower() == word

    def __repr__(self) -> str:
        return f"Word({self.text!r}, quoted={self.quoted}, joined={self.joined})"


class Arguments:
    """Words in order, and options by name as written (parameters may be ``C``) with their values as text."""

    __slots__ = ("options", "words")

    def __init__(self, words: list[Word], options: dict[str, str]) -> None:
        self.words = words
        self.options = options

    def take(self, *names: str, default: str = "") -> str:
        """Remove and return the option that goes by any of ``names`` (lower case), in any case."""
        given = [name for name in self.options if name.lower() in names]
        if len(given) > 1:
            raise SearchError(f"Options {given[0]}= and {given[1]}= mean the same thing. Give one of them.")
        return self.options.pop(given[0]) if given else default

    def refuse_rest(self, command: str, known: Iterable[str]) -> None:
        """Raise `SearchError` for options nobody took."""
        for name in self.options:
            listed = ", ".join(f"{item}=" for item in known) or "no options"
            raise SearchError(f"{command} has no option {name}=. It knows {listed}.")


def _read_quoted(text: str, start: int) -> tuple[str, int]:
    """The string that opens at ``start`` and the position after it. ``\\"`` and ``""`` are quotes within."""
    out: list[str] = []
    at = start + 1
    while at < len(text):
        char = text[at]
        if char == "\\" and text[at + 1 : at + 2] in ('"', "\\"):
            out.append(text[at + 1])
            at += 2
        elif char == '"':
            if text[at + 1 : at + 2] != '"':
                return "".join(out), at + 1
            out.append('"')
            at += 2
        else:
            out.append(char)
            at += 1
    raise SearchError(
        f"The quote before {text[start + 1 : start + 41]!r} is not closed. Add the missing quotation mark."
    )


def _atoms(text: str) -> list[tuple[str, str, bool, int, int]]:
    """(kind, text, quoted, start, end) of each word, ``=`` and ``,``; parentheses shield both signs."""
    atoms: list[tuple[str, str, bool, int, int]] = []
    at = 0
    while at < len(text):
        char = text[at]
        if char.isspace():
            at += 1
        elif char in "=,":
            atoms.append((char, char, False, at, at + 1))
            at += 1
        else:
            start, parts, quoted, depth = at, [], False, 0
            while at < len(text):
                char = text[at]
                if char == '"':
                    part, at = _read_quoted(text, at)
                    parts.append(part)
                    quoted = True
                    continue
                if char.isspace() or (char in "=," and depth <= 0):
                    break
                depth += (char == "(") - (char == ")")
                parts.append(char)
                at += 1
            atoms.append(("w", "".join(parts), quoted, start, at))
    return atoms


def _source(raw_args: Iterable[str]) -> str:
    """The argument text again. An argument with blanks and no quotes lost them on the way: put them back."""
    parts = []
    for arg in raw_args:
        if '"' in arg or not re.search(r"\s", arg.strip()):
            parts.append(arg)
            continue
        name, sign, value = arg.partition("=")
        if sign and _OPTION_NAME.fullmatch(name.strip()):
            parts.append(f'{name.strip()}="{value.strip()}"')
        else:
            parts.append(f'"{arg.strip()}"')
    return " ".join(parts)


def parse(raw_args: Iterable[str]) -> Arguments:
    """Words and options of ``raw_args``.

    >>> parsed = parse(["LinearRegression", "y", "from", '"a b"', "c_*", "into", "app:m", "k", "=", "3"])
    >>> [word.text for word in parsed.words], parsed.options
    (['LinearRegression', 'y', 'from', 'a b', 'c_*', 'into', 'app:m'], {'k': '3'})
    """
    source = _source(raw_args)
    atoms = _atoms(source)
    words: list[Word] = []
    options: dict[str, str] = {}
    joined, at = False, 0
    while at < len(atoms):
        kind, text, quoted, _start, _end = atoms[at]
        if kind == ",":
            joined, at = True, at + 1
            continue
        if kind == "=":
            raise SearchError("There is a '=' without an option name before it. Write options as name=value.")
        if at + 1 < len(atoms) and atoms[at + 1][0] == "=" and _OPTION_NAME.fullmatch(text):
            value, at = _read_value(source, atoms, at + 2, text)
            if text.lower() in map(str.lower, options):
                raise SearchError(f"Option {text}= is given twice. Give it once.")
            options[text] = value
            joined = False
            continue
        if at + 1 < len(atoms) and atoms[at + 1][0] == "=":
            raise SearchError(
                f"{text[:60]!r} before '=' is not an option name. Put fields with special characters in double quotes."
            )
        words.append(Word(text, quoted, joined))
        joined, at = False, at + 1
    return Arguments(words, options)


def _read_value(
    source: str, atoms: list[tuple[str, str, bool, int, int]], at: int, name: str
) -> tuple[str, int]:
    """The value that starts at atom ``at``: up to the next blank, on over a comma that ends it."""
    if at >= len(atoms) or atoms[at][0] == ",":
        raise SearchError(f"Option {name}= has no value. Write {name}=value, without blanks.")
    parts: list[str] = []
    while at < len(atoms):
        kind, text, _quoted, _start, end = atoms[at]
        parts.append(text)
        at += 1
        if at >= len(atoms):
            break
        touching = atoms[at][3] == end
        if not touching and kind != "," and atoms[at][0] != ",":
            break
    return "".join(parts).rstrip(","), at


def split_list(text: str) -> list[str]:
    """Names of a comma list; commas in quotes or parentheses are part of a name.

    >>> split_list('a, "b, c",d_*')
    ['a', 'b, c', 'd_*']
    """
    items: list[str] = []
    item = ""
    for kind, word, _quoted, _start, _end in _atoms(text):
        if kind == ",":
            if item:
                items.append(item)
            item = ""
        else:
            item = f"{item} {word}" if item and kind == "w" else item + word
    return [*items, item] if item else items


def boolean(name: str, text: str) -> bool:
    """``t/f/true/false/1/0/yes/no`` in any case."""
    lowered = text.strip().lower()
    if lowered in _TRUE or lowered in _FALSE:
        return lowered in _TRUE
    raise SearchError(f"Invalid value {text[:60]!r} for {name}=: must be true or false.")


def integer(name: str, text: str, low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``."""
    stripped = text.strip()
    if not re.fullmatch(r"[+-]?\d{1,19}", stripped) or not low <= int(stripped) <= high:
        raise SearchError(
            f"Invalid value {text[:60]!r} for {name}=: must be a whole number from {low} to {high}."
        )
    return int(stripped)


def share(name: str, text: str) -> float:
    """A number from 0 (included) to 1 (excluded)."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise SearchError(
            f"Invalid value {text[:60]!r} for {name}=: must be a number from 0 to below 1, for example 0.2."
        )
    return value


def duration_s(name: str, text: str) -> float:
    """Seconds of ``90``, ``90s``, ``10m``, ``2h`` or ``1day``."""
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None:
        raise SearchError(
            f"Invalid value {text[:60]!r} for {name}=: must be a time such as 90, 90s, 10m or 2h."
        )
    return float(match[1]) * _UNIT_S[match[2][:1]]


def choice(name: str, text: str, choices: tuple[str, ...]) -> str:
    """One of ``choices``, in any case."""
    lowered = text.strip().lower()
    if lowered not in choices:
        raise SearchError(f"Invalid value {text[:60]!r} for {name}=: must be one of {', '.join(choices)}.")
    return lowered
