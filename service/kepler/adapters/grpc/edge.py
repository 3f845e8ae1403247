"""EdgeService: convert in, call one use case, convert out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

from kepler.adapters.grpc.calls import principal
from kepler.adapters.grpc.convert import caller_from_proto, offset_of, page_token
from kepler.core.errors import InvalidInput
from kepler.fleet.devices import Device, Selector
from kepler.fleet.rollouts import Counts, DevicePart, Rollout
from kepler.ports.fleet import DeviceStore, JoinToken, Step
from kepler.usecases.command_devices import CommandDevices
from kepler.usecases.enrol import EnrolDevices
from kepler.usecases.fleet import ManageRollouts
from kepler.v1 import edge_pb2 as pb

MAX_PAGE = 1000
MAX_STEPS = 10_000
DEFAULT_WAIT_S = 30.0
ACTIONS = ("pause", "resume", "stop", "rollback")
T = TypeVar("T")


class EdgeServicer:
    def __init__(
        self,
        devices: DeviceStore,
        enrol: EnrolDevices,
        rollouts: ManageRollouts,
        commands: CommandDevices,
        pool: Executor,
    ) -> None:
        self._devices = devices
        self._enrol = enrol
        self._rollouts = rollouts
        self._commands = commands
        self._pool = pool

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def ListDevices(self, request: pb.ListDevicesRequest) -> pb.ListDevicesResponse:
        offset, size = offset_of(request.page_token), min(request.page_size or 100, MAX_PAGE)
        selector = Selector.parse(request.selector) if request.selector.strip() else None
        found = await self._run(lambda: self._devices.devices(selector, limit=size + 1, offset=offset))
        return pb.ListDevicesResponse(
            devices=[_device(item) for item in found[:size]],
            next_page_token=page_token(offset + size if len(found) > size else 0),
        )

    async def GetDevice(self, request: pb.GetDeviceRequest) -> pb.Device:
        def work() -> pb.Device:
            message = _device(self._devices.device(request.id))
            holding = [
                item.expires_at for item in self._enrol.certificates(request.id) if not item.revoked_at
            ]
            message.certificate_expires_at = max(holding, default=0.0)
            return message

        return await self._run(work)

    async def SetLabels(self, request: pb.SetLabelsRequest) -> pb.Device:
        caller = caller_from_proto(request.caller, principal())
        return _device(
            await self._run(lambda: self._enrol.set_labels(caller, request.id, dict(request.labels)))
        )

    async def RevokeDevice(self, request: pb.GetDeviceRequest) -> pb.Device:
        caller = caller_from_proto(request.caller, principal())
        return _device(await self._run(lambda: self._enrol.revoke(caller, request.id)))

    async def CreateToken(self, request: pb.CreateJoinTokenRequest) -> pb.CreateJoinTokenResponse:
        caller = caller_from_proto(request.caller, principal())
        token, text = await self._run(
            lambda: self._enrol.create_token(
                caller, request.device, dict(request.labels), float(request.ttl_s)
            )
        )
        return pb.CreateJoinTokenResponse(token=_token(token), text=text)

    async def ListTokens(self, request: pb.ListJoinTokensRequest) -> pb.ListJoinTokensResponse:
        return pb.ListJoinTokensResponse(
            tokens=[_token(item) for item in await self._run(self._enrol.tokens)]
        )

    async def RegisterCertificate(self, request: pb.RegisterCertificateRequest) -> pb.Device:
        caller = caller_from_proto(request.caller, principal())
        return _device(
            await self._run(
                lambda: self._enrol.register(caller, request.certificate_pem, dict(request.labels))
            )
        )

    async def ListRollouts(self, request: pb.ListRolloutsRequest) -> pb.ListRolloutsResponse:
        offset, size = offset_of(request.page_token), min(request.page_size or 100, MAX_PAGE)
        found = await self._run(lambda: self._rollouts.list(limit=size + 1, offset=offset))
        return pb.ListRolloutsResponse(
            rollouts=[_rollout(item) for item in found[:size]],
            next_page_token=page_token(offset + size if len(found) > size else 0),
        )

    async def GetRollout(self, request: pb.GetRolloutRequest) -> pb.Rollout:
        view = await self._run(lambda: self._rollouts.get(request.id))
        return _rollout(view.rollout, view.parts)

    async def ChangeRollout(self, request: pb.ChangeRolloutRequest) -> pb.Rollout:
        caller = caller_from_proto(request.caller, principal())
        if request.action not in ACTIONS:
            raise InvalidInput(
                f"{request.action[:40]!r} does nothing to a rollout", fix=f"Use {', '.join(ACTIONS)}."
            )
        view = await self._run(
            lambda: self._rollouts.change(caller, request.id, request.action, request.reason[:500])
        )
        return _rollout(view.rollout, view.parts)

    async def ListSteps(self, request: pb.ListStepsRequest) -> pb.ListStepsResponse:
        limit = min(request.limit or 100, MAX_STEPS)
        found = await self._run(lambda: self._rollouts.steps(request.rollout, request.device, limit))
        return pb.ListStepsResponse(steps=[_step(item) for item in found])

    async def SendCommand(self, request: pb.SendCommandRequest) -> AsyncGenerator[pb.CommandAnswer, None]:
        caller = caller_from_proto(request.caller, principal())
        answers = self._commands.send(
            caller, request.device, request.verb, dict(request.args), request.wait_s or DEFAULT_WAIT_S
        )
        done: Any = object()
        try:
            while (answer := await self._run(lambda: next(answers, done))) is not done:
                yield pb.CommandAnswer(
                    stage=answer.stage,
                    text=answer.text,
                    data_json=json.dumps(answer.data, ensure_ascii=False) if answer.data else "",
                    part=answer.part,
                    parts=answer.parts,
                )
        finally:
            await self._run(answers.close)


def _device(found: Device) -> pb.Device:
    return pb.Device(
        id=found.id,
        state=found.state.value,
        labels=found.labels,
        online=found.online,
        seen_at=found.seen_at,
        enrolled_at=found.enrolled_at,
        agent=found.agent,
        caps=found.caps,
        models=[
            pb.LoadedModel(name=item.name, version=item.version, state=item.state) for item in found.models
        ],
        rev=found.rev,
        rev_seen=found.rev_seen,
        rev_applied=found.rev_applied,
        status=found.status,
        error=found.error,
        epoch=found.epoch,
    )


def _token(found: JoinToken) -> pb.JoinToken:
    return pb.JoinToken(
        id=found.id,
        device=found.device,
        labels=dict(found.labels),
        created_by=found.created_by,
        created_at=found.created_at,
        expires_at=found.expires_at,
        used_by=found.used_by,
        used_at=found.used_at,
    )


def _rollout(found: Rollout, parts: tuple[DevicePart, ...] = ()) -> pb.Rollout:
    counts, plan = Counts.of(parts), found.plan
    return pb.Rollout(
        id=found.id,
        model=found.model,
        version=found.version,
        selector=found.selector,
        owner=found.owner,
        state=found.state.value,
        reason=found.reason,
        stage=found.stage + 1,
        stages=plan.stages,
        success_share=plan.success_share,
        error_share=plan.error_share,
        on_error=plan.on_error.value,
        device_s=plan.device_s,
        soak_s=plan.soak_s,
        total_s=plan.total_s,
        created_at=found.created_at,
        ended_at=found.ended_at,
        devices=counts.total,
        committed=counts.committed,
        underway=counts.underway,
        failed=counts.failed,
        waiting=counts.waiting,
        parts=[
            pb.RolloutDevice(
                device=item.device,
                stage=item.stage + 1,
                part=item.part.value,
                step=item.step,
                reason=item.reason,
                offered_at=item.offered_at,
                ended_at=item.ended_at,
            )
            for item in parts
        ],
    )


def _step(found: Step) -> pb.InstallStep:
    return pb.InstallStep(
        device=found.device,
        received_at=found.received_at,
        ts=found.ts,
        from_state=found.from_state,
        to_state=found.to_state,
        reason=found.reason,
        data_json=json.dumps(dict(found.data), ensure_ascii=False) if found.data else "",
    )
