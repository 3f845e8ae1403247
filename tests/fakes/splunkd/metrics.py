"""`mstats` and `mcatalog`: metric data points aggregated, metric names listed.

Source: Splunk's Search Reference, pages "mstats", "mcatalog" and "mvexpand".
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from .builtins_rows import Chunks, Stage
from .builtins_stats import Aggregate, aggregate_table, parse_aggregates
from .errors import OutsideTheStandIn
from .events import UNIT_NAMES, UNITS, time_range, time_text, without_time
from .search_terms import Terms, parse_terms, wildcard
from .spl import Command, Word, field_list
from .table import Table, concat, decode_mv

if TYPE_CHECKING:
    from .search_context import SearchContext

_SPAN = re.compile(r"\bspan=(\d+)([a-z]+)\b")
_CLAUSE = re.compile(r'"(?:[^"\\]|\\.)*"|\b(where|by)\b', re.IGNORECASE)


def _clauses(body: str) -> tuple[str, str, str]:
    """What stands before, after `where`, and after `by`; words inside quotes are no clauses."""
    found = {"": body}
    current, start = "", 0
    for match in _CLAUSE.finditer(body):
        if match[1] is None:
            continue
        found[current] = body[start : match.start()]
        current, start = match[1].lower(), match.end()
        found[current] = body[start:]
    return found[""], found.get("where", ""), found.get("by", "")


def _aggregates(words: list[Word], by: str) -> tuple[list[Aggregate], list[str]]:
    """Aggregates of mstats may name metrics by wildcard: cpu.* stays a pattern until the names are known."""
    starred = [Word(w.raw.replace("*", "\x01"), w.value.replace("*", "\x01")) for w in words]
    command = Command("mstats", f"by {by}").words if by.strip() else []
    aggregates, split = parse_aggregates([*starred, *command], "mstats")
    return [
        replace(a, field=a.field.replace("\x01", "*"), name=a.name.replace("\x01", "*")) for a in aggregates
    ], split


def _points(context: SearchContext, terms: Terms, given: dict[str, str]) -> list[dict[str, str]]:
    earliest, latest = time_range(context, given)
    rows = [p.row() for p in context.events.between(earliest, latest, metrics=True)]
    return [row for row in rows if terms.test(lambda name, row=row: row.get(name, ""))]


def mstats(context: SearchContext, command: Command) -> Stage:
    """`mstats avg(cpu.*) [as x] where index=m [by dim] [span=1m]`."""
    body, given = without_time(command.text)
    span_match = _SPAN.search(body)
    span = int(span_match[1]) * UNITS[UNIT_NAMES[span_match[2]]] if span_match else 0.0
    head, where, by_text = _clauses(_SPAN.sub("", body))
    aggregates, by = _aggregates(Command("mstats", head).words, by_text)
    terms = parse_terms(where)
    # Parsed now, so that a bad time modifier is refused before the search runs.
    time_range(context, given)

    def run(_: Chunks) -> Chunks:
        rows = _points(context, terms, given)
        names = sorted({row["metric_name"] for row in rows})
        wanted: list[Aggregate] = []
        for aggregate in aggregates:
            if "*" not in aggregate.field:
                wanted.append(aggregate)
                continue
            regex = wildcard(aggregate.field)
            wanted += [
                Aggregate(aggregate.function, n, f"{aggregate.function}({n})")
                for n in names
                if regex.fullmatch(n)
            ]
        fields = {a.field for a in wanted}
        kept = [{**row, row["metric_name"]: row["_value"]} for row in rows if row["metric_name"] in fields]
        for row in kept if span else []:
            row["_time"] = time_text(float(row["_time"]) // span * span)
        columns = list(dict.fromkeys([*fields, *by, "_time"]))
        table = Table({n: [row.get(n, "") for row in kept] for n in columns}, len(kept))
        if not kept:
            yield Table()
            return
        yield aggregate_table(table, wanted, [*(["_time"] if span else []), *by])

    return run


def mcatalog(context: SearchContext, command: Command) -> Stage:
    """`mcatalog values(metric_name) [as x] where index=m`: the names of metrics, or the values of a dimension."""
    body, given = without_time(command.text)
    head, where, by_text = _clauses(body)
    aggregates, by = parse_aggregates(
        Command("mcatalog", f"{head} by {by_text}" if by_text else head).words, "mcatalog"
    )
    if any(a.function != "values" for a in aggregates):
        raise OutsideTheStandIn("another function than values() in 'mcatalog'")
    terms = parse_terms(where)

    def run(_: Chunks) -> Chunks:
        rows = _points(context, terms, given)
        columns = list(dict.fromkeys([*(a.field for a in aggregates), *by]))
        table = Table({n: [row.get(n, "") for row in rows] for n in columns}, len(rows))
        yield aggregate_table(table, aggregates, by) if rows else Table()

    return run


def mvexpand(_: object, command: Command) -> Stage:
    """`mvexpand f`: a row for each of the field's values."""
    names = field_list(command.words)
    if len(names) != 1:
        raise OutsideTheStandIn(f"'mvexpand {command.text}'; it takes one field")
    name = names[0]

    def run(chunks: Chunks) -> Chunks:
        for chunk in chunks:
            encoded = chunk.mv.get(name)
            if encoded is None:
                yield chunk
                continue
            order: list[int] = []
            values: list[str] = []
            for i, cell in enumerate(chunk.column(name)):
                several = decode_mv(encoded[i]) or [cell]
                order += [i] * len(several)
                values += several
            yield concat([chunk.take(order).with_column(name, values)])

    return run
