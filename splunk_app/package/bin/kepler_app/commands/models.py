"""``keplermodels``: the models the user may see."""

from __future__ import annotations

from kepler_app.errors import SearchError
from kepler_app.generating import GeneratingCommand
from kepler_app.lexer import boolean
from kepler_app.tables import MODEL_COLUMNS, model_row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PAGE = 200


class KeplerModels(GeneratingCommand):
    """The newest version of each model, or every version."""

    name = "keplermodels"

    def read_arguments(self) -> None:
        words = self.arguments.words
        name = self.arguments.take("name")
        self._versions = boolean("versions", self.arguments.take("versions", default="false"))
        self.arguments.refuse_rest(self.name, ("name", "versions"))
        if len(words) + bool(name) > 1:
            raise SearchError(
                "More than one name is given. Write keplermodels [name=<pattern>] [versions=true]."
            )
        pattern = name or (words[0].text if words else "")
        self._pattern = pattern if not pattern or "/" in pattern else f"*/{pattern.split(':', 1)[-1]}"

    def table(self) -> tuple[list[str], list[list[str]]]:
        models = self._models()
        if self._versions:
            models = [version for model in models for version in self._all_versions(model.name)]
        return MODEL_COLUMNS, [model_row(version) for version in models]

    def _models(self) -> list[Any]:
        from kepler.v1 import models_pb2

        found: list[Any] = []
        token = ""
        while True:
            request = models_pb2.ListModelsRequest(
                caller=self.caller(), pattern=self._pattern, page_size=_PAGE, page_token=token
            )
            reply = self.client.call("ModelService/ListModels", request, models_pb2.ListModelsResponse)
            found.extend(reply.models)
            token = reply.next_page_token
            if not token:
                return found

    def _all_versions(self, name: str) -> list[Any]:
        from kepler.v1 import models_pb2

        request = models_pb2.GetModelRequest(caller=self.caller(), model=name)
        return list(
            self.client.call("ModelService/ListVersions", request, models_pb2.ListVersionsResponse).versions
        )
