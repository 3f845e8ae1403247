"""The calls of DeployService and EdgeService; `KeplerClient.deployments` and `KeplerClient.edge`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grpc

from kepler.client import convert
from kepler.client.errors import error_from_rpc
from kepler.client.fleet_records import (
    DeploymentLine,
    DeploymentPlace,
    DeploymentPlan,
    DeploymentRecord,
    EdgeAnswer,
    EdgeDevice,
    EdgeRollout,
    EdgeStep,
    EdgeToken,
    NamedText,
    RolloutDevice,
    TargetDescription,
)
from kepler.v1 import common_pb2, deploy_pb2, deploy_pb2_grpc, edge_pb2, edge_pb2_grpc

PAGE_SIZE = 500
GRACE_S = 10.0

Unary = Callable[[Any, Any], Any]


class DeployCalls:
    """Deployments of one connection."""

    def __init__(self, channel: grpc.Channel, unary: Unary, caller: Callable[[], common_pb2.Caller]) -> None:
        self._stub = deploy_pb2_grpc.DeployServiceStub(channel)
        self._unary = unary
        self._caller = caller

    def targets(self) -> list[TargetDescription]:
        """What one can deploy to."""
        reply = self._unary(self._stub.ListTargets, deploy_pb2.ListTargetsRequest())
        return [
            TargetDescription(item.name, tuple(item.aliases), item.description, item.extra)
            for item in reply.targets
        ]

    def plan(
        self, model: str, target: str, to: str = "", options: Mapping[str, str] | None = None
    ) -> DeploymentPlan:
        """What `deploy` would do; nothing changes."""
        reply = self._unary(self._stub.Plan, self._request(model, target, to, options, ""))
        return DeploymentPlan(
            reply.model,
            reply.target,
            tuple(NamedText(step.name, step.text) for step in reply.steps),
            _changes(reply),
            convert.notices_from_proto(reply.notices),
            reply.cost,
            reply.cost_per_month if reply.cost_known else None,
            reply.currency,
        )

    def deploy(
        self,
        model: str,
        target: str,
        to: str = "",
        options: Mapping[str, str] | None = None,
        deployment_id: str = "",
    ) -> DeploymentRecord:
        """Begin a deployment; with an id that was used for the same before, give that one."""
        request = self._request(model, target, to, options, deployment_id)
        return _deployment(self._unary(self._stub.Deploy, request))

    def list(self, target: str = "", *, limit: int = 100) -> list[DeploymentRecord]:
        """The newest ``limit`` deployments."""
        found: list[DeploymentRecord] = []
        token = ""
        while len(found) < limit:
            request = deploy_pb2.ListDeploymentsRequest(
                caller=self._caller(), target=target, page_size=min(limit, PAGE_SIZE), page_token=token
            )
            page = self._unary(self._stub.ListDeployments, request)
            found += [_deployment(item) for item in page.deployments]
            token = page.next_page_token
            if not token:
                break
        return found[:limit]

    def get(self, deployment_id: str) -> DeploymentRecord:
        request = deploy_pb2.GetDeploymentRequest(caller=self._caller(), id=deployment_id)
        return _deployment(self._unary(self._stub.GetDeployment, request))

    def logs(self, deployment_id: str, place: str = "", *, limit: int = 100) -> list[DeploymentLine]:
        """The newest lines, oldest first."""
        request = deploy_pb2.DeployLogsRequest(
            caller=self._caller(), id=deployment_id, place=place, limit=limit
        )
        reply = self._unary(self._stub.Logs, request)
        return [DeploymentLine(line.ts, line.where, line.text) for line in reply.lines]

    def traffic(
        self, deployment_id: str, shares: Mapping[int, float], *, dry_run: bool = False
    ) -> tuple[NamedText, ...]:
        """Split requests among versions, in percent; gives what changed."""
        request = deploy_pb2.TrafficRequest(
            caller=self._caller(), id=deployment_id, shares=dict(shares), dry_run=dry_run
        )
        return _changes(self._unary(self._stub.Traffic, request))

    def rollback(self, deployment_id: str, *, dry_run: bool = False) -> tuple[NamedText, ...]:
        """Put back what served before; gives what changed."""
        return _changes(self._unary(self._stub.Rollback, self._change(deployment_id, dry_run)))

    def delete(self, deployment_id: str, *, dry_run: bool = False) -> tuple[NamedText, ...]:
        """Remove a deployment; gives what changed."""
        return _changes(self._unary(self._stub.Delete, self._change(deployment_id, dry_run)))

    def _change(self, deployment_id: str, dry_run: bool) -> deploy_pb2.ChangeDeploymentRequest:
        return deploy_pb2.ChangeDeploymentRequest(caller=self._caller(), id=deployment_id, dry_run=dry_run)

    def _request(
        self, model: str, target: str, to: str, options: Mapping[str, str] | None, deployment_id: str
    ) -> deploy_pb2.DeployRequest:
        return deploy_pb2.DeployRequest(
            caller=self._caller(),
            model=model,
            target=target,
            to=to,
            options=dict(options or {}),
            id=deployment_id,
        )


class EdgeCalls:
    """The fleet, over one connection."""

    def __init__(
        self,
        channel: grpc.Channel,
        unary: Unary,
        caller: Callable[[], common_pb2.Caller],
        metadata: tuple[tuple[str, str], ...],
        address: str,
    ) -> None:
        self._stub = edge_pb2_grpc.EdgeServiceStub(channel)
        self._unary = unary
        self._caller = caller
        self._metadata = metadata
        self._address = address

    def devices(self, selector: str = "") -> list[EdgeDevice]:
        """All devices by name, or those that ``selector`` chooses (``site=plant7``)."""
        found: list[EdgeDevice] = []
        token = ""
        while True:
            request = edge_pb2.ListDevicesRequest(
                caller=self._caller(), selector=selector, page_size=PAGE_SIZE, page_token=token
            )
            page = self._unary(self._stub.ListDevices, request)
            found += [_device(item) for item in page.devices]
            token = page.next_page_token
            if not token:
                return found

    def device(self, device: str) -> EdgeDevice:
        return _device(self._unary(self._stub.GetDevice, self._named(device)))

    def set_labels(self, device: str, labels: Mapping[str, str]) -> EdgeDevice:
        """Replace a device's labels."""
        request = edge_pb2.SetLabelsRequest(caller=self._caller(), id=device, labels=dict(labels))
        return _device(self._unary(self._stub.SetLabels, request))

    def revoke(self, device: str) -> EdgeDevice:
        """Put a device out of the fleet."""
        return _device(self._unary(self._stub.RevokeDevice, self._named(device)))

    def create_token(
        self, device: str = "", labels: Mapping[str, str] | None = None, *, ttl_s: int = 0
    ) -> EdgeToken:
        """A one-time token with its text, which is shown once."""
        request = edge_pb2.CreateJoinTokenRequest(
            caller=self._caller(), device=device, labels=dict(labels or {}), ttl_s=ttl_s
        )
        reply = self._unary(self._stub.CreateToken, request)
        return _token(reply.token, reply.text)

    def tokens(self) -> list[EdgeToken]:
        """Newest first, without their texts."""
        reply = self._unary(self._stub.ListTokens, edge_pb2.ListJoinTokensRequest(caller=self._caller()))
        return [_token(item) for item in reply.tokens]

    def register(self, certificate_pem: str, labels: Mapping[str, str] | None = None) -> EdgeDevice:
        """Enrol a device whose certificate the site's own authority made."""
        request = edge_pb2.RegisterCertificateRequest(
            caller=self._caller(), certificate_pem=certificate_pem, labels=dict(labels or {})
        )
        return _device(self._unary(self._stub.RegisterCertificate, request))

    def rollouts(self, *, limit: int = 100) -> list[EdgeRollout]:
        """The newest ``limit`` rollouts."""
        request = edge_pb2.ListRolloutsRequest(caller=self._caller(), page_size=min(limit, 1000))
        return [_rollout(item) for item in self._unary(self._stub.ListRollouts, request).rollouts]

    def rollout(self, rollout: str) -> EdgeRollout:
        request = edge_pb2.GetRolloutRequest(caller=self._caller(), id=rollout)
        return _rollout(self._unary(self._stub.GetRollout, request))

    def change_rollout(self, rollout: str, action: str, reason: str = "") -> EdgeRollout:
        """``pause``, ``resume``, ``stop`` or ``rollback``."""
        request = edge_pb2.ChangeRolloutRequest(
            caller=self._caller(), id=rollout, action=action, reason=reason
        )
        return _rollout(self._unary(self._stub.ChangeRollout, request))

    def steps(self, rollout: str, device: str = "", *, limit: int = 100) -> list[EdgeStep]:
        """What devices told of their installations, newest first."""
        request = edge_pb2.ListStepsRequest(
            caller=self._caller(), rollout=rollout, device=device, limit=limit
        )
        return [
            EdgeStep(
                item.device, item.received_at, item.ts, item.from_state, item.to_state, item.reason,
                _object(item.data_json),
            )
            for item in self._unary(self._stub.ListSteps, request).steps
        ]  # fmt: skip

    def command(
        self, device: str, verb: str, args: Mapping[str, str] | None = None, *, wait_s: float = 30.0
    ) -> Iterator[EdgeAnswer]:
        """Send a command; gives the answers as they come."""
        request = edge_pb2.SendCommandRequest(
            caller=self._caller(), device=device, verb=verb, args=dict(args or {}), wait_s=wait_s
        )
        call: Any = self._stub.SendCommand(request, timeout=wait_s + GRACE_S, metadata=self._metadata)
        try:
            for item in call:
                yield EdgeAnswer(item.stage, item.text, _object(item.data_json), item.part, item.parts)
        except grpc.RpcError as error:
            raise error_from_rpc(error, address=self._address) from error
        finally:
            call.cancel()

    def _named(self, device: str) -> edge_pb2.GetDeviceRequest:
        return edge_pb2.GetDeviceRequest(caller=self._caller(), id=device)


