"""The deploy target ``splunk-edge-hub``: a bundle with the agent and a model, and the steps that bring it to the hub."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kepler.core.errors import InvalidInput, NotFound, nearest
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
from kepler.targets._agent_app import START, factory_folder
from kepler.targets._edge_hub_bundle import STORAGE, build

OPTIONS = ("storage_mb", "hub", "show", "trigger", "service", "join_token_secret")
HUB = "host.docker.internal:50051"
_DEVICE = re.compile(r"[a-z0-9-]{1,64}")
_SPARE_MB = 32  # journal, keys, SQLite's log beside the quota
_LEAST_QUOTA_MB = 32


@target("splunk-edge-hub", aliases=("edge-hub",))
class SplunkEdgeHubTarget:
    """Makes a bundle for one Splunk Edge Hub: the agent's image with a signed ONNX model on top, and ``edge.json``.

    ``to`` is the device's name. Options: ``storage_mb`` (500, the quota of the mapped storage, which outbox and models
    share), ``hub`` (address of the hub's gRPC service), ``trigger`` (source whose values make a reading), ``show`` (true:
    scores on the hub's dashboards too), ``service`` (https address to enrol at) and ``join_token_secret`` (name of a
    secret with the one-time token; without it, enrol by hand). The hub has no interface for uploads, so the last
    steps are yours: the plan says them.

    Needs the agent's image for arm64 as a file, in the setting ``edge_hub.image_archive_file``.
    """

    def __init__(self, context: TargetContext) -> None:
        self._context = context
        self._settings: Any = context.settings.get("splunk-edge-hub")

    def plan(self, request: DeployRequest) -> DeployPlan:
        version = self._checked(request)
        quota_mb = self._quota_mb(request, version)
        steps = (
            PlannedStep("bundle", f"Write {self._path(request)} with {request.full_name}"),
            *(PlannedStep(f"by hand {place}", text) for place, text in enumerate(self._by_hand(request), 1)),
        )
        notices = [Notice("warn", "The bundle's format was not verified on a device")]
        if not request.options.get("join_token_secret"):
            notices.append(Notice("info", "The bundle holds no join token: enrol the device by hand"))
        change = Change(
            request.to,
            f"{request.full_name} in the factory slot; {quota_mb} MB of its storage for the outbox",
        )
        return DeployPlan(steps, (change,), tuple(notices))

    def deploy(self, request: DeployRequest, run: WorkRun) -> DeployStatus:
        version = self._checked(request)
        run.progress(0.1, "writing the bundle")
        run.step("bundle", lambda: self._bundle(request, version))
        return self.status(request)

    def status(self, request: DeployRequest) -> DeployStatus:
        path = self._path(request)
        if not path.is_file():
            raise NotFound(f"There is no bundle of {request.id}", fix="Deploy it, then upload what it makes.")
        said = " ".join(self._by_hand(request))
        place = Place(request.to, "bundle ready", said, path.stat().st_mtime)
        size_mb = round(path.stat().st_size / 2**20, 1)
        return DeployStatus(DeployState.SUCCEEDED, said, (place,), (("bundle_mb", size_mb),), path.as_uri())

    def logs(self, request: DeployRequest, *, place: str = "", limit: int = 100) -> tuple[LogLine, ...]:
        raise InvalidInput(
            "The hub's logs are on the hub", fix="Once enrolled: `kepler edge logs` for what the device says."
        )

    def traffic(
        self, request: DeployRequest, shares: Mapping[int, float], *, dry_run: bool = False
    ) -> tuple[Change, ...]:
        raise InvalidInput(
            "A hub serves one version of a model at a time, so requests are not split",
            fix="Use the target edge with stages once the device is enrolled.",
        )

    def rollback(self, request: DeployRequest, *, dry_run: bool = False) -> tuple[Change, ...]:
        raise InvalidInput(
            "A container is taken from a hub by hand",
            fix="Upload the bundle before, or roll back the model with the target edge.",
        )

    def delete(self, request: DeployRequest, *, dry_run: bool = False) -> tuple[Change, ...]:
        """Removes the bundle here; what runs on the hub stays."""
        path = self._path(request)
        if not path.exists():
            return ()
        if not dry_run:
            path.unlink(missing_ok=True)
        return (Change(str(path), "is removed; what runs on the hub stays"),)

    def cost(self, request: DeployRequest) -> Cost:
        return Cost("It runs on a hub that is there; no cloud is used", 0.0)

    def _checked(self, request: DeployRequest) -> ReadyVersion:
        for name in request.options:
            if name not in OPTIONS:
                raise InvalidInput(
                    f"The target splunk-edge-hub has no option {name[:60]!r}",
                    fix=f"The nearest are {', '.join(nearest(name[:60], list(OPTIONS)))}.",
                )
        if not _DEVICE.fullmatch(request.to):
            raise InvalidInput(
                f"{request.to[:100]!r} is no device's name",
                fix="Name one: a-z, 0-9 and -, at most 64 characters.",
            )
        if self._settings.image_archive_file is None:
            raise InvalidInput(
                "The setting edge_hub.image_archive_file is empty",
                fix="Set KEPLER_EDGE_HUB__IMAGE_ARCHIVE_FILE to the agent's image for arm64; docs/how-to/edge-hub.md says how.",
            )
        version = self._context.versions.ready(request.model, request.version)
        if version.manifest.groups is not None or version.manifest.model.format != "onnx":
            raise InvalidInput(
                f"{request.full_name} is no single ONNX model, and devices run nothing else",
                cause=version.manifest.model.reason,
                fix="Train one model with an algorithm that converts.",
            )
        self._quota_mb(request, version)
        if request.options.get("join_token_secret") and not (
            request.options.get("service", "").startswith("https://")
            and self._context.settings.get("broker_ca_file")
        ):
            raise InvalidInput(
                "A device enrols at an address that it can trust",
                fix="Give service=https://HOST:PORT and set KEPLER_EDGE__BROKER_CA_FILE.",
            )
        return version

    def _quota_mb(self, request: DeployRequest, version: ReadyVersion) -> int:
        """What the outbox may take: the storage less three copies of the model (two slots, factory) and a spare."""
        text = request.options.get("storage_mb", "500")
        storage = int(text) if text.isdigit() and len(text) < 7 else 0
        size = sum(entry.size for entry in version.files.values())
        quota = storage - _SPARE_MB - -(-3 * size // 2**20)
        if quota < _LEAST_QUOTA_MB:
            raise InvalidInput(
                f"storage_mb={text[:20]} leaves no room for the outbox",
                fix=f"Use {storage - quota + _LEAST_QUOTA_MB} or more.",
            )
        return quota

    def _bundle(self, request: DeployRequest, version: ReadyVersion) -> dict[str, Any]:
        path, options = self._path(request), request.options
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        reads: dict[str, Any] = {"name": "hub", "kind": "edgehub", "address": options.get("hub") or HUB}
        if options.get("trigger"):
            reads["trigger"] = options["trigger"]
        env = {
            "KEPLER_EDGE_HOME": f"{STORAGE}/kepler-edge",
            "KEPLER_EDGE_DEVICE": request.to,
            "KEPLER_EDGE_QUOTA_MB": str(self._quota_mb(request, version)),
            "KEPLER_EDGE_INPUTS": json.dumps([reads]),
        }
        if options.get("show", "false").lower() in ("true", "t", "1", "yes"):
            env["KEPLER_EDGE_EDGEHUB_OUTPUT"] = options.get("hub") or HUB
        folder = factory_folder(request.model)
        names = ("manifest.json", "manifest.sig", *version.manifest.model.files)
        files = {f"{folder}/{name}": (version.folder / name).read_bytes() for name in names}
        files["start.sh"] = START.encode()
        if options.get("join_token_secret"):
            env["KEPLER_EDGE_JOIN_TOKEN"] = self._context.secret(options["join_token_secret"])
            env["KEPLER_EDGE_SERVICE"] = options["service"]
            env["KEPLER_EDGE_SERVICE_CA"] = "/service-ca.pem"
            files["service-ca.pem"] = Path(self._context.settings["broker_ca_file"]).read_bytes()
        build(
            self._settings.image_archive_file,
            path,
            name="kepler-edge",
            storage_mb=int(options.get("storage_mb", "500")),
            files=files,
            env=env,
        )
        with path.open("rb") as file:
            return {"bundle": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}

    def _path(self, request: DeployRequest) -> Path:
        return self._context.home / "edge-hub" / f"{request.id}.tar"

    def _by_hand(self, request: DeployRequest) -> tuple[str, ...]:
        steps = [
            f"Copy {self._path(request).name} from the service's folder edge-hub to a computer that reaches the hub.",
            "Open the hub's own page, sign in, and choose Containers.",
            "Upload the file and start the container kepler-edge.",
        ]
        if request.options.get("join_token_secret"):
            steps.append(
                f"`kepler edge devices` shows {request.to} once it has enrolled; delete the bundle then."
            )
        else:
            steps.append(f"Enrol it as {request.to}: `kepler-edge enrol` inside the container.")
        return tuple(steps)
