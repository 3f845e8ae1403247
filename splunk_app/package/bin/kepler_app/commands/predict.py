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
    from typing import Any

    from kepler_app.streams import PredictStream


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
        assert self._stream is not None
        began = time.monotonic()
        parts = self._stream.score(cut(body, start, len(columns)), self._appender)
        self.timed("score", began)
        self.say_notices(self._stream.notices)
        self._stream.notices.clear()
        self._rows += sum(part.count(b"\n") for part in parts)
        self._end(finished)
        return Reply([self._appender.header, *parts])

    def _end(self, finished: bool) -> None:
        if finished and self._stream is not None:
            self._stream.finish()
            self.note(rows=self._rows)

    def _open(self, columns: list[str]) -> None:
        """Open the stream for rows of ``columns``; the version, once resolved, stays for the search."""
        if self._stream is not None:
            self._stream.finish()
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
        self._model = opened.model
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
