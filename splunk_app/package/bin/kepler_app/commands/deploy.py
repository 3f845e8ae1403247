"""``keplerdeploy``: brings a model version to where it serves, and looks after what was deployed."""

from __future__ import annotations

from kepler_app import deployments
from kepler_app.errors import SearchError
from kepler_app.generating import GeneratingCommand
from kepler_app.lexer import boolean, integer

ACTIONS = ("list", "status", "logs", "rollback", "delete", "targets")
_FORM = (
    'Write keplerdeploy <model>[@version] target=<target> to="<where>" [dry_run=true], or keplerdeploy '
    "list|targets|status|logs|rollback|delete [<deployment>]"
)


class KeplerDeploy(GeneratingCommand):
    """``keplerdeploy app:m@prod target=edge to="site=plant7"``; a first word that is an action is one."""

    name = "keplerdeploy"

    def read_arguments(self) -> None:
        words = [word.text for word in self.arguments.words]
        take = self.arguments.take
        self._action = take("action").lower() or (words.pop(0) if words and words[0] in ACTIONS else "deploy")
        if self._action == "deploy":
            self._order = deployments.Order(words, self.arguments, "", _FORM)
            self.changes_state = not self._order.dry_run
            return
        if self._action not in ACTIONS:
            raise SearchError(f"{self._action[:40]!r} is no action. {_FORM}.")
        self._id = take("id", "deployment") or (words.pop(0) if words else "")
        self._target, self._place = take("target"), take("place")
        self._count = integer("count", take("count", default="100"), 1, 10_000)
        self._dry_run = boolean("dry_run", take("dry_run", default="false"))
        self.arguments.refuse_rest(self.name, ("action", "id", "target", "place", "count", "dry_run"))
        if words or bool(self._id) == (self._action in ("list", "targets")):
            raise SearchError(f"{_FORM}.")
        self.changes_state = self._action in ("rollback", "delete") and not self._dry_run

    def table(self) -> tuple[list[str], list[list[str]]]:
        from kepler.v1 import deploy_pb2

        client, caller = self.client, self.caller()
        if self._action == "deploy":
            return self._order.run(client, caller, self.say)
        if self._action == "status":
            found = deployments.get(client, caller, self._id)
            if found.places:
                return deployments.PLACE_COLUMNS, deployments.place_rows(found)
            return deployments.DEPLOYMENT_COLUMNS, [deployments.deployment_row(found)]
        if self._action == "logs":
            return deployments.LOG_COLUMNS, deployments.logs(
                client, caller, self._id, self._place, self._count
            )
        if self._action in ("rollback", "delete"):
            method = self._action.capitalize()
            self.note(deployment=self._id, action=self._action)
            return deployments.CHANGE_COLUMNS, deployments.change(
                client, caller, method, self._id, self._dry_run
            )
        if self._action == "targets":
            targets = client.call(
                "DeployService/ListTargets", deploy_pb2.ListTargetsRequest(), deploy_pb2.ListTargetsResponse
            )
            rows = [[item.name, ",".join(item.aliases), item.description] for item in targets.targets]
            return ["target", "aliases", "description"], rows
        request = deploy_pb2.ListDeploymentsRequest(
            caller=caller, target=self._target, page_size=min(self._count, 1000)
        )
        reply = client.call("DeployService/ListDeployments", request, deploy_pb2.ListDeploymentsResponse)
        return deployments.DEPLOYMENT_COLUMNS, [
            deployments.deployment_row(item) for item in reply.deployments
        ]
