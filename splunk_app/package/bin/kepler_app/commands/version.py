"""``keplerversion``: lists a model's versions and moves its aliases; the one command that does."""

from __future__ import annotations

from kepler_app.errors import SearchError
from kepler_app.generating import GeneratingCommand
from kepler_app.lexer import choice
from kepler_app.tables import MODEL_COLUMNS, model_row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ACTIONS = ("list", "alias", "promote", "rollback", "unalias")
DEFAULT_ALIAS = "prod"
_FORM = "Write keplerversion list|alias|promote|rollback|unalias <model>[@version] [to=<alias>]"


class KeplerVersion(GeneratingCommand):
    """``promote m@7`` points ``prod`` at version 7, ``rollback m`` points it back to where it was."""

    name = "keplerversion"
    changes_state = True

    def read_arguments(self) -> None:
        words = [word.text for word in self.arguments.words]
        action = self.arguments.take("action") or (words.pop(0) if words else "")
        if not action:
            raise SearchError(f"No action is named. {_FORM}.")
        self._action = choice("action", action, ACTIONS)
        alias = self.arguments.take("to", "alias")
        model = self.arguments.take("model") or (words.pop(0) if words else "")
        alias = alias or (words.pop(0) if words else "")
        self.arguments.refuse_rest(self.name, ("action", "model", "to"))
        if not model or words:
            raise SearchError(f"{'No model is named' if not model else 'There are too many words'}. {_FORM}.")
        if self._action in ("alias", "unalias") and not alias:
            raise SearchError(f"No alias is named. {_FORM}, for example {self._action} {model} to=prod.")
        if self._action == "list" and alias:
            raise SearchError("'list' takes no alias. Write keplerversion list <model>.")
        self._model, self._alias = model, alias or DEFAULT_ALIAS

    def table(self) -> tuple[list[str], list[list[str]]]:
        from kepler.v1 import models_pb2

        if self._action == "list":
            request = models_pb2.GetModelRequest(caller=self.caller(), model=self._model)
            reply = self.client.call("ModelService/ListVersions", request, models_pb2.ListVersionsResponse)
            return MODEL_COLUMNS, [model_row(version) for version in reply.versions]
        method = {"rollback": "Rollback", "unalias": "DeleteAlias"}.get(self._action, "SetAlias")
        version: Any = self.client.call(
            f"ModelService/{method}",
            models_pb2.SetAliasRequest(caller=self.caller(), model=self._model, alias=self._alias),
            models_pb2.ModelVersion,
        )
        self.note(model=f"{version.name}@{version.version}", alias=self._alias, action=self._action)
        return MODEL_COLUMNS, [model_row(version)]
