"""Take a search apart: pipes, quotes, brackets, words and options.

Sources: facts/splunk_app.md 1.3 (how arguments are split: quotes go, spaces around `=` split), facts/
splunk_ml_anchors.md section 4 (quoting).
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import OutsideTheStandIn, SplSyntaxError


@dataclass(frozen=True)
class Word:
    """One whitespace-separated piece: as typed, and without its quotes."""

    raw: str
    value: str

    @property
    def quoted(self) -> bool:
        return self.raw.startswith('"')

    def option(self) -> tuple[str, str] | None:
        """(name, value) of `name=value`, else None."""
        if self.quoted or "=" not in self.raw:
            return None
        name, _, _ = self.raw.partition("=")
        return name, self.value[len(name) + 1 :]


@dataclass(frozen=True)
class Command:
    name: str
    text: str
    """Everything after the name, as typed."""

    @property
    def words(self) -> list[Word]:
        return split_words(self.text)


def split_pipeline(search: str) -> list[Command]:
    """The commands of a search. Without a leading pipe the first word is a command all the same, as in REST.

    A pipe inside quotes, brackets or backticks does not split.
    """
    pieces: list[str] = []
    start, i, depth = 0, 0, 0
    quoted = False
    ticked = False
    while i < len(search):
        c = search[i]
        if quoted:
            if c == "\\":
                i += 1
            elif c == '"':
                quoted = False
        elif c == '"':
            quoted = True
        elif c == "`":
            ticked = not ticked
        elif c == "[":
            depth += 1
        elif c == "]":
            depth = max(0, depth - 1)
        elif c == "|" and not depth and not ticked:
            pieces.append(search[start:i])
            start = i + 1
        i += 1
    pieces.append(search[start:])
    if quoted:
        raise SplSyntaxError("Error in 'SearchParser': Mismatched quotes and/or parenthesis.")
    if depth:
        raise SplSyntaxError("Error in 'SearchParser': Missing a search command before '['. Mismatched ']'.")
    if pieces and not pieces[0].strip():
        pieces = pieces[1:]
    if not pieces:
        raise SplSyntaxError("Empty search.")
    commands: list[Command] = []
    for piece in pieces:
        stripped = piece.strip()
        if not stripped:
            raise SplSyntaxError("Error in 'SearchParser': Missing a search command before '|'.")
        name, _, rest = _first_word(stripped)
        commands.append(Command(name, rest.strip()))
    return commands


def _first_word(piece: str) -> tuple[str, str, str]:
    i = 0
    while i < len(piece) and not piece[i].isspace() and piece[i] not in '"[':
        i += 1
    return piece[:i], "", piece[i:]


def split_words(text: str) -> list[Word]:
    """Split at whitespace outside double quotes; a piece in brackets is one word.

    The value loses its quotes; in quotes `\\"` is `"` and `\\\\` is one backslash, any other backslash stays
    (`"\\w+"` arrives as `\\w+`, recording countmatches of 6.3).
    """
    words: list[Word] = []
    i, n = 0, len(text)
    while i < n:
        if text[i].isspace():
            i += 1
            continue
        start, value, depth = i, [], 0
        quoted = False
        while i < n and (quoted or depth or not text[i].isspace()):
            c = text[i]
            if quoted:
                if c == "\\" and i + 1 < n and text[i + 1] in '"\\':
                    i += 1
                    value.append(text[i])
                elif c == '"':
                    quoted = False
                else:
                    value.append(c)
            elif c == '"':
                quoted = True
            else:
                depth += (c == "[") - (c == "]" and depth > 0)
                value.append(c)
            i += 1
        words.append(Word(text[start:i], "".join(value)))
    return words


def options_and_rest(command: Command, known: set[str]) -> tuple[dict[str, str], list[Word]]:
    """Split `name=value` options, all of which must be known, from the other words."""
    found: dict[str, str] = {}
    rest: list[Word] = []
    for word in command.words:
        option = word.option()
        if option is None:
            rest.append(word)
        elif option[0] in known:
            found[option[0]] = option[1]
        else:
            raise OutsideTheStandIn(f"the option {option[0]}= of '{command.name}'")
    return found, rest


def field_list(words: list[Word]) -> list[str]:
    """Field names parted by spaces or commas; quotes protect both."""
    names: list[str] = []
    for word in words:
        if word.quoted:
            names.append(word.value)
        else:
            names += [p for p in word.value.split(",") if p]
    return [n for n in names if n != ","]


TRUE = {"1", "t", "true", "yes", "y"}
FALSE = {"0", "f", "false", "no", "n"}


def boolean(text: str, name: str, command: str) -> bool:
    if text.lower() in TRUE:
        return True
    if text.lower() in FALSE:
        return False
    raise SplSyntaxError(
        f"Error in '{command}' command: Invalid option value. Expecting a 'boolean' for option '{name}'. Instead got '{text}'."
    )
