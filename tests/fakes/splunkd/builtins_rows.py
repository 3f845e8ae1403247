"""Built-in commands that look at rows one at a time: fields, table, rename, eval, where, search, head, tail, ...

Source of each behaviour: Splunk's Search Reference, page of the command's name, unless said otherwise.
A built-in is `(context, command) -> stage`; a stage turns an iterator of chunks into another.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from .errors import OutsideTheStandIn, SplSyntaxError
from .expressions import compile_expression, evaluate, shown, split_assignments
from .search_terms import parse_terms, wildcard
from .spl import Command, boolean, field_list, options_and_rest
from .table import Table, concat

Chunks = Iterator[Table]
Stage = Callable[[Chunks], Chunks]


def per_chunk(change: Callable[[Table], Table]) -> Stage:
    return lambda chunks: (change(chunk) for chunk in chunks)


def matching(names: list[str], patterns: list[str]) -> list[str]:
    """The fields that patterns name, in the patterns' order; `*` is a wildcard."""
    found: list[str] = []
    for pattern in patterns:
        if "*" in pattern:
            regex = wildcard(pattern)
            found += [n for n in names if regex.fullmatch(n)]
        else:
            found.append(pattern)
    return list(dict.fromkeys(found))


def fields(_: object, command: Command) -> Stage:
    """`fields [+|-] a b*`: internal fields (`_time`, `_raw`) stay unless they are taken away by name."""
    words = field_list(command.words)
    sign = "+"
    if words and words[0] in ("+", "-"):
        sign = words.pop(0)
    elif words and words[0][:1] in "+-" and len(words[0]) > 1:
        sign, words[0] = words[0][0], words[0][1:]
    if not words:
        raise SplSyntaxError("Error in 'fields' command: Invalid argument: ''")

    def change(table: Table) -> Table:
        if sign == "-":
            gone = set(matching(table.fields, words))
            return table.pick(n for n in table.fields if n not in gone)
        kept = [n for n in matching(table.fields, words) if n in table.columns]
        return table.pick(kept + [n for n in table.fields if n.startswith("_") and n not in kept])

    return per_chunk(change)


def table(_: object, command: Command) -> Stage:
    """`table a b*`: exactly these; a field that no row has is an empty column; `*` leaves internal fields out,
    but for `_time` and `_raw` (recording 8.2.1, README: `table *`)."""
    words = field_list(command.words)
    if not words:
        raise SplSyntaxError("Error in 'table' command: Invalid argument: ''")

    def change(chunk: Table) -> Table:
        names: list[str] = []
        for word in words:
            found = matching(chunk.fields, [word])
            if "*" in word and not word.startswith("_"):
                found = [n for n in found if not n.startswith("_")] + [
                    n for n in found if n in ("_raw", "_time")
                ]
            names += found
        return chunk.pick(names)

    return per_chunk(change)


def rename(_: object, command: Command) -> Stage:
    words = [w.value.rstrip(",") if not w.quoted else w.value for w in command.words]
    words = [w for w in words if w]
    pairs: list[tuple[str, str]] = []
    for i in range(0, len(words), 3):
        group = words[i : i + 3]
        if len(group) < 3 or group[1].lower() != "as":
            raise SplSyntaxError("Error in 'rename' command: Usage: rename [old_name AS/TO/-> new_name]+.")
        pairs.append((group[0], group[2]))

    def change(chunk: Table) -> Table:
        for old, new in pairs:
            moves: dict[str, str] = {}
            if "*" in old:
                regex = re.compile("(.*)".join(re.escape(p) for p in old.split("*")))
                for name in chunk.fields:
                    match = regex.fullmatch(name)
                    if match:
                        parts = list(match.groups())
                        moves[name] = re.sub(r"\*", lambda _, parts=parts: parts.pop(0), new)
            elif old in chunk.columns:
                moves[old] = new
            columns: dict[str, list[str]] = {}
            for name, values in chunk.columns.items():
                if name in moves:
                    columns[moves[name]] = values
                elif name not in moves.values():
                    columns[name] = values
            chunk = Table(columns, chunk.n_rows, {moves.get(k, k): v for k, v in chunk.mv.items()})
        return chunk

    return per_chunk(change)


def eval_(_: object, command: Command) -> Stage:
    steps = [(name, *compile_expression(text, "eval")) for name, text in split_assignments(command.text)]

    def change(chunk: Table) -> Table:
        for name, expression, read in steps:
            values = evaluate(expression, read, chunk)
            if any(isinstance(v, bool) for v in values):
                raise SplSyntaxError(
                    "Error in 'eval' command: Fields cannot be assigned a boolean result. Instead, try if([bool expr], [expr], [expr])."
                )
            chunk = chunk.with_column(name, [shown(v) for v in values])
        return chunk

    return per_chunk(change)


def where(_: object, command: Command) -> Stage:
    expression, read = compile_expression(command.text, "where")

    def change(chunk: Table) -> Table:
        values = evaluate(expression, read, chunk)
        return chunk.take([i for i, v in enumerate(values) if v is True])

    return per_chunk(change)


def search_filter(_: object, command: Command) -> Stage:
    """`| search a=1 b="x*"` after the first pipe: a filter on rows."""
    terms = parse_terms(command.text)

    def change(chunk: Table) -> Table:
        names = chunk.fields
        kept: list[int] = []
        for i, cells in enumerate(zip(*chunk.columns.values(), strict=True)):
            row = dict(zip(names, cells, strict=True))
            if terms.test(lambda name, row=row: row.get(name, "")):
                kept.append(i)
        return chunk if len(kept) == chunk.n_rows else chunk.take(kept)

    return per_chunk(change)


