"""``kepleredge``: the fleet of gateways, as a search sees it."""

from __future__ import annotations

from kepler_app import deployments
from kepler_app.errors import SearchError
from kepler_app.generating import GeneratingCommand
from kepler_app.lexer import boolean, choice, integer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ACTIONS = ("deploy", "status", "devices", "rollout", "rollback", "logs")
CHANGES = ("pause", "resume", "stop")
_PAGE = 1000
_FORM = (
    'Write kepleredge deploy <model>[@version] to="site=plant7", or kepleredge devices [to="<labels>"], or kepleredge '
    "status|logs|rollback <rollout>, or kepleredge rollout [pause|resume|stop] [<rollout>]"
)


class KeplerEdge(GeneratingCommand):
    """``deploy`` is keplerdeploy with ``target=edge``; the rest looks at the fleet and steers its rollouts."""

    name = "kepleredge"

    def read_arguments(self) -> None:
        words = [word.text for word in self.arguments.words]
        take = self.arguments.take
        action = take("action") or (words.pop(0) if words else "")
        if not action:
            raise SearchError(f"No action is named. {_FORM}.")
        self._action = choice("action", action, ACTIONS)
        if self._action == "deploy":
            self._order = deployments.Order(words, self.arguments, "edge", _FORM)
            self.changes_state = not self._order.dry_run
            return
        self._change = words.pop(0) if self._action == "rollout" and words and words[0] in CHANGES else ""
        self._id = take("id", "rollout") or (words.pop(0) if words and self._action != "devices" else "")
        self._to = take("to") or (words.pop(0) if words and self._action == "devices" else "")
        self._device, self._reason = take("device"), take("reason")
        self._count = integer("count", take("count", default="1000"), 1, 100_000)
        self._dry_run = boolean("dry_run", take("dry_run", default="false"))
        self.arguments.refuse_rest(self.name, ("action", "id", "to", "device", "reason", "count", "dry_run"))
        needs_id = self._action in ("logs", "rollback") or bool(self._change)
        if words or (needs_id and not self._id):
            raise SearchError(f"{_FORM}.")
        self.changes_state = (self._action == "rollback" and not self._dry_run) or bool(self._change)

    def table(self) -> tuple[list[str], list[list[str]]]:
        client, caller = self.client, self.caller()
        if self._action == "deploy":
            return self._order.run(client, caller, self.say)
        if self._action == "devices" or (self._action == "status" and not self._id):
            return deployments.DEVICE_COLUMNS, [deployments.device_row(item) for item in self._devices()]
        if self._action == "status":
            found = deployments.get(client, caller, self._id)
            return deployments.PLACE_COLUMNS, deployments.place_rows(found)
        if self._action == "logs":
            rows = deployments.logs(client, caller, self._id, self._device, min(self._count, 10_000))
            return deployments.LOG_COLUMNS, rows
        if self._action == "rollback":
            self.note(rollout=self._id, action="rollback")
            rows = deployments.change(client, caller, "Rollback", self._id, self._dry_run)
            return deployments.CHANGE_COLUMNS, rows
        return deployments.ROLLOUT_COLUMNS, [deployments.rollout_row(item) for item in self._rollouts()]

    def _devices(self) -> list[Any]:
        from kepler.v1 import edge_pb2

        found: list[Any] = []
        token = ""
        while len(found) < self._count:
            request = edge_pb2.ListDevicesRequest(
                caller=self.caller(),
                selector=self._to,
                page_size=min(_PAGE, self._count - len(found)),
                page_token=token,
            )
            reply = self.client.call("EdgeService/ListDevices", request, edge_pb2.ListDevicesResponse)
            found.extend(reply.devices)
            token = reply.next_page_token
            if not token:
                break
        return found[: self._count]

    def _rollouts(self) -> list[Any]:
        from kepler.v1 import edge_pb2

        if self._change:
            self.note(rollout=self._id, action=self._change)
            change = edge_pb2.ChangeRolloutRequest(
                caller=self.caller(), id=self._id, action=self._change, reason=self._reason
            )
            return [self.client.call("EdgeService/ChangeRollout", change, edge_pb2.Rollout)]
        if self._id:
            request = edge_pb2.GetRolloutRequest(caller=self.caller(), id=self._id)
            return [self.client.call("EdgeService/GetRollout", request, edge_pb2.Rollout)]
        listing = edge_pb2.ListRolloutsRequest(caller=self.caller(), page_size=min(self._count, _PAGE))
        return list(
            self.client.call("EdgeService/ListRollouts", listing, edge_pb2.ListRolloutsResponse).rollouts
        )
