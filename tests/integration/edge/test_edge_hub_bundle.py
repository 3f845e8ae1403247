"""Bundles for a Splunk Edge Hub: edge.json, an image with one layer more, and the script that both platforms start."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any, cast

import pytest

from fakes.clock import FakeClock
from kepler.core.errors import InvalidInput, NotFound
from kepler.core.manifest import FileEntry
from kepler.ports.deploy import DeployRequest, DeployState, ReadyVersion, TargetContext
from kepler.settings_targets import EdgeHubSettings
from kepler.targets._agent_app import START
from kepler.targets.splunk_edge_hub import SplunkEdgeHubTarget
from kepler_edge.package import open_package
from kepler_edge.settings import load
from kepler_edge.slots import Slots
from support.edge_models import Signing, draft, registered


def image(path: Path, architecture: str = "arm64", **more: bytes) -> Path:
    """A small image as `docker save` writes it since version 25: OCI blobs beside Docker's manifest."""
    layer = b"\0" * 1024
    config = {
        "architecture": architecture, "os": "linux",
        "config": {"Env": ["PATH=/opt/kepler-edge/bin:/usr/bin", "KEPLER_EDGE_HOME=/var/lib/kepler-edge"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }  # fmt: skip
    manifest = [
        {"Config": "blobs/sha256/config", "RepoTags": ["kepler-edge:0.1.0"], "Layers": ["blobs/sha256/layer"]}
    ]
    members = {
        "blobs/sha256/config": json.dumps(config).encode(), "blobs/sha256/layer": layer, "index.json": b"{}",
        "oci-layout": b"{}", "manifest.json": json.dumps(manifest).encode(), **more,
    }  # fmt: skip
    with tarfile.open(path, "w") as out:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            out.addfile(entry, io.BytesIO(content))
    return path


class Run:
    job_id = "d-hub"

    def step(self, name: str, work: Any) -> dict[str, Any]:
        return json.loads(json.dumps(work()))

    def progress(self, fraction: float, phase: str) -> None: ...

    def wait(self, seconds: float) -> None: ...


class Place:
    def __init__(self, root: Path) -> None:
        self.root, self.signing = root, Signing.fresh()
        manifest = registered(
            draft("linear"), root / "version", self.signing, name="app.search/failure", version=3
        )
        files = {path.name: FileEntry("0" * 64, path.stat().st_size) for path in (root / "version").iterdir()}
        self.version = ReadyVersion(root / "version", manifest, files)
        self.settings = EdgeHubSettings(image_archive_file=image(root / "kepler-edge.tar"))
        (root / "ca.pem").write_text("the plant's authority")

    @property
    def target(self) -> SplunkEdgeHubTarget:
        return SplunkEdgeHubTarget(
            TargetContext(
                cast("Any", self), cast("Any", None), cast("Any", None), cast("Any", None), FakeClock(),
                settings={"splunk-edge-hub": self.settings, "broker_ca_file": str(self.root / "ca.pem")},
                secret={"hub-7-token": "one-time-token"}.__getitem__, home=self.root / "home",
            )
        )  # fmt: skip

    def ready(self, model: str, version: int) -> ReadyVersion:
        return self.version


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def request(to: str = "hub-7", **options: str) -> DeployRequest:
    return DeployRequest("d-hub", "splunk-edge-hub", "app.search/failure", 3, to, options)


def unpack(bundle: Path, to: Path) -> tuple[dict[str, Any], dict[str, Any], Path]:
    """edge.json, the image's configuration, and the new layer as files; digests are checked as a loader does."""
    with tarfile.open(bundle) as outer:
        outer.extractall(to, filter="data")
    with tarfile.open(to / "app.tar") as app:
        app.extractall(to / "app", filter="data")
    [manifest] = json.loads((to / "app" / "manifest.json").read_text())
    payload = (to / "app" / manifest["Config"]).read_bytes()
    assert manifest["Config"] == f"{hashlib.sha256(payload).hexdigest()}.json"
    config = json.loads(payload)
    assert len(manifest["Layers"]) == len(config["rootfs"]["diff_ids"]) == 2
    for name, digest in zip(manifest["Layers"], config["rootfs"]["diff_ids"], strict=True):
        assert digest == f"sha256:{hashlib.sha256((to / 'app' / name).read_bytes()).hexdigest()}"
    with tarfile.open(to / "app" / manifest["Layers"][-1]) as layer:
        layer.extractall(to / "layer", filter="data")
    return json.loads((to / "edge.json").read_text()), config, to / "layer"


def test_the_bundle_holds_the_model_and_settings_that_the_agent_reads(place: Place, tmp_path: Path) -> None:
    status = place.target.deploy(request(show="true", trigger="vibration"), cast("Any", Run()))
    assert status.state is DeployState.SUCCEEDED
    assert "choose Containers" in status.reason
    bundle = place.root / "home" / "edge-hub" / "d-hub.tar"
    assert bundle.stat().st_mode & 0o777 == 0o600
    edge, config, layer = unpack(bundle, tmp_path / "out")
    assert edge == {
        "name": "kepler-edge", "containerArchive": "app.tar", "portMap": [], "mappedStorage": "/data", "mappedStorageMb": 500,
    }  # fmt: skip
    env = dict(item.split("=", 1) for item in config["config"]["Env"])
    settings = load(env=env, barbara=Path("/nowhere"))
    assert (settings.home, settings.device) == (Path("/data/kepler-edge"), "hub-7")
    assert settings.inputs[0]["trigger"] == "vibration"
    assert settings.edgehub_output == "host.docker.internal:50051"
    assert settings.quota_mb < 500 - 32
    assert env["PATH"].startswith("/opt/kepler-edge/bin")
    manifest, model = open_package(layer / "factory" / "app.search~failure" / "factory", place.signing.trust)
    assert (manifest.version, model) == (3, (place.version.folder / "model.onnx").read_bytes())
    assert config["config"]["Entrypoint"] == ["/bin/sh", "/start.sh"]
    first = bundle.read_bytes()
    place.target.deploy(request(show="true", trigger="vibration"), cast("Any", Run()))
    assert bundle.read_bytes() == first
    assert [path.name for path in bundle.parent.iterdir()] == ["d-hub.tar"]


def test_a_join_token_goes_along_when_asked_and_is_gone_with_the_bundle(place: Place, tmp_path: Path) -> None:
    asked = request(join_token_secret="hub-7-token", service="https://service.plant:8791")
    place.target.deploy(asked, cast("Any", Run()))
    _, config, layer = unpack(place.root / "home" / "edge-hub" / "d-hub.tar", tmp_path / "out")
    assert "KEPLER_EDGE_JOIN_TOKEN=one-time-token" in config["config"]["Env"]
    assert (layer / "service-ca.pem").read_text() == "the plant's authority"
    assert len(place.target.delete(asked, dry_run=True)) == 1
    assert len(place.target.delete(asked)) == 1
    assert place.target.delete(asked) == ()
    with pytest.raises(NotFound):
        place.target.status(asked)


def test_the_plan_says_what_is_done_by_hand_and_writes_nothing(place: Place) -> None:
    plan = place.target.plan(request())
    assert [step.name for step in plan.steps] == ["bundle", *(f"by hand {n}" for n in (1, 2, 3, 4))]
    assert any("not verified" in notice.text for notice in plan.notices)
    assert not (place.root / "home").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"to": "Hub 7"}, "no device's name"),
        ({"colour": "red"}, "no option 'colour'"),
        ({"storage_mb": "40"}, "leaves no room"),
        ({"storage_mb": "lots"}, "leaves no room"),
        ({"join_token_secret": "hub-7-token"}, "address that it can trust"),
        ({"join_token_secret": "hub-7-token", "service": "http://plain"}, "address that it can trust"),
    ],
)
def test_what_cannot_work_is_refused(place: Place, changes: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        place.target.plan(request(**changes))
    for call in (place.target.logs, place.target.rollback):
        with pytest.raises(InvalidInput):
            call(request())
    with pytest.raises(InvalidInput, match="not split"):
        place.target.traffic(request(), {3: 100.0})


def test_images_that_a_hub_cannot_run_are_refused(place: Place) -> None:
    def tried() -> None:
        place.target.deploy(request(), cast("Any", Run()))

    place.settings = EdgeHubSettings(image_archive_file=image(place.root / "x.tar", "amd64"))
    with pytest.raises(InvalidInput, match="is for amd64"):
        tried()
    (place.root / "y.tar").write_bytes(b"no tar at all")
    place.settings = EdgeHubSettings(image_archive_file=place.root / "y.tar")
    with pytest.raises(InvalidInput, match="no image as"):
        tried()
    place.settings = EdgeHubSettings(image_archive_file=place.root / "gone.tar")
    with pytest.raises(NotFound, match="no image"):
        tried()
    place.settings = EdgeHubSettings()
    with pytest.raises(InvalidInput, match="image_archive_file is empty"):
        tried()
    assert list((place.root / "home" / "edge-hub").iterdir()) == []


def test_the_start_script_brings_the_model_enrols_once_and_forgets_the_token(tmp_path: Path) -> None:
    """Run by a real shell, with a `kepler-edge` that notes how it was called."""
    home, tools, factory = tmp_path / "home", tmp_path / "bin", tmp_path / "factory"
    tools.mkdir()
    (factory / "app.search~failure" / "factory").mkdir(parents=True)
    (factory / "app.search~failure" / "factory" / "manifest.json").write_text("{}")
    (tools / "kepler-edge").write_text(
        '#!/bin/sh\nread -r line || true\necho "$1 token=${KEPLER_EDGE_JOIN_TOKEN:-none} read=$line" >> "$NOTES"\n'
        'if [ "$1" = enrol ]; then touch "$KEPLER_EDGE_HOME/enrolment.json"; fi\n'
    )
    (tools / "kepler-edge").chmod(0o755)
    script = tmp_path / "start.sh"
    script.write_text(START.replace("/factory/.", f"{factory}/."))
    env = {
        "PATH": f"{tools}:{os.environ['PATH']}", "KEPLER_EDGE_HOME": str(home), "NOTES": str(tmp_path / "notes"),
        "KEPLER_EDGE_JOIN_TOKEN": "one-time", "KEPLER_EDGE_SERVICE": "https://service:8791",
    }  # fmt: skip
    for _ in range(2):
        subprocess.run(["/bin/sh", str(script)], env=env, check=True, stdin=subprocess.DEVNULL)
    notes = (tmp_path / "notes").read_text().splitlines()
    assert notes == ["enrol token=one-time read=one-time", "run token=none read=", "run token=none read="]
    assert Slots(home).has_factory("app.search/failure")
