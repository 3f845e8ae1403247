"""``keplersummary``: what a model learned, as rows."""

from __future__ import annotations

from kepler_app.generating import GeneratingCommand
from kepler_app.lexer import boolean, choice, integer
from kepler_app.tables import one_word

VIEWS = ("default", "params", "importance", "metrics", "schema", "groups")


class KeplerSummary(GeneratingCommand):
    """Coefficients, importances, centres or a tree, as the algorithm has them."""

    name = "keplersummary"

    def read_arguments(self) -> None:
        take = self.arguments.take
        self._view = choice("view", take("view", default="default"), VIEWS)
        limit = take("limit")
        self._limit = integer("limit", limit, 1, 1_000_000) if limit else 0
        self._json = boolean("json", take("json", default="false"))
        self._model = one_word(self.arguments, "model", self.name, "model")
        self.arguments.refuse_rest(self.name, ("model", "view", "limit", "json"))

    def table(self) -> tuple[list[str], list[list[str]]]:
        from kepler.v1 import models_pb2

        request = models_pb2.SummarizeRequest(
            caller=self.caller(), model=self._model, view=self._view, limit=self._limit
        )
        reply = self.client.call("ModelService/Summarize", request, models_pb2.SummarizeResponse)
        version = f"{reply.version.name}@{reply.version.version}"
        columns = list(reply.table.columns)
        rows = [list(row.cells) for row in reply.table.rows]
        if not self._json:
            return columns, rows
        import json

        text = json.dumps([dict(zip(columns, row)) for row in rows], ensure_ascii=False)  # noqa: B905
        return ["model", "summary"], [[version, text]]
