"""`stats` and `streamstats`: counts, sums and the like (Search Reference, pages "stats" and "streamstats")."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from .builtins_rows import Chunks, Stage, sort_key
from .errors import OutsideTheStandIn, SplSyntaxError
from .spl import Command, Word
from .table import Table, concat, encode_mv, text

_CALL = re.compile(r"([a-z]+)(?:\((.*)\))?", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Aggregate:
    function: str
    field: str
    name: str


def _numbers(values: list[str]) -> list[float]:
    found: list[float] = []
    for value in values:
        try:
            found.append(float(value))
        except ValueError:
            continue
    return found


def _of_numbers(function: Callable[[list[float]], float]) -> Callable[[list[str]], object]:
    def run(values: list[str]) -> object:
        numbers = _numbers(values)
        return function(numbers) if numbers else None

    return run


def _least(values: list[str]) -> object:
    return min(values, key=sort_key) if values else None


def _most(values: list[str]) -> object:
    return max(values, key=sort_key) if values else None


# Each takes the group's non-null values in row order.
FUNCTIONS: dict[str, Callable[[list[str]], object]] = {
    "avg": _of_numbers(statistics.fmean),
    "count": len,
    "dc": lambda values: len(set(values)),
    "distinct_count": lambda values: len(set(values)),
    "first": lambda values: values[0] if values else None,
    "last": lambda values: values[-1] if values else None,
    # Events come newest first.
    "earliest": lambda values: values[-1] if values else None,
    "latest": lambda values: values[0] if values else None,
    "list": lambda values: values[:100],
    "max": _most,
    "mean": _of_numbers(statistics.fmean),
    "median": _of_numbers(statistics.median),
    "min": _least,
    "range": _of_numbers(lambda v: max(v) - min(v)),
    "stdev": _of_numbers(lambda v: statistics.stdev(v) if len(v) > 1 else 0.0),
    "stdevp": _of_numbers(statistics.pstdev),
    "sum": _of_numbers(sum),
    "values": lambda values: sorted(set(values)),
    "var": _of_numbers(lambda v: statistics.variance(v) if len(v) > 1 else 0.0),
}


def parse_aggregates(words: list[Word], command: str) -> tuple[list[Aggregate], list[str]]:
    """`count avg(x) as m by a b` into aggregates and grouping fields."""
    aggregates: list[Aggregate] = []
    by: list[str] = []
    values = [(w.value.strip(",") if not w.quoted else w.value) for w in words]
    values = [v for v in values if v]
    i = 0
    while i < len(values):
        if values[i].lower() == "by":
            by = [part for v in values[i + 1 :] for part in v.split(",") if part]
            break
        match = _CALL.fullmatch(values[i])
        if match is None or match[1].lower() not in (*FUNCTIONS, "c"):
            raise OutsideTheStandIn(f"'{values[i]}' in '{command}'")
        function = "count" if match[1].lower() == "c" else match[1].lower()
        field = (match[2] or "").strip("'\" ")
        if "*" in field or (not field and function != "count"):
            raise OutsideTheStandIn(f"'{values[i]}' in '{command}'")
        name = values[i]
        i += 1
        if i + 1 < len(values) and values[i].lower() == "as":
            name = values[i + 1]
            i += 2
        aggregates.append(Aggregate(function, field, name))
    if not aggregates:
        raise SplSyntaxError(
            f"Error in '{command}' command: You must specify at least one statistical function."
        )
    return aggregates, by


def aggregate_table(whole: Table, aggregates: list[Aggregate], by: list[str]) -> Table:
    """One row per group, sorted by the groups; rows without a grouping field are left out."""
    groups: dict[tuple[str, ...], list[int]] = {}
    if by:
        for i, key in enumerate(zip(*(whole.column(n) for n in by), strict=True)):
            if all(key):
                groups.setdefault(key, []).append(i)
    else:
        groups[()] = list(range(whole.n_rows))
    keys = sorted(groups, key=lambda key: [sort_key(v) for v in key])
    columns: dict[str, list[str]] = {n: [key[j] for key in keys] for j, n in enumerate(by)}
    mv: dict[str, list[str]] = {}
    for aggregate in aggregates:
        source = whole.column(aggregate.field) if aggregate.field else None
        results: list[object] = []
        for key in keys:
            if source is None:
                results.append(len(groups[key]))
            else:
                results.append(
                    FUNCTIONS[aggregate.function]([source[i] for i in groups[key] if source[i] != ""])
                )
        columns[aggregate.name] = ["\n".join(r) if isinstance(r, list) else text(r) for r in results]
        if any(isinstance(r, list) for r in results):
            mv[aggregate.name] = [encode_mv(r) if isinstance(r, list) else "" for r in results]
    return Table(columns, len(keys), mv)


def stats(_: object, command: Command) -> Stage:
    aggregates, by = parse_aggregates(command.words, command.name)

    def run(chunks: Chunks) -> Chunks:
        needed = list(dict.fromkeys([a.field for a in aggregates if a.field] + by))
        yield aggregate_table(concat(_narrow(c, needed) for c in chunks), aggregates, by)

    return run


def _narrow(chunk: Table, needed: list[str]) -> Table:
    return Table({n: chunk.column(n) for n in needed}, chunk.n_rows)


def streamstats(_: object, command: Command) -> Stage:
    """Running count, sum, avg, min and max, the current row included."""
    aggregates, by = parse_aggregates(command.words, command.name)
    for aggregate in aggregates:
        if aggregate.function not in ("count", "sum", "avg", "min", "max"):
            raise OutsideTheStandIn(f"streamstats {aggregate.function}()")

    def run(chunks: Chunks) -> Chunks:
        # Per aggregate and group: count, sum, min, max of what came so far.
        state: list[dict[tuple[str, ...], list[float]]] = [{} for _ in aggregates]
        for chunk in chunks:
            keys = list(zip(*(chunk.column(n) for n in by), strict=True)) if by else [()] * chunk.n_rows
            for aggregate, groups in zip(aggregates, state, strict=True):
                source = chunk.column(aggregate.field) if aggregate.field else None
                out: list[str] = []
                for i, key in enumerate(keys):
                    running = groups.setdefault(key, [0, 0.0, float("inf"), float("-inf")])
                    if source is None:
                        running[0] += 1
                    elif source[i] != "":
                        _add(running, source[i], aggregate.function)
                    out.append(_running(aggregate.function, running))
                chunk = chunk.with_column(aggregate.name, out)
            yield chunk

    return run


def _add(running: list[float], value: str, function: str) -> None:
    if function == "count":
        running[0] += 1
        return
    numbers = _numbers([value])
    if numbers:
        running[0] += 1
        running[1] += numbers[0]
        running[2] = min(running[2], numbers[0])
        running[3] = max(running[3], numbers[0])


def _running(function: str, running: list[float]) -> str:
    count, total, least, most = running
    if function == "count":
        return str(int(count))
    if not count:
        return ""
    return text({"sum": total, "avg": total / count, "min": least, "max": most}[function])


STATS = {"stats": stats, "streamstats": streamstats}
