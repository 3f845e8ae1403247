"""The deploy target ``barbara``: the agent with a model as a Docker app on nodes of Barbara's platform."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kepler.core.errors import Conflict, InvalidInput, NotFound, nearest
from kepler.core.jobs import Notice
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
from kepler.targets._barbara_api import Barbara, NodeApp
from kepler.targets._barbara_zip import build, check_zip

OPTIONS = ("app", "image", "cpus", "memory_mb", "health_s", "poll_s", "architectures")
ARCHITECTURES = ("x86_64", "arm64")


@target("barbara", extra="barbara")
class BarbaraTarget:
    """Brings the agent with a signed ONNX model to nodes of Barbara as a Docker app.

    ``to`` names nodes (``press-7,press-8``). Options: ``app`` (name in the App Library, ``kepler-edge``), ``image`` (the
    agent's image), ``cpus`` (0.5), ``memory_mb`` (256), ``architectures`` (``x86_64,arm64``), ``health_s`` (300: how long a
    node may take) and ``poll_s`` (15). A node that does not become healthy gets back what it had, and so do those
    before it. Later models come over the air with the target ``edge``, once the device is enrolled.

    Needs the role editor at Barbara, and the secrets that the settings ``barbara`` name.
    """

    def __init__(self, context: TargetContext) -> None:
        self._context = context
        self._settings: Any = context.settings.get("barbara")

    def plan(self, request: DeployRequest) -> DeployPlan:
        version, nodes = self._checked(request)
        content = self._zip(request, version)
        with self._api() as api:
            found = {node: api.node(node) for node in nodes}
            app = api.application(_app(request))
            changes = [
                Change(
                    node, f"app {_app(request)} {_name(api.app_on(found[node], app), api)} -> {request.id}"
                )
                for node in nodes
            ]
            offline = [node for node in nodes if not api.online(found[node])]
        notices = tuple(
            Notice("warn", f"{node} is offline: it takes the app when it comes back") for node in offline
        )
        steps = (
            PlannedStep("upload", f"Upload {len(content) / 1024:.0f} KiB to the App Library as {request.id}"),
            *(
                PlannedStep(f"deploy {node}", f"Deploy it on {node} and wait until it is healthy")
                for node in nodes
            ),
        )
        return DeployPlan(steps, tuple(changes), notices)

    def deploy(self, request: DeployRequest, run: WorkRun) -> DeployStatus:
        version, nodes = self._checked(request)
        uploaded = run.step("upload", lambda: self._upload(request, version))
        done: list[tuple[str, dict[str, Any]]] = []
        for place, node in enumerate(nodes):
            run.progress(place / len(nodes), f"deploying on {node}")
            done.append((node, run.step(f"deploy {node}", lambda node=node: self._begin(node, uploaded))))
            sick = self._wait(request, node, uploaded, run)
            if sick:
                run.step("roll back", lambda: self._put_back(done, uploaded["application"]))
                raise Conflict(
                    f"Node {node} does not run {request.full_name}",
                    cause=f"{sick}; {len(done)} nodes got back what they had",
                    fix=f"`kepler deployments logs {request.id}` shows what the container said.",
                )
        return self.status(request)

    def status(self, request: DeployRequest) -> DeployStatus:
        nodes = _nodes(request)
        with self._api() as api:
            app = api.application(_app(request))
            wanted = api.version(app, request.id) if app else ""
            if not app or not wanted:
                raise NotFound(f"Barbara's App Library has no version {request.id} of {_app(request)}")
            places = [_place(node, api.app_on(api.node(node), app), wanted) for node in nodes]
        states = {place.state for place in places}
        if states == {"healthy"}:
            state = DeployState.SUCCEEDED
        elif "unhealthy" in states:
            state = DeployState.FAILED
        else:
            state = DeployState.ROLLED_BACK if states <= {"other version", "absent"} else DeployState.RUNNING
        healthy = sum(place.state == "healthy" for place in places)
        return DeployStatus(state, "", tuple(places), (("nodes", len(nodes)), ("healthy", healthy)))

    def logs(self, request: DeployRequest, *, place: str = "", limit: int = 100) -> tuple[LogLine, ...]:
        lines: list[LogLine] = []
        with self._api() as api:
            app = api.application(_app(request))
            for node in [place] if place else _nodes(request):
                found = api.app_on(api.node(node), app)
                if found is not None:
                    lines += [LogLine(at, node, text) for at, text in api.logs(found, limit)]
        return tuple(sorted(lines, key=lambda line: line.ts)[-limit:])

    def traffic(
        self, request: DeployRequest, shares: Mapping[int, float], *, dry_run: bool = False
    ) -> tuple[Change, ...]:
        raise InvalidInput(
            "A node runs one version of an app at a time, so requests are not split",
            fix="Deploy to one node first and to the others when it has proved itself.",
        )

    def rollback(self, request: DeployRequest, *, dry_run: bool = False) -> tuple[Change, ...]:
        """Nodes that run this deployment get the App Library's version before it; without one the app goes."""
        return self._leave(request, back=True, dry_run=dry_run)

    def delete(self, request: DeployRequest, *, dry_run: bool = False) -> tuple[Change, ...]:
        """Takes the app from nodes that run this deployment; what lies under ``persist`` goes with it."""
        return self._leave(request, back=False, dry_run=dry_run)

    def cost(self, request: DeployRequest) -> Cost:
        return Cost("Barbara bills nodes by contract; one more app on a node changes nothing known here")

    def _leave(self, request: DeployRequest, *, back: bool, dry_run: bool) -> tuple[Change, ...]:
        changes: list[Change] = []
        with self._api() as api:
            app = api.application(_app(request))
            mine = api.version(app, request.id) if app else ""
            before = api.version_before(app, request.id) if app and back else None
            for node in _nodes(request) if mine else ():
                found = api.app_on(api.node(node), app)
                if found is None or found.version != mine:
                    continue
                said = f"gets {before[1]} back" if before else "loses the app"
                changes.append(Change(node, said))
                if not dry_run:
                    if before:
                        api.update(found, app, before[0])
                    else:
                        api.remove(found)
        return tuple(changes)

    def _checked(self, request: DeployRequest) -> tuple[ReadyVersion, list[str]]:
        for name in request.options:
            if name not in OPTIONS:
                raise InvalidInput(
                    f"The target barbara has no option {name[:60]!r}",
                    fix=f"The nearest are {', '.join(nearest(name[:60], list(OPTIONS)))}.",
                )
        version = self._context.versions.ready(request.model, request.version)
        if version.manifest.groups is not None or version.manifest.model.format != "onnx":
            raise InvalidInput(
                f"{request.full_name} is no single ONNX model, and nodes run nothing else",
                cause=version.manifest.model.reason,
                fix="Train one model with an algorithm that converts.",
            )
        for name, least in (("cpus", 0.05), ("memory_mb", 64.0), ("health_s", 0.0), ("poll_s", 0.0)):
            _number(request, name, least, least)
        for kind in _architectures(request):
            if kind not in ARCHITECTURES:
                raise InvalidInput(
                    f"The agent does not run on {kind[:40]!r}", fix=f"Use {' and '.join(ARCHITECTURES)}."
                )
        return version, _nodes(request)

    def _zip(self, request: DeployRequest, version: ReadyVersion) -> bytes:
        names = ("manifest.json", "manifest.sig", *version.manifest.model.files)
        content = build(
            request.options.get("image", "") or self._settings.image,
            request.model,
            {name: (version.folder / name).read_bytes() for name in names},
            cpus=_number(request, "cpus", 0.5, 0.05),
            memory_mb=int(_number(request, "memory_mb", 256, 64)),
        )
        check_zip(content)
        return content

    def _upload(self, request: DeployRequest, version: ReadyVersion) -> dict[str, Any]:
        content = self._zip(request, version)
        notes = [f"{request.full_name} by Kepler", f"sha256 {hashlib.sha256(content).hexdigest()}"]
        with self._api() as api, tempfile.TemporaryDirectory(prefix="kepler-barbara-") as folder:
            app = api.application(_app(request)) or api.create_application(_app(request))
            if not api.version(app, request.id):  # an earlier try may have come so far
                path = Path(folder) / f"{_app(request)}-{request.id}.zip"
                path.write_bytes(content)
                api.upload(app, path, request.id, _architectures(request), notes)
            return {"application": app, "version": api.version(app, request.id)}

    def _begin(self, node: str, uploaded: Mapping[str, Any]) -> dict[str, Any]:
        app, wanted = str(uploaded["application"]), str(uploaded["version"])
        with self._api() as api:
            node_id = api.node(node)
            found = api.app_on(node_id, app)
            if found is None:
                api.install(node_id, app, wanted)
                return {"before": ""}
            if found.version != wanted:
                api.update(found, app, wanted)
                return {"before": found.version}
        return {"before": wanted}

    def _wait(self, request: DeployRequest, node: str, uploaded: Mapping[str, Any], run: WorkRun) -> str:
        """Wait until ``node`` is healthy; gives why it is not."""
        limit_s, poll_s = _number(request, "health_s", 300, 0), _number(request, "poll_s", 15, 0)
        waited = 0.0
        while True:
            with self._api() as api:
                found = api.app_on(api.node(node), str(uploaded["application"]), refresh=True)
            place = _place(node, found, str(uploaded["version"]))
            if place.state == "healthy":
                return ""
            if place.state == "unhealthy":
                return f"It is unhealthy: {place.detail}"
            if waited >= limit_s:
                return f"It was not healthy after {limit_s:g} s but {place.state}"
            run.wait(max(poll_s, 0.01))
            waited += max(poll_s, 0.01)

    def _put_back(self, done: list[tuple[str, dict[str, Any]]], app: str) -> dict[str, Any]:
        with self._api() as api:
            for node, was in reversed(done):
                found = api.app_on(api.node(node), app)
                if found is None:
                    continue
                if was["before"]:
                    if found.version != was["before"]:
                        api.update(found, app, str(was["before"]))
                else:
                    api.remove(found)
        return {"nodes": len(done)}

    def _api(self) -> Barbara:
        return Barbara(self._settings, self._context.secret)


def _place(node: str, found: NodeApp | None, wanted: str) -> Place:
    if found is None:
        return Place(node, "absent")
    if found.version != wanted:
        return Place(node, "other version", found.version)
    return Place(node, found.state, found.detail)


def _name(found: NodeApp | None, api: Barbara) -> str:
    return "none" if found is None else api.version_name(found)


def _app(request: DeployRequest) -> str:
    return request.options.get("app", "") or "kepler-edge"


def _nodes(request: DeployRequest) -> list[str]:
    nodes = [name.strip() for name in request.to.split(",") if name.strip()]
    if not nodes or len(set(nodes)) < len(nodes):
        raise InvalidInput("Name each node once", fix="For example --to press-7,press-8.")
    return nodes


def _architectures(request: DeployRequest) -> list[str]:
    text = request.options.get("architectures", "") or ",".join(ARCHITECTURES)
    return [name.strip() for name in text.split(",") if name.strip()]


def _number(request: DeployRequest, name: str, default: float, least: float) -> float:
    text = request.options.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = -1.0
    if not least <= value < 1e6:
        raise InvalidInput(
            f"{name}={text[:40]} is not a number from {least:g} on", fix="Write a plain number."
        )
    return value
