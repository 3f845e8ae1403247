"""Compile a search into stages and pull its results through them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .apps import CustomCommand
from .builtins_rows import ROWS, Chunks, Stage, search_filter
from .builtins_stats import STATS
from .custom_stage import CustomStage, refuse_late_generator
from .errors import OutsideTheStandIn, SearchFailed, SplSyntaxError
from .events import search_events_stage
from .metrics import mcatalog, mstats, mvexpand
from .search_context import SearchContext
from .spl import Command, boolean, options_and_rest, split_pipeline
from .table import Table, concat

GENERATING = {"inputlookup", "makeresults", "mcatalog", "mstats"}
TRANSFORMING = {"mcatalog", "mstats", "stats", "table"}


@dataclass
class SearchResult:
    """What a search gave: rows as dicts, the banners, how it ended."""

    rows: list[dict[str, str]]
    fields: list[str]
    messages: list[tuple[str, str]]
    state: str
    is_failed: bool
    stderr: str
    log: str
    sid: str = ""
    preview: list[dict[str, str]] = field(default_factory=list)
    table: Table = field(default_factory=Table, repr=False)

    @property
    def errors(self) -> list[str]:
        return [text for level, text in self.messages if level in ("ERROR", "FATAL")]

    @property
    def warnings(self) -> list[str]:
        return [text for level, text in self.messages if level == "WARN"]


@dataclass
class Plan:
    """The stages of one search and what is known of it before it runs."""

    stages: list[Stage]
    is_transforming: bool
    risky: list[str]
    """Commands with is_risky: Splunk Web warns before it runs them from a link; the search runs all the same."""


def inputlookup(context: SearchContext, command: Command) -> Stage:
    found, rest = options_and_rest(command, {"append", "start", "max", "strict"})
    if len(rest) != 1:
        raise OutsideTheStandIn(f"'inputlookup {command.text}'; it takes one lookup and no where clause")
    name = rest[0].value
    context.lookups.find(name)
    start = int(found.get("start", "0"))
    most = int(found["max"]) if "max" in found else None
    append = boolean(found.get("append", "f"), "append", "inputlookup")

    def run(chunks: Chunks) -> Chunks:
        if append:
            yield from chunks
        yield from context.lookups.read(name, context.config.chunk_rows, start=start, max_rows=most)

    return run


def outputlookup(context: SearchContext, command: Command) -> Stage:
    found, rest = options_and_rest(command, {"append", "create_empty", "override_if_empty"})
    if len(rest) != 1:
        raise SplSyntaxError("Error in 'outputlookup' command: A lookup table name is required.")
    append = boolean(found.get("append", "f"), "append", "outputlookup")

    def run(chunks: Chunks) -> Chunks:
        whole = concat(chunks)
        context.lookups.write(rest[0].value, whole, append=append)
        yield whole

    return run


def append(context: SearchContext, command: Command) -> Stage:
    """`append [ search ... ]`: the rows of the inner search after ours."""
    match = re.fullmatch(r"\[(.*)\]", command.text, re.DOTALL)
    if match is None:
        raise SplSyntaxError("Error in 'append' command: The last argument must be a subsearch.")
    inner = compile_search(context, match[1])

    def run(chunks: Chunks) -> Chunks:
        yield from chunks
        yield from pull(inner, context)

    return run


CONTEXT_BUILTINS: dict[str, Callable[[Any, Command], Stage]] = {
    **ROWS,
    **STATS,
    "append": append,
    "inputlookup": inputlookup,
    "mcatalog": mcatalog,
    "mstats": mstats,
    "mvexpand": mvexpand,
    "outputlookup": outputlookup,
}


def expand_macros(context: SearchContext, search: str) -> str:
    """`name` or `name(a, b)` in backticks, from the apps' macros.conf."""

    def expand(match: re.Match[str]) -> str:
        name, _, given = match[1].strip().partition("(")
        arguments = [a.strip().strip('"') for a in given.rstrip(")").split(",")] if given else []
        key = f"{name}({len(arguments)})" if arguments else name
        macro = context.apps.macro(key)
        if macro is None:
            raise SplSyntaxError(
                f"Error in 'SearchParser': The search specifies a macro '{name}' that cannot be found."
            )
        text = macro.get("definition", "")
        for parameter, value in zip(macro.get("args", "").split(","), arguments, strict=False):
            text = text.replace(f"${parameter.strip()}$", value)
        return text

    for _ in range(10):
        expanded = re.sub(r"`([^`]+)`", expand, search)
        if expanded == search:
            break
        search = expanded
    return search


