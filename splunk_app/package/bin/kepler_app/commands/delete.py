"""``keplerdelete``: removes a model or one of its versions."""

from __future__ import annotations

from kepler_app import signatures
from kepler_app.generating import GeneratingCommand
from kepler_app.tables import one_word


class KeplerDelete(GeneratingCommand):
    """Risky: Splunk Web asks before it runs from a link."""

    name = "keplerdelete"
    changes_state = True

    def read_arguments(self) -> None:
        self._model = one_word(self.arguments, "model", self.name, "model")
        self.arguments.refuse_rest(self.name, ("model",))

    def table(self) -> tuple[list[str], list[list[str]]]:
        from kepler.v1 import models_pb2

        request = models_pb2.GetModelRequest(caller=self.caller(), model=self._model)
        reply = self.client.call("ModelService/DeleteModel", request, models_pb2.DeleteModelResponse)
        signatures.forget(self.info, self._model)
        self.note(model=reply.name, versions=len(reply.versions))
        return ["model", "version", "state"], [
            [reply.name, str(number), "deleted"] for number in reply.versions
        ]
