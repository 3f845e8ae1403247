"""A custom command as a stage of a search: probe it, hand it chunks, merge its replies.

Sources: facts/splunk_app.md 1.2 (probes), 1.4 (which type gets which fields and chunks; selected fields merged by
`_chunked_idx`), 1.5 (echo of finished), 1.7 (errors); recordings of 6.3, 8.0.3, 8.2.1.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from .apps import CustomCommand
from .builtins_rows import Chunks, Stage, matching
from .chunked import SearchInfo, execute
from .errors import SearchFailed, SplSyntaxError
from .runner import CommandProcess, Reply, check_getinfo, inspect
from .search_context import SearchContext
from .spl import Command
from .table import Table, concat, from_csv, join_chunks, rechunk, to_csv

INDEX_FIELD = "_chunked_idx"


class CustomStage:
    """One use of a custom command in a search."""

    def __init__(self, context: SearchContext, command: Command, custom: CustomCommand) -> None:
        self._context = context
        self._custom = custom
        self._name = command.name
        words = command.words
        self._args = [w.value for w in words]
        self._raw_args = [w.raw for w in words]
        self.kind = "streaming"
        self.generating = False
        self.required_fields: list[str] | None = None
        self._waiting: dict[str, Any] = {}

    # Planning

    def probe(self) -> None:
        """Start it just for its getinfo reply, as often as configured, as splunkd does to plan a search."""
        for i in range(self._context.config.probes):
            process = self._start()
            try:
                reply = self._getinfo(process, dispatch_dir="" if i else str(self._context.dispatch_dir))
                self._learn(reply.metadata)
            finally:
                self._stop(process)

    def _learn(self, metadata: dict[str, Any]) -> None:
        check_getinfo(self._name, metadata)
        if metadata.get("error"):
            inspect(self._context.log, metadata)
            raise self._banner(metadata["error"])
        self.kind = metadata.get("type", "streaming")
        self.generating = bool(metadata.get("generating", False))
        fields = metadata.get("required_fields")
        # ["*"] asks for all fields (Splunk support's text on the getinfo reply, facts/splunk_app.md 1.4).
        self.required_fields = None if fields is None or "*" in fields else [str(f) for f in fields]

    def _banner(self, text: object) -> SearchFailed:
        return SearchFailed(f"Error in '{self._name}' command: {text}", level="ERROR")

    def _start(self) -> CommandProcess:
        context, custom = self._context, self._custom
        if not custom.script.is_file():
            raise SearchFailed(
                f"Error in '{self._name}' command: Cannot find program '{custom.script.name}' or script "
                f"'{custom.script.name}'."
            )
        is_python = custom.script.suffix == ".py"
        argv = [context.python, str(custom.script)] if is_python else [str(custom.script)]
        process = CommandProcess(
            self._name,
            argv,
            dict(context.environment),
            str(context.splunk_home),
            context.log,
            max_wait_s=custom.max_wait_s,
            max_chunk_bytes=custom.max_chunk_bytes,
            on_message=(lambda way, data: context.on_message(self._name, way, data))
            if context.on_message
            else None,
        )
        context.processes.add(process)
        return process

    def _stop(self, process: CommandProcess) -> None:
        process.close()
        self._context.processes.discard(process)

    def _getinfo(self, process: CommandProcess, dispatch_dir: str) -> Reply:
        context = self._context
        info = SearchInfo(
            args=self._args,
            raw_args=self._raw_args,
            dispatch_dir=dispatch_dir,
            sid=context.sid,
            app=context.app,
            owner=context.owner,
            username=context.username,
            session_key=context.session_key,
            splunkd_uri=context.splunkd_uri,
            splunk_version=context.splunk_version,
            search=context.search,
            command=self._name,
            maxresultrows=context.config.max_rows_command,
            earliest_time=f"{context.earliest:.10g}",
            latest_time=f"{context.latest:.10g}",
            preview=context.is_preview,
            streaming_command_will_restart=context.is_preview,
        )
        return process.exchange(info.getinfo())

    # Running

    def stage(self) -> Stage:
        return self._generate if self.generating else self._run

    def _session(self) -> contextlib.AbstractContextManager[CommandProcess]:
        @contextlib.contextmanager
        def session() -> Iterator[CommandProcess]:
            process = self._start()
            try:
                self._begin(process)
                yield process
                process.finish()
            finally:
                self._stop(process)

        return session()

    def _begin(self, process: CommandProcess) -> None:
        reply = self._getinfo(process, str(self._context.dispatch_dir))
        self._learn(reply.metadata)
        # Messages of the getinfo reply are lost when the command then dies (9.4.6), so they wait for the first
        # reply to execute.
        self._waiting = reply.metadata

    def _execute(self, process: CommandProcess, finished: bool, body: bytes) -> Reply:
        try:
            reply = process.exchange(execute(finished), body)
        except SearchFailed:
            if self._waiting.get("inspector"):
                self._context.log.write("ERROR", "ChunkedExternProcessor", "Error adding inspector message.")
            raise
        inspect(self._context.log, self._waiting)
        self._waiting = {}
        inspect(self._context.log, reply.metadata)
        if reply.metadata.get("error"):
            raise self._banner(reply.metadata["error"])
        return reply

    def _generate(self, _: Chunks) -> Chunks:
        """Execute messages with a header-only or empty body until the reply is finished."""
        body = b""
        if self.required_fields is not None and self.kind in ("streaming", "stateful"):
            body = to_csv(Table({n: [] for n in [*self.required_fields, INDEX_FIELD]}, 0))
        with self._session() as process:
            while True:
                reply = self._execute(process, True, body)
                table = from_csv(reply.body)
                yield table.pick(n for n in table.fields if n != INDEX_FIELD)
                if reply.metadata.get("finished") or self._context.finalized.is_set():
                    return

    def _run(self, chunks: Chunks) -> Chunks:
        whole_set = self.kind in ("events", "reporting")
        size = self._context.config.chunk_rows
        parts = join_chunks(chunks, size) if whole_set else rechunk(chunks, size)
        try:
            with self._session() as process:
                if whole_set:
                    yield from self._run_whole(process, parts)
                else:
                    yield from self._run_chunks(process, parts)
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()

    def _run_chunks(self, process: CommandProcess, parts: Chunks) -> Chunks:
        fields: list[str] = []
        for part, is_last in self._with_end(parts):
            fields = part.fields or fields
            if not part.columns and fields:
                part = Table({n: [] for n in fields}, 0)
            reply = self._execute(process, is_last, to_csv(self._select(part)))
            yield self._merge(part, from_csv(reply.body))
            if self._ends(reply, is_last):
                return

    def _run_whole(self, process: CommandProcess, parts: Chunks) -> Chunks:
        """Events get every field, reporting the required ones; rows may come with any reply."""
        answers: list[Table] = []
        last: Table | None = None
        for part in parts:
            if last is not None:
                reply = self._execute(process, False, to_csv(self._narrow(last)))
                answers.append(from_csv(reply.body))
                if self._ends(reply, False):
                    yield concat(answers)
                    return
            last = part
        last = last if last is not None else Table({}, 0)
        reply = self._execute(process, True, to_csv(self._narrow(last)))
        answers.append(from_csv(reply.body))
        self._ends(reply, True)
        yield concat(answers)

    def _ends(self, reply: Reply, is_last: bool) -> bool:
        finished = bool(reply.metadata.get("finished"))
        if is_last and not finished:
            raise self._banner("The command did not echo finished=true to the last chunk.")
        return finished

    def _with_end(self, parts: Chunks) -> Iterator[tuple[Table, bool]]:
        """Mark the last chunk: the last rows themselves, or one more chunk that has only the header."""
        context = self._context
        extra = context.config.last_chunk == "empty" or (
            context.config.last_chunk == "auto" and context.reads_index
        )
        held: Table | None = None
        for part in parts:
            if extra:
                yield part, False
                continue
            if held is not None:
                yield held, False
            held = part
        if extra or held is None:
            yield Table({}, 0), True
        else:
            yield held, True

    # Fields

    def _wanted(self, part: Table) -> list[str] | None:
        return None if self.required_fields is None else matching(part.fields, self.required_fields)

    def _select(self, part: Table) -> Table:
        """Selected fields and `_chunked_idx` (recordings doubleage, accumages); a required field that no row has
        is sent all null (accumages sent accum_age)."""
        wanted = self._wanted(part)
        if wanted is None:
            return part
        if not part.columns:
            return Table({n: [] for n in [*wanted, INDEX_FIELD]}, 0)
        return part.pick(wanted).with_column(INDEX_FIELD, [str(i) for i in range(part.n_rows)])

    def _narrow(self, part: Table) -> Table:
        wanted = self._wanted(part)
        return part if wanted is None or self.kind == "events" else part.pick(wanted)

    def _merge(self, sent: Table, answer: Table) -> Table:
        """Join the answer's rows with the fields that were not sent, by `_chunked_idx`.

        A required field that the answer leaves out is gone from the event: whether Splunk keeps it is not known, so
        the stand-in takes the harsher reading and no command can lean on the kinder one.
        """
        wanted = self._wanted(sent)
        if wanted is None:
            return answer
        if INDEX_FIELD not in answer.columns:
            return answer
        rest = [n for n in sent.fields if n not in wanted]
        index = answer.columns[INDEX_FIELD]
        in_order = index == [str(i) for i in range(sent.n_rows)]
        columns: dict[str, list[str]] = {}
        mv: dict[str, list[str]] = {}
        order = list(dict.fromkeys([*sent.fields, *answer.fields]))
        rows = [] if in_order else [int(i) if i.isdigit() and int(i) < sent.n_rows else -1 for i in index]
        for name in order:
            if name == INDEX_FIELD:
                continue
            if name in answer.columns:
                columns[name] = answer.columns[name]
                if name in answer.mv:
                    mv[name] = answer.mv[name]
            elif name in rest:
                for source, into in ((sent.columns, columns), (sent.mv, mv)):
                    if name in source:
                        values = source[name]
                        into[name] = values if in_order else [values[i] if i >= 0 else "" for i in rows]
        return Table(columns, answer.n_rows, mv)


def refuse_late_generator(name: str) -> SplSyntaxError:
    return SplSyntaxError(f"Error in '{name}' command: This command must be the first command of a search.")
