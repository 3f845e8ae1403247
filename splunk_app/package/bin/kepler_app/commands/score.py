"""``keplerscore``: columns compared with each other by the methods of the toolkit's ``score``."""

from __future__ import annotations

from kepler_app.chunks import Reply
from kepler_app.errors import SearchError
from kepler_app.grammar import ScoreRequest, parse_score
from kepler_app.rows import cut, read_header, remapped, sendable, table_body
from kepler_app.session import ServiceCommand

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from kepler_app.streams import ScoreUpload


class KeplerScore(ServiceCommand):
    """Reporting: all rows up, one table back."""

    name = "keplerscore"

    def __init__(self) -> None:
        super().__init__()
        self.request = ScoreRequest()
        self._columns: list[str] = []
        self._upload: ScoreUpload | None = None

    def getinfo(self, metadata: dict[str, Any]) -> dict[str, Any]:
        info = self.plan(metadata)
        info.refuse_realtime(self.name)
        self.request = parse_score(info.raw_args)
        fields = list(dict.fromkeys([*self.request.actual, *self.request.predicted, *self.request.by]))
        reply: dict[str, Any] = {"type": "reporting"}
        if not any("*" in name for name in fields):
            reply["required_fields"] = fields
        return reply

    def execute(self, body: bytes, finished: bool) -> Reply:
        if self.info.preview:
            return Reply()
        columns, start = read_header(body)
        for slice_ in cut(body, start, len(columns)):
            if self._upload is None:
                self._open(columns)
            assert self._upload is not None
            raw = slice_.raw
            if columns != self._columns:
                raw = b"\n".join(remapped(raw, columns, self._columns)) + b"\n"
            self._upload.send(raw)
        if not finished:
            return Reply()
        if self._upload is None:
            raise SearchError("No rows came to keplerscore. Check the search before it and its time range.")
        reply = self._upload.finish()
        self.say_notices(reply.notices)
        return Reply([table_body(list(reply.table.columns), [list(row.cells) for row in reply.table.rows])])

    def _open(self, columns: list[str]) -> None:
        from kepler.v1 import prediction_pb2
        from kepler_app.streams import ScoreUpload

        request = self.request
        self._columns = columns
        self._upload = ScoreUpload(self.client)
        self._upload.open(
            prediction_pb2.ScoreOpen(
                caller=self.caller(),
                columns=sendable(columns),
                methods=request.methods,
                actual=request.actual,
                predicted=request.predicted,
                by=request.by,
                params=request.params,
            )
        )
