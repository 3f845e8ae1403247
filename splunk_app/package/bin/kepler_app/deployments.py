"""Deployments and devices as rows, and the arguments that keplerdeploy and kepleredge share."""

from __future__ import annotations

import time

from kepler_app.errors import SearchError
from kepler_app.lexer import Arguments, boolean
from kepler_app.tables import when

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

DEPLOYMENT_COLUMNS = [
    "deployment", "state", "reason", "model", "target", "to", "figures", "owner", "created", "url", "job_state",
]  # fmt: skip
PLACE_COLUMNS = ["deployment", "deployment_state", "place", "state", "detail", "updated"]
PLAN_COLUMNS = ["model", "target", "kind", "name", "text"]
CHANGE_COLUMNS = ["deployment", "where", "change", "dry_run"]
LOG_COLUMNS = ["_time", "where", "text"]
DEVICE_COLUMNS = [
    "device", "state", "online", "labels", "seen", "agent", "models", "rev", "rev_applied", "status", "error",
]  # fmt: skip
ROLLOUT_COLUMNS = [
    "rollout", "state", "reason", "model", "version", "to", "stage", "stages", "devices", "committed", "underway",
    "failed", "waiting", "owner", "created", "ended",
]  # fmt: skip
FINAL = ("succeeded", "failed", "rolled-back", "deleted")
_LOOK_S = 1.0


def deployment_row(item: Any) -> list[str]:
    """One deployment, in the order of `DEPLOYMENT_COLUMNS`."""
    from kepler_app.jobs import state_name

    figures = " ".join(f"{figure.name}={figure.value:g}" for figure in item.figures)
    job = state_name(item.job) if item.HasField("job") else ""
    return [
        item.id, item.state, item.reason, item.model, item.target, item.to, figures, item.owner,
        when(item.created_at), item.url, job,
    ]  # fmt: skip


def place_rows(item: Any) -> list[list[str]]:
    """The places of one deployment, in the order of `PLACE_COLUMNS`."""
    return [
        [item.id, item.state, place.name, place.state, place.detail, when(place.updated_at)]
        for place in item.places
    ]


def plan_rows(reply: Any) -> list[list[str]]:
    """Steps, changes and cost of a plan, in the order of `PLAN_COLUMNS`."""
    rows = [[reply.model, reply.target, "step", step.name, step.text] for step in reply.steps]
    rows += [[reply.model, reply.target, "change", change.what, change.text] for change in reply.changes]
    return [*rows, [reply.model, reply.target, "cost", reply.currency, reply.cost]]


def change_rows(deployment: str, reply: Any, dry_run: bool) -> list[list[str]]:
    """What changed, or would, in the order of `CHANGE_COLUMNS`."""
    said = "true" if dry_run else "false"
    return [[deployment, change.what, change.text, said] for change in reply.changes]


def device_row(item: Any) -> list[str]:
    """One device, in the order of `DEVICE_COLUMNS`."""
    labels = ",".join(f"{name}={value}" for name, value in sorted(item.labels.items()))
    models = " ".join(f"{model.name}@{model.version}:{model.state}" for model in item.models)
    return [
        item.id, item.state, "true" if item.online else "false", labels, when(item.seen_at), item.agent, models,
        str(item.rev), str(item.rev_applied), item.status, item.error,
    ]  # fmt: skip


def rollout_row(item: Any) -> list[str]:
    """One rollout, in the order of `ROLLOUT_COLUMNS`."""
    stages = ",".join(f"{share:g}" for share in item.stages)
    counts = [item.devices, item.committed, item.underway, item.failed, item.waiting]
    return [
        item.id, item.state, item.reason, item.model, str(item.version), item.selector, str(item.stage), stages,
        *(str(count) for count in counts), item.owner, when(item.created_at), when(item.ended_at),
    ]  # fmt: skip


class Order:
    """A deployment as a search asks for it: ``<model> target=.. to=.. dry_run=.. wait=.. timeout=.. option=..``."""

    def __init__(self, words: list[str], arguments: Arguments, target: str, form: str) -> None:
        from kepler_app.grammar import timeout_s

        take = arguments.take
        self.model = take("model") or (words.pop(0) if words else "")
        self.target = take("target") or target
        self.to = take("to")
        self.id = take("id")
        self.dry_run = boolean("dry_run", take("dry_run", default="false"))
        self.wait = boolean("wait", take("wait", default="false"))
        self.timeout_s = timeout_s(take("timeout"))
        self.options = dict(arguments.options)  # the target knows its own options, and refuses the rest
        if not self.model or not self.target or words:
            missing = "model" if not self.model else "target"
            raise SearchError(f"{'There are too many words' if words else f'No {missing} is named'}. {form}.")
        if target and self.target != target:
            raise SearchError(
                f"kepleredge deploys to devices alone. Write keplerdeploy {self.model} target={self.target}."
            )

    def request(self, caller: Any) -> Any:
        from kepler.v1 import deploy_pb2

        return deploy_pb2.DeployRequest(
            caller=caller, model=self.model, target=self.target, to=self.to, options=self.options, id=self.id
        )

    def run(
        self, client: Any, caller: Any, say: Callable[[str, str], None]
    ) -> tuple[list[str], list[list[str]]]:
        """Plan or begin it; gives the table."""
        from kepler.v1 import deploy_pb2

        request = self.request(caller)
        if self.dry_run:
            plan = client.call("DeployService/Plan", request, deploy_pb2.PlanResponse)
            for notice in plan.notices:
                say("WARN", notice.text)
            return PLAN_COLUMNS, plan_rows(plan)
        found = client.call("DeployService/Deploy", request, deploy_pb2.Deployment)
        deadline = time.monotonic() + self.timeout_s
        while self.wait and found.state not in FINAL:
            if time.monotonic() >= deadline:
                say(
                    "WARN",
                    f"The deployment {found.id} has not ended within {self.timeout_s:g} seconds; it goes on.",
                )
                break
            time.sleep(_LOOK_S)
            found = get(client, caller, found.id)
        return DEPLOYMENT_COLUMNS, [deployment_row(found)]


def get(client: Any, caller: Any, deployment: str) -> Any:
    """One deployment."""
    from kepler.v1 import deploy_pb2

    request = deploy_pb2.GetDeploymentRequest(caller=caller, id=deployment)
    return client.call("DeployService/GetDeployment", request, deploy_pb2.Deployment)


def logs(client: Any, caller: Any, deployment: str, place: str, count: int) -> list[list[str]]:
    """What happened, oldest first, in the order of `LOG_COLUMNS`."""
    from kepler.v1 import deploy_pb2

    request = deploy_pb2.DeployLogsRequest(caller=caller, id=deployment, place=place, limit=count)
    reply = client.call("DeployService/Logs", request, deploy_pb2.DeployLogsResponse)
    return [[f"{line.ts:.3f}", line.where, line.text] for line in reply.lines]


def change(client: Any, caller: Any, method: str, deployment: str, dry_run: bool) -> list[list[str]]:
    """``Rollback`` or ``Delete``; rows in the order of `CHANGE_COLUMNS`."""
    from kepler.v1 import deploy_pb2

    request = deploy_pb2.ChangeDeploymentRequest(caller=caller, id=deployment, dry_run=dry_run)
    reply = client.call(f"DeployService/{method}", request, deploy_pb2.ChangesResponse)
    return change_rows(deployment, reply, dry_run)