def _count(command: Command, default: int) -> int:
    found, rest = options_and_rest(command, {"limit", "count"})
    written = found.get("limit") or found.get("count") or (rest[0].value if rest else str(default))
    if len(rest) > 1 or not written.isdigit():
        raise OutsideTheStandIn(f"'{command.name} {command.text}'; it takes a number only")
    return int(written)


def head(_: object, command: Command) -> Stage:
    n = _count(command, 10)

    def run(chunks: Chunks) -> Chunks:
        left = n
        for chunk in chunks:
            yield chunk.cut(0, left)
            left -= min(left, chunk.n_rows)
            if not left:
                # Closing the rest ends the commands before us early.
                close = getattr(chunks, "close", None)
                if close is not None:
                    close()
                return

    return run


def tail(_: object, command: Command) -> Stage:
    """The last n, the very last first, as the Search Reference says."""
    n = _count(command, 10)

    def run(chunks: Chunks) -> Chunks:
        held: list[Table] = []
        for chunk in chunks:
            held.append(chunk)
            while len(held) > 1 and sum(t.n_rows for t in held[1:]) >= n:
                held.pop(0)
        whole = concat(held)
        yield whole.take(list(range(whole.n_rows - 1, max(-1, whole.n_rows - 1 - n), -1)))

    return run


def dedup(_: object, command: Command) -> Stage:
    """`dedup a b [keepempty=t]`: the first row of each combination; rows that lack a field go, or stay."""
    found, rest = options_and_rest(command, {"keepempty"})
    names = field_list(rest)
    keeps_empty = boolean(found.get("keepempty", "f"), "keepempty", "dedup")

    def run(chunks: Chunks) -> Chunks:
        seen: set[tuple[str, ...]] = set()
        for chunk in chunks:
            kept: list[int] = []
            for i, key in enumerate(zip(*(chunk.column(n) for n in names), strict=True)):
                if not all(key):
                    if keeps_empty:
                        kept.append(i)
                elif key not in seen:
                    seen.add(key)
                    kept.append(i)
            yield chunk.take(kept)

    return run


def fillnull(_: object, command: Command) -> Stage:
    found, rest = options_and_rest(command, {"value"})
    value, names = found.get("value", "0"), field_list(rest)

    def change(chunk: Table) -> Table:
        for name in names or chunk.fields:
            chunk = chunk.with_column(name, [v or value for v in chunk.column(name)], chunk.mv.get(name))
        return chunk

    return per_chunk(change)


def reverse(_: object, __: Command) -> Stage:
    def run(chunks: Chunks) -> Chunks:
        whole = concat(chunks)
        yield whole.take(range(whole.n_rows - 1, -1, -1))

    return run


def sort(_: object, command: Command) -> Stage:
    """`sort [count] (+|-)field ...`: 10,000 rows unless a count is given, 0 is all; numbers as numbers."""
    words = field_list(command.words)
    limit = 10_000
    if words and words[0].isdigit():
        limit = int(words.pop(0))
    keys: list[tuple[str, bool]] = []
    descending = False
    for word in words:
        if word in ("+", "-"):
            descending = word == "-"
            continue
        if word[0] in "+-":
            descending, word = word[0] == "-", word[1:]
        match = re.fullmatch(r"(?:num|auto|str)\((.+)\)", word)
        keys.append((match[1] if match else word, descending))
        descending = False
    if not keys:
        raise SplSyntaxError("Error in 'sort' command: No search fields specified.")

    def run(chunks: Chunks) -> Chunks:
        whole = concat(chunks)
        order = list(range(whole.n_rows))
        for name, is_descending in reversed(keys):
            ranked = [sort_key(v) for v in whole.column(name)]
            order.sort(key=ranked.__getitem__, reverse=is_descending)
        yield whole.take(order[:limit] if limit else order)

    return run


def sort_key(value: str) -> tuple[int, float, str]:
    """Numbers before text, null last."""
    if value == "":
        return (2, 0.0, "")
    try:
        return (0, float(value), "")
    except ValueError:
        return (1, 0.0, value)


def makeresults(context: object, command: Command) -> Stage:
    """`makeresults [count=N]`: rows with `_time` now; `format=csv data="..."` gives those rows."""
    found, rest = options_and_rest(command, {"count", "format", "data", "annotate"})
    if rest:
        raise SplSyntaxError(f"Error in 'makeresults' command: Invalid argument: '{rest[0].raw}'.")
    if boolean(found.get("annotate", "f"), "annotate", "makeresults"):
        raise OutsideTheStandIn("makeresults annotate=true")
    if ("data" in found) != (found.get("format") == "csv"):
        raise OutsideTheStandIn("makeresults with data in another format than csv")
    n = int(found.get("count", "1"))
    size: int = context.config.chunk_rows  # type: ignore[attr-defined]
    now: float = context.now  # type: ignore[attr-defined]

    def run(_: Chunks) -> Chunks:
        if "data" in found:
            from .table import from_csv

            yield from_csv(found["data"].encode())
            return
        for start in range(0, n, size):
            m = min(size, n - start)
            yield Table({"_time": [str(int(now))] * m}, m)
        if n == 0:
            yield Table({"_time": []}, 0)

    return run


ROWS = {
    "dedup": dedup,
    "eval": eval_,
    "fields": fields,
    "fillnull": fillnull,
    "head": head,
    "makeresults": makeresults,
    "rename": rename,
    "reverse": reverse,
    "sort": sort,
    "table": table,
    "tail": tail,
    "where": where,
}
