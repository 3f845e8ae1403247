"""``keplerpredict``: rows in, the same rows with the model's columns out."""

from __future__ import annotations

import time

from kepler_app import settings, signatures
from kepler_app.chunks import Reply
from kepler_app.errors import SearchError
from kepler_app.grammar import PredictRequest, parse_predict
from kepler_app.rows import Appender, cut, read_header, sendable
from kepler_app.session import ServiceCommand

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from kepler_app.rows import Slice
    from kepler_app.streams import PredictStream

_REOPENINGS = 2  # of one chunk: a service that ends stream after stream is not idle but broken


class KeplerPredict(ServiceCommand):
    """Stateful: on the search head, in chunks, and only with the fields the model reads once these are known."""

    name = "keplerpredict"

    def __init__(self) -> None:
        super().__init__()
        self.request = PredictRequest()
        self._known: signatures.Signature | None = None
        self._columns: list[str] = []
        self._stream: PredictStream | None = None
        self._appender = Appender([], [])
        self._model = ""
        self._signature = ""
        self._reopened = 0
        self._rows = 0

    def getinfo(self, metadata: dict[str, Any]) -> dict[str, Any]:
        info = self.plan(metadata)
        self.request = parse_predict(info.raw_args)
        reply: dict[str, Any] = {"type": "stateful"}
        if settings.transfer() == "auto":
            self._known = signatures.read(info, self.request.model)
        if self._known is not None:
            reply["required_fields"] = self._known.required_fields
        return reply

    def execute(self, body: bytes, finished: bool) -> Reply:
        columns, start = read_header(body)
        if not columns:
            self._end(finished)
            return Reply()
        if columns != self._columns or self._stream is None:
            self._open(columns)
        began = time.monotonic()
        parts = self._score(cut(body, start, len(columns)))
        self.timed("score", began)
        self._end(finished)
        return Reply([self._appender.header, *parts])

    def _score(self, slices: Iterable[Slice]) -> list[bytes]:
        """Records of ``slices`` with the model's columns, over a new stream if the service ended the last one.

        It does when nothing came for minutes: indexers are quiet, or the commands before this one are slow.
        """
        from kepler_app.streams import Chunk, ended_idle

        chunk = Chunk(slices, self._appender)
        for left in range(_REOPENINGS, -1, -1):
            assert self._stream is not None
            try:
                self._stream.score(chunk)
                break
            except SearchError as error:
                if not left or not ended_idle(error):
                    raise
            self._reopen()
        self._say_notices_of_stream()
        self._rows += chunk.rows
        return chunk.parts

    def _reopen(self) -> None:
        """Another stream for the same version, the same columns and the same answers."""
        self._say_notices_of_stream()
        opened = self._open_stream(self.client, self._columns, self._signature)
        if opened.signature_changed or list(opened.output_columns) != self._appender.new:
            raise SearchError(
                f"The model {self._model!r} changed while the search ran. Run the search again.", "Conflict"
            )
        self._reopened += 1
        self.note(reopened=self._reopened)

    def _say_notices_of_stream(self) -> None:
        assert self._stream is not None
        self.say_notices(self._stream.notices)
        self._stream.notices.clear()

    def _end(self, finished: bool) -> None:
        if finished and self._stream is not None:
            self._finish_stream()
            self.note(rows=self._rows)

    def _finish_stream(self) -> None:
        """End the stream; all of its rows are answered, so one that the service ended before us is fine, too."""
        from kepler_app.streams import ended_idle

        assert self._stream is not None
        try:
            self._stream.finish()
        except SearchError as error:
            if not ended_idle(error):
                raise

    def _open(self, columns: list[str]) -> None:
        """Open the stream for rows of ``columns``; the version, once resolved, stays for the search."""
        if self._stream is not None:
            self._finish_stream()
        client = self.client
        began = time.monotonic()
        known = self._known.signature if self._known else ""
        opened = self._resolve(client, columns, known)
        if known and opened.signature != known:
            self._remember(opened)
            self._known = None
            if not set(opened.required_fields) <= set(columns):
                raise SearchError(
                    f"The model {self.request.model!r} changed and now reads other fields than when this search "
                    "was planned. Run the search again.",
                    "Conflict",
                )
            if opened.signature_changed:
                opened = self._open_stream(client, columns, "")
        elif not known and settings.transfer() == "auto":
            self._remember(opened)
        self._columns = columns
        self._model, self._signature = opened.model, opened.signature
        self._appender = Appender(columns, opened.output_columns)
        self.note(model=opened.model)
        self.timed("open", began)

    def _resolve(self, client: Any, columns: list[str], signature: str) -> Any:
        """Open with the signature the columns were chosen by.

        A service that finds it stale says so and ends the stream at once; when the end overtakes the words,
        opening again without a signature tells what changed.
        """
        try:
            return self._open_stream(client, columns, signature)
        except SearchError as error:
            if not signature or error.code != "Unavailable":
                raise
            return self._open_stream(client, columns, "")

    def _open_stream(self, client: Any, columns: list[str], signature: str) -> Any:
        from kepler.v1 import prediction_pb2
        from kepler_app.streams import PredictStream

        self._stream = PredictStream(client)
        options = prediction_pb2.PredictOptions(
            probabilities=self.request.probabilities,
            on_missing=self.request.on_missing,
            overrides=self.request.overrides,
            **{"as": self.request.as_name},
        )
        return self._stream.open(
            prediction_pb2.PredictOpen(
                caller=self.caller(),
                model=self._model or self.request.model,
                columns=sendable(columns),
                options=options,
                signature=signature,
            )
        )

    def _remember(self, opened: Any) -> None:
        found = signatures.Signature(opened.signature, list(opened.required_fields), opened.model)
        signatures.write(self.info, self.request.model, found)