def _changes(reply: Any) -> tuple[NamedText, ...]:
    return tuple(NamedText(change.what, change.text) for change in reply.changes)


def _deployment(item: deploy_pb2.Deployment) -> DeploymentRecord:
    return DeploymentRecord(
        item.id,
        item.target,
        item.model,
        item.to,
        item.owner,
        item.created_at,
        item.state,
        item.reason,
        item.url,
        tuple(
            DeploymentPlace(place.name, place.state, place.detail, place.updated_at) for place in item.places
        ),
        {figure.name: figure.value for figure in item.figures},
        dict(item.options),
        convert.job_from_proto(item.job) if item.HasField("job") else None,
    )


def _device(item: edge_pb2.Device) -> EdgeDevice:
    return EdgeDevice(
        item.id,
        item.state,
        dict(item.labels),
        item.online,
        item.seen_at,
        item.enrolled_at,
        item.agent,
        tuple(item.caps),
        tuple(NamedText(f"{model.name}@{model.version}", model.state) for model in item.models),
        item.rev,
        item.rev_seen,
        item.rev_applied,
        item.status,
        item.error,
        item.epoch,
        item.certificate_expires_at,
    )


def _token(item: edge_pb2.JoinToken, text: str = "") -> EdgeToken:
    return EdgeToken(
        item.id, item.device, dict(item.labels), item.created_by, item.created_at, item.expires_at,
        item.used_by, item.used_at, text,
    )  # fmt: skip


def _rollout(item: edge_pb2.Rollout) -> EdgeRollout:
    plan = {
        "success_share": item.success_share, "error_share": item.error_share, "on_error": item.on_error,
        "device_s": item.device_s, "soak_s": item.soak_s, "total_s": item.total_s,
    }  # fmt: skip
    return EdgeRollout(
        item.id, item.model, item.version, item.selector, item.owner, item.state, item.reason, item.stage,
        tuple(item.stages), item.created_at, item.ended_at, item.devices, item.committed, item.underway,
        item.failed, item.waiting, plan,
        tuple(
            RolloutDevice(
                part.device, part.stage, part.part, part.step, part.reason, part.offered_at, part.ended_at
            )
            for part in item.parts
        ),
    )  # fmt: skip


def _object(text: str) -> dict[str, Any]:
    found: Any = json.loads(text) if text else {}
    return found if isinstance(found, dict) else {}