def check_search(context: SearchContext) -> None:
    """Only parse: raises `SplSyntaxError` for what splunkd refuses before there is a job."""
    compile_search(context, context.search, probe=False)


def compile_search(context: SearchContext, search: str, *, probe: bool = True) -> Plan:
    """Parse and plan: unknown commands and bad syntax are refused, custom commands are probed."""
    commands = split_pipeline(expand_macros(context, search))
    stages: list[Stage] = []
    customs: list[CustomStage] = []
    risky: list[str] = []
    is_transforming = False
    for position, command in enumerate(commands):
        is_first = position == 0
        if command.name == "search":
            if is_first:
                context.reads_index = True
                stages.append(search_events_stage(context, command))
            else:
                stages.append(search_filter(context, command))
            continue
        built_in = CONTEXT_BUILTINS.get(command.name)
        if built_in is not None:
            if command.name in GENERATING and not is_first and "append=" not in command.text:
                raise refuse_late_generator(command.name)
            is_transforming = is_transforming or command.name in TRANSFORMING
            stages.append(built_in(context, command))
            continue
        custom = _find_custom(context, command)
        if custom.is_risky:
            risky.append(command.name)
        if context.is_preview and not (custom.run_in_preview or context.config.preview == "force"):
            # run_in_preview is false by default: the preview ends here (facts/splunk_app.md 1.6).
            return Plan([lambda _: iter(())], is_transforming, risky)
        stage = CustomStage(context, command, custom)
        if probe:
            stage.probe()
        if stage.generating and not is_first:
            raise refuse_late_generator(command.name)
        is_transforming = is_transforming or stage.kind == "reporting"
        customs.append(stage)
        stages.append(stage.stage())
    return Plan(stages, is_transforming, risky)


def _find_custom(context: SearchContext, command: Command) -> CustomCommand:
    custom = context.apps.command(command.name)
    if custom is None:
        raise SplSyntaxError(f"Unknown search command '{command.name}'.")
    if not context.may_run(custom):
        # A command that the user's roles may not read is not there for them (facts/splunk_app.md section 6).
        raise SplSyntaxError(f"Unknown search command '{command.name}'.")
    return custom


def pull(plan: Plan, context: SearchContext) -> Iterator[Table]:
    """The chunks that come out at the end; closing it ends every command early."""
    chunks: Chunks = iter(())
    for position, stage in enumerate(plan.stages):
        chunks = stage(chunks)
        if position == 0:
            chunks = _stoppable(chunks, context)
    yield from chunks


def _stoppable(chunks: Chunks, context: SearchContext) -> Chunks:
    """Finalize stops the source and lets the rest end normally; cancel stops it all."""
    for chunk in chunks:
        if context.cancelled.is_set() or context.finalized.is_set():
            return
        yield chunk


@dataclass
class Outcome:
    table: Table = field(default_factory=Table)
    preview: Table = field(default_factory=Table)
    state: str = "RUNNING"
    is_transforming: bool = False
    run_s: float = 0.0

    @property
    def is_failed(self) -> bool:
        return self.state == "FAILED"


def run_search(
    context: SearchContext, outcome: Outcome, on_chunk: Callable[[Table], None] | None = None
) -> Outcome:
    """Run to the end and fill `outcome`; a failed search keeps the rows that came before the failure out."""
    began = time.monotonic()
    context.dispatch_dir.mkdir(parents=True, exist_ok=True)
    try:
        if context.config.preview:
            context.is_preview = True
            outcome.preview = concat(pull(compile_search(context, context.search), context))
            context.is_preview = False
        plan = compile_search(context, context.search)
        outcome.is_transforming = plan.is_transforming
        parts: list[Table] = []
        for chunk in pull(plan, context):
            parts.append(chunk)
            if on_chunk is not None:
                on_chunk(chunk)
        outcome.table = concat(parts)
        outcome.state = "DONE"
    except SearchFailed as failure:
        context.log.message(failure.level, failure.text)
        context.log.write("ERROR", "SearchOrchestrator", failure.text)
        outcome.state = "FAILED"
    finally:
        context.is_preview = False
        outcome.run_s = time.monotonic() - began
        (context.dispatch_dir / "search.log").write_text(
            context.log.text(), encoding="utf-8", errors="replace"
        )
    return outcome
