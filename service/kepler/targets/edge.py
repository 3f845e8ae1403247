"""The deploy target ``edge``: a release to the gateways of a fleet, in stages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kepler.core.errors import Cancelled, Conflict, InvalidInput, nearest
from kepler.core.jobs import Notice
from kepler.fleet import rollouts as rules
from kepler.fleet.desired import release_for
from kepler.fleet.devices import Device, Selector
from kepler.fleet.rollouts import Counts, DevicePart, OnError, Part, Rollout, RolloutPlan, RolloutState
from kepler.ports.deploy import (
    Change,
    Cost,
    DeployPlan,
    DeployRequest,
    DeployState,
    DeployStatus,
    LogLine,
    Place,
    PlannedStep,
    ReadyVersion,
    TargetContext,
    target,
)
from kepler.ports.jobs import WorkRun

MAX_FILES = 10  # of a release, as the contract has it
LOOK_S = 1.0
_STATES = {
    RolloutState.RUNNING: DeployState.RUNNING,
    RolloutState.PAUSED: DeployState.PAUSED,
    RolloutState.ROLLING_BACK: DeployState.RUNNING,
    RolloutState.SUCCEEDED: DeployState.SUCCEEDED,
    RolloutState.STOPPED: DeployState.FAILED,
    RolloutState.ROLLED_BACK: DeployState.ROLLED_BACK,
}
_NUMBERS = ("success_share", "error_share", "device_s", "soak_s", "total_s")
_RELEASE_NUMBERS = {"shadow_s": 0.0, "probation_s": 0.0, "expires": 0.0}
_GATES = ("max_error_rate", "max_nan_rate", "max_drift")
_TEXTS = ("stages", "on_error", "min_agent", "input", "key", "bindings", "windows", "allow_downgrade")
OPTIONS = (
    *_NUMBERS,
    *_RELEASE_NUMBERS,
    *_GATES,
    *_TEXTS,
    "max_latency_ms",
    "max_memory_mb",
    "threshold.OUTPUT",
)


@target("edge")
class EdgeTarget:
    """Brings a signed ONNX model to the gateways of a fleet over MQTT.

    ``to`` chooses devices (``site=plant7``). Options: ``stages=0.1,0.5,1``, ``success_share``, ``error_share``,
    ``on_error=rollback|pause|stop``, ``device_s``, ``soak_s`` and ``total_s`` for the rollout; ``probation_s``,
    ``shadow_s``, ``max_latency_ms``, ``max_memory_mb``, ``max_error_rate``, ``max_nan_rate``, ``max_drift``,
    ``min_agent``, ``expires`` and ``allow_downgrade`` for the installation; ``input``, ``key``, ``bindings``, ``windows``
    (JSON) and ``threshold.OUTPUT`` for where readings come from and when a score is an alert.

    Needs no permissions beyond the broker's access list for the service, and no cloud.
    """

    def __init__(self, context: TargetContext) -> None:
        self._context = context

    def plan(self, request: DeployRequest) -> DeployPlan:
        version, devices = self._checked(request)
        plan = rollout_plan(request.options)
        release_document(request, version)
        parts = {part.device: part for part in rules.assign([d.id for d in devices], plan, request.id)}
        changes = [
            Change(device.id, f"stage {parts[device.id].stage + 1}: {self._served(device, request)}")
            for device in devices
        ]
        offline = [device.id for device in devices if not device.online]
        notices = ()
        if offline:
            said = f"{len(offline)} of {len(devices)} devices are offline, such as {offline[0]}: they take it when they come back"
            notices = (Notice("warn", said),)
        size = sum(item.size for item in self._files(version).values())
        steps = (
            PlannedStep("create-rollout", f"Deal {len(devices)} devices to {len(plan.stages)} stages"),
            PlannedStep(
                "roll-out",
                f"Offer {request.full_name} ({size / 1024:.0f} KiB) stage by stage; above {plan.error_share:.0%} "
                f"failures {plan.on_error.value}",
            ),
        )
        return DeployPlan(steps, tuple(changes), notices)

    def deploy(self, request: DeployRequest, run: WorkRun) -> DeployStatus:
        run.step("create-rollout", lambda: self._create(request))
        self._context.wake_fleet()
        try:
            while not (rollout := self._context.rollouts.rollout(request.id)).state.final:
                counts = Counts.of(self._context.rollouts.parts(request.id))
                done = (counts.committed + counts.failed + counts.skipped) / max(1, counts.total)
                said = f" stage {rollout.stage + 1}: {counts.committed} of {counts.total}"
                run.progress(done, f"{rollout.state.value}{said}")
                run.wait(LOOK_S)
        except Cancelled:
            self._stop(request.id)
            raise
        status = self.status(request)
        if status.state is not DeployState.SUCCEEDED:
            raise Conflict(
                f"Rollout {request.id} is {rollout.state.value}",
                cause=rollout.reason,
                fix=f"`kepler edge logs {request.id}` tells what each device said.",
            )
        return status

    def status(self, request: DeployRequest) -> DeployStatus:
        rollout = self._context.rollouts.rollout(request.id)
        parts = self._context.rollouts.parts(request.id)
        counts = Counts.of(parts)
        return DeployStatus(
            _STATES[rollout.state],
            rollout.reason,
            tuple(_place(part) for part in parts),
            (
                ("devices", counts.total), ("committed", counts.committed), ("underway", counts.underway),
                ("failed", counts.failed), ("waiting", counts.waiting), ("stage", rollout.stage + 1),
                ("stages", len(rollout.plan.stages)),
            ),
        )  # fmt: skip

    def logs(self, request: DeployRequest, *, place: str = "", limit: int = 100) -> tuple[LogLine, ...]:
        steps = self._context.rollouts.steps(request.id, device=place, limit=limit)
        return tuple(
            LogLine(
                step.received_at, step.device, _said(step.from_state, step.to_state, step.reason, step.data)
            )
            for step in reversed(steps)
        )

    def traffic(
        self, request: DeployRequest, shares: Mapping[int, float], *, dry_run: bool = False
    ) -> tuple[Change, ...]:
        raise InvalidInput(
            "A gateway serves one version of a model at a time, so requests are not split",
            fix="Use stages=0.1,1 to give a version to a tenth of the devices first, or shadow_s to score beside.",
        )

    def rollback(self, request: DeployRequest, *, dry_run: bool = False) -> tuple[Change, ...]:
        store = self._context.rollouts
        for _ in range(20):
            was, parts = store.rollout(request.id), store.parts(request.id)
            after, changed = rules.roll_back(was, parts, "Rolled back by hand", self._context.clock.now())
            if after == was:
                return ()
            begun = rules.to_withdraw(after, parts)
            told = tuple(Change(part.device, "gets back what it had before") for part in begun)
            if dry_run or store.save(after, was.n, changed):
                self._context.wake_fleet()
                return told
        raise Conflict("The rollout changes too often", fix="Try again.")

    def delete(self, request: DeployRequest, *, dry_run: bool = False) -> tuple[Change, ...]:
        """Forgets the rollout. Devices keep what they have; roll back first to take it from them."""
        rollout = next(
            (item for item in self._context.rollouts.rollouts(limit=10_000) if item.id == request.id), None
        )
        if rollout is None:
            return ()
        if not rollout.state.final:
            raise Conflict(
                f"Rollout {request.id} is {rollout.state.value}",
                fix="Stop it or roll it back before you delete it.",
            )
        if not dry_run:
            self._context.rollouts.delete(request.id)
        return (Change(f"rollout {request.id}", "is forgotten; its devices keep what they have"),)

    def cost(self, request: DeployRequest) -> Cost:
        version, devices = self._checked(request)
        size = sum(item.size for item in self._files(version).values())
        return Cost(f"{len(devices)} devices fetch {size / 2**20:.1f} MiB each, once; no cloud is used", 0.0)

    def _checked(self, request: DeployRequest) -> tuple[ReadyVersion, list[Device]]:
        check_options(request.options)
        version = self._context.versions.ready(request.model, request.version)
        saved = version.manifest.model
        if version.manifest.groups is not None:
            raise InvalidInput(
                f"{request.full_name} holds one model for each group, which devices cannot run",
                fix="Train one model for all groups, with the group as a feature.",
            )
        if saved.format != "onnx":
            raise InvalidInput(
                f"{request.full_name} is kept as {saved.format}, and devices run ONNX alone",
                cause=saved.reason,
                fix="Train with an algorithm that converts: `kepler algorithms` lists them.",
            )
        devices = self._context.devices.devices(Selector.parse(request.to))
        if not devices:
            raise InvalidInput(
                f"No enrolled device is chosen by {request.to[:200]!r}",
                fix="`kepler edge devices` lists devices and labels.",
            )
        return version, devices

    def _create(self, request: DeployRequest) -> dict[str, Any]:
        version, devices = self._checked(request)
        plan = rollout_plan(request.options)
        now = self._context.clock.now()
        release = release_document(request, version)
        rollout = Rollout(
            id=request.id, release=str(release["id"]), model=request.model, version=request.version,
            selector=request.to, plan=plan, owner=request.owner, created_at=now, stage_at=now,
        )  # fmt: skip
        parts = rules.assign([device.id for device in devices], plan, request.id)
        made = self._context.rollouts.create(rollout, parts, release)
        return {"rollout": made.id, "devices": len(parts)}

    def _files(self, version: ReadyVersion) -> Mapping[str, Any]:
        return {
            name: version.files[name]
            for name in ("manifest.json", "manifest.sig", *version.manifest.model.files)
        }

    def _served(self, device: Device, request: DeployRequest) -> str:
        before = release_for(self._context.devices.desired(device.id).doc, request.model)
        was = "none" if before is None else str(before["version"])
        return f"{request.model} {was} -> {request.version}"

    def _stop(self, rollout_id: str) -> None:
        store = self._context.rollouts
        for _ in range(20):
            was, parts = store.rollout(rollout_id), store.parts(rollout_id)
            if was.state.final or was.state is RolloutState.ROLLING_BACK:
                return
            after, changed = rules.stop(was, parts, self._context.clock.now())
            if store.save(replace(after, reason="Its job was cancelled"), was.n, changed):
                return


def check_options(options: Mapping[str, str]) -> None:
    """Raise `InvalidInput` for an option that the target does not know."""
    known = [name for name in OPTIONS if "." not in name]
    for name in options:
        if name not in known and not name.startswith("threshold."):
            raise InvalidInput(
                f"The target edge has no option {name[:60]!r}",
                fix=f"The nearest are {', '.join(nearest(name[:60], list(OPTIONS)))}.",
            )


def rollout_plan(options: Mapping[str, str]) -> RolloutPlan:
    """The plan that ``options`` ask for. Raises `InvalidInput`."""
    values: dict[str, Any] = {name: _number(name, options[name]) for name in _NUMBERS if name in options}
    if "stages" in options:
        values["stages"] = tuple(_number("stages", item) for item in options["stages"].split(","))
    if "on_error" in options:
        try:
            values["on_error"] = OnError(options["on_error"])
        except ValueError as error:
            raise InvalidInput(
                f"on_error={options['on_error'][:40]} is not known", fix=f"Use {', '.join(OnError)}."
            ) from error
    if "device_s" in values and "total_s" not in values:
        values["total_s"] = max(RolloutPlan().total_s, values["device_s"])
    plan = RolloutPlan(**values)
    plan.check()
    return plan


def release_document(request: DeployRequest, version: ReadyVersion) -> dict[str, Any]:
    """The release as desired documents name it, but for the address that each device gets."""
    options = request.options
    names = version.manifest.model.files
    if len(names) > MAX_FILES or any("/" in name for name in names):
        raise InvalidInput(f"{request.full_name} has more files than a device takes")
    release: dict[str, Any] = {
        "id": f"{request.id[:48]}-v{request.version}",
        "model": request.model,
        "version": request.version,
        "manifest": _file(version, "manifest.json"),
        "signature": _file(version, "manifest.sig"),
        "files": [_file(version, name) for name in names],
    }
    release |= {name: _number(name, options[name]) for name in _RELEASE_NUMBERS if name in options}
    gates = {name: _number(name, options[name]) for name in (*_GATES, "max_latency_ms") if name in options}
    limits: dict[str, Any] = {}
    if "max_memory_mb" in options:
        limits["max_rss_mb"] = int(_number("max_memory_mb", options["max_memory_mb"]))
    if "max_latency_ms" in options:
        limits["max_latency_ms"] = gates["max_latency_ms"]
    if "min_agent" in options:
        limits["min_agent"] = options["min_agent"][:40]
    thresholds = {
        name.removeprefix("threshold."): _number(name, text)
        for name, text in options.items()
        if name.startswith("threshold.")
    }
    inputs = [item.strip() for item in options.get("input", "").split(",") if item.strip()]
    bindings: list[Any] = [
        {"input": item, **({"key": options["key"]} if "key" in options else {})} for item in inputs
    ]
    bindings += _json_list("bindings", options)
    parts: dict[str, Any] = {
        "gates": gates, "limits": limits, "thresholds": thresholds, "bindings": bindings,
        "windows": _json_list("windows", options),
    }  # fmt: skip
    release |= {name: value for name, value in parts.items() if value}
    if options.get("allow_downgrade", "false").lower() in ("true", "t", "1", "yes"):
        release["allow_downgrade"] = True
    return release


def _file(version: ReadyVersion, path: str) -> dict[str, Any]:
    entry = version.files[path]
    return {"path": path, "sha256": entry.sha256, "size": entry.size}


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value < float("inf"):
        raise InvalidInput(f"{name}={text[:40]} is not a number from 0 on", fix="Write a plain number.")
    return value


def _json_list(name: str, options: Mapping[str, str]) -> list[Any]:
    if name not in options:
        return []
    try:
        found: Any = json.loads(options[name])
    except ValueError as error:
        raise InvalidInput(f"{name} is no JSON", cause=str(error)) from error
    if not isinstance(found, list):
        raise InvalidInput(f"{name} is not a JSON list", fix="See docs/reference/mqtt.md for its items.")
    return found


def _place(part: DevicePart) -> Place:
    state = part.part.value if part.part is not Part.INSTALLING else part.step
    return Place(part.device, state, part.reason, part.ended_at or part.offered_at)


def _said(before: str, after: str, reason: str, data: Mapping[str, Any]) -> str:
    figures = " ".join(f"{name}={value}" for name, value in sorted(data.items()))
    return " ".join(part for part in (f"{before} -> {after}", reason, figures) if part)
