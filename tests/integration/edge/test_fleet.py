"""The fleet with a real service, a real broker over TLS and devices that behave as agents do."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from kepler.adapters.cli.main import main
from kepler.client import KeplerClient
from kepler.core.errors import Conflict, InvalidInput, NotFound, TimedOut
from kepler.core.jobs import JobState
from kepler_edge.release_doc import Release
from support.broker import Broker
from support.fleet_device import BAD, FleetDevice, until
from support.mqtt_schemas import validator
from support.running_service import RunningService, start
from support.service_client import connect, ended, trained

MODEL = "app:line"
QUICK = {"stages": "0.5,1", "device_s": "60"}


@dataclass
class Site:
    home: Path
    broker: Broker
    service: RunningService
    client: KeplerClient
    devices: list[FleetDevice]
    made: int = 0

    def joined(self, name: str, *, steps: tuple[str, ...] | None = None, **labels: str) -> FleetDevice:
        """A device that joined and is connected."""
        device = FleetDevice(name, **({} if steps is None else {"steps": steps}))
        token = self.client.edge.create_token(name, labels)
        device.enrol(f"http://{self.service.http}", token.text)
        device.connect("127.0.0.1", self.broker.port, self.home)
        self.devices.append(device)
        until(lambda: self.client.edge.device(name).online, what=f"{name}'s birth")
        return device

    def restart(self) -> None:
        self.client.close()
        self.service = start(self.home, env=environment(self.broker))
        self.client = connect(self.service)

    def label(self) -> str:
        self.made += 1
        return f"t{self.made}"


def environment(broker: Broker) -> dict[str, str]:
    return {
        "KEPLER_MQTT__ADDRESS": broker.address,
        "KEPLER_MQTT__TLS": "true",
        "KEPLER_EDGE__PUBLIC_URL": "https://service.example:8791",
    }


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    home = folder / "home"
    broker = Broker(folder, tls=True)
    assert (
        main(["edge", "broker", "--home", str(home), "--to", str(broker.folder), "--host", "127.0.0.1"]) == 0
    )
    with broker:
        service = start(home, env=environment(broker))
        made = Site(home, broker, service, connect(service), [])
        try:
            trained(made.client, MODEL)
            yield made
        finally:
            for device in made.devices:
                device.close()
            made.client.close()
            made.service.stop()
            made.service.kill()


def test_a_version_reaches_the_chosen_devices(site: Site) -> None:
    label = site.label()
    a, b = site.joined("gw-a", site=label), site.joined("gw-b", site=label)
    plan = site.client.deployments.plan(MODEL, "edge", f"site={label}", QUICK)
    assert [change.name for change in plan.changes] == ["gw-a", "gw-b"]
    assert "app.search/line none -> 1" in plan.changes[0].text
    assert a.desired == b.desired == []

    found = site.client.deployments.deploy(MODEL, "edge", f"site={label}", QUICK, "line-to-two")
    assert ended(site.client, found.id).state is JobState.SUCCEEDED
    done = site.client.deployments.get(found.id)
    assert (done.state, done.model, done.figures["committed"]) == ("succeeded", "app.search/line@1", 2.0)
    assert {place.name: place.state for place in done.places} == {"gw-a": "committed", "gw-b": "committed"}
    again = site.client.deployments.deploy(MODEL, "edge", f"site={label}", QUICK, "line-to-two")
    assert again.created_at == found.created_at
    with pytest.raises(Conflict, match="is another one"):
        site.client.deployments.deploy(MODEL, "edge", "*", QUICK, "line-to-two")

    for device in (a, b):
        [desired] = device.desired
        validator("desired").validate(desired)
        release = Release.of(desired["doc"]["releases"][0])
        assert (release.model, release.version, release.id) == ("app.search/line", 1, "line-to-two-v1")
        state = until(
            lambda device=device: (
                site.client.edge.device(device.name).status and site.client.edge.device(device.name)
            )
        )
        assert (state.rev, state.rev_applied, state.status) == (1, 1, "in-step")
    lines = site.client.deployments.logs(found.id, "gw-a")
    assert lines[-1].text.startswith("x -> committed")
    assert len(lines) == 7
    assert site.client.edge.rollout(found.id).state == "succeeded"


def test_files_come_over_https_paths_and_in_chunks(site: Site) -> None:
    label = site.label()
    device, other = site.joined("gw-files", site=label), site.joined("gw-other", site="none")
    found = site.client.deployments.deploy(MODEL, "edge", f"site={label}", QUICK)
    ended(site.client, found.id)
    release = device.desired[-1]["doc"]["releases"][0]
    path = release["url"].removeprefix("https://service.example:8791")
    with httpx.Client(base_url=f"http://{site.service.http}") as http:
        check_files(site, http, path, release, device, other)


def check_files(
    site: Site,
    http: httpx.Client,
    path: str,
    release: dict[str, Any],
    device: FleetDevice,
    other: FleetDevice,
) -> None:
    for file in (release["manifest"], release["signature"], *release["files"]):
        whole = http.get(f"{path}/{file['path']}")
        assert hashlib.sha256(whole.content).hexdigest() == file["sha256"]
        assert len(whole.content) == file["size"]
    part = http.get(f"{path}/model.onnx", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, http.get(f"{path}/model.onnx").content[10:20])
    for wrong, status in [
        (f"{path}/none.onnx", 404),
        (f"{path}/..%2F..%2Fsecrets.json", 404),
        (f"{path[:-1]}x/model.onnx", 403),
        (f"{path.replace('/1/', '/2/')}/model.onnx", 403),
        (f"{path.replace('gw-files', 'gw-other')}/model.onnx", 403),
    ]:
        assert http.get(wrong).status_code == status, wrong

    model = release["files"][0]
    device.ask_chunk(release["id"], model["sha256"], 5, 20)
    chunk = until(lambda: device.chunks.get((model["sha256"], 5)), what="the chunk")
    assert chunk == http.get(f"{path}/model.onnx").content[5:25]
    other.ask_chunk(release["id"], model["sha256"], 0, 20)
    device.ask_chunk("no-such-release", model["sha256"], 0, 20)
    device.ask_chunk(release["id"], "0" * 64, 0, 20)
    device.ask_chunk(release["id"], model["sha256"], 0, 1)
    until(lambda: device.chunks.get((model["sha256"], 0)))
    assert len(device.chunks) == 2
    assert other.chunks == {}
    site.client.edge.revoke("gw-files")
    assert http.get(f"{path}/model.onnx").status_code == 404


def test_a_bad_model_is_rolled_back_by_itself(site: Site) -> None:
    label = site.label()
    good = [site.joined(f"gw-c{number}", site=label) for number in range(2)]
    ended(site.client, site.client.deployments.deploy(MODEL, "edge", f"site={label}", QUICK).id)
    trained(site.client, MODEL)
    for device in good:
        device.steps = BAD
    found = site.client.deployments.deploy(MODEL, "edge", f"site={label}", QUICK)
    job = ended(site.client, found.id)
    assert job.state is JobState.FAILED
    assert job.failure is not None
    assert "it answers wrongly" in job.failure.to_error().sentence
    assert site.client.deployments.get(found.id).state == "rolled-back"
    asked = [device for device in good if len(device.desired) > 1]
    assert len(asked) == 1, "only the first stage was offered it"
    back = until(lambda: asked[0].desired[-1]["doc"]["releases"][0]["version"] == 1 and asked[0].desired[-1])
    assert back["doc"]["releases"][0]["allow_downgrade"] is True


def test_a_deployment_survives_kill_9_of_the_service(site: Site) -> None:
    label = site.label()
    device = site.joined("gw-slow", steps=("downloading",), site=label)
    found = site.client.deployments.deploy(MODEL, "edge", f"site={label}", QUICK)
    until(lambda: device.desired, what="the desired state")
    site.service.kill()
    device.tell(device.desired[0]["doc"]["releases"][0], "selftest")
    site.restart()
    until(lambda: site.client.deployments.get(found.id).places[0].state == "selftest", what="the kept step")
    site.service.kill()
    site.restart()
    assert site.client.deployments.get(found.id).state == "running"
    device.tell(device.desired[0]["doc"]["releases"][0], "committed")
    assert ended(site.client, found.id).state is JobState.SUCCEEDED
    assert len({desired["rev"] for desired in device.desired}) == 1


def test_pause_resume_stop_and_rollback_by_hand(site: Site) -> None:
    label = site.label()
    devices = [site.joined(f"gw-d{number}", steps=("downloading",), site=label) for number in range(2)]
    found = site.client.deployments.deploy(MODEL, "edge", f"site={label}", QUICK)
    first = until(lambda: next((device for device in devices if device.desired), None))
    assert site.client.edge.change_rollout(found.id, "pause", "lunch").reason == "lunch"
    first.tell(first.desired[0]["doc"]["releases"][0], "committed")
    until(lambda: site.client.edge.rollout(found.id).committed == 1)
    time.sleep(0.5)
    assert site.client.edge.rollout(found.id).waiting == 1
    site.client.edge.change_rollout(found.id, "resume")
    until(lambda: all(device.desired for device in devices))
    with pytest.raises(InvalidInput):
        site.client.edge.change_rollout(found.id, "juggle")
    assert {change.name for change in site.client.deployments.rollback(found.id, dry_run=True)} == {
        "gw-d0",
        "gw-d1",
    }
    assert site.client.edge.rollout(found.id).state == "running"
    site.client.deployments.rollback(found.id)
    assert ended(site.client, found.id).state is JobState.FAILED
    until(lambda: all(device.desired[-1]["doc"]["releases"] == [] for device in devices))
    with pytest.raises(InvalidInput, match="serves one version"):
        site.client.deployments.traffic(found.id, {1: 50.0, 2: 50.0}, dry_run=True)
    assert site.client.deployments.delete(found.id, dry_run=True)
    site.client.deployments.delete(found.id)
    assert site.client.deployments.get(found.id).state == "deleted"
    assert site.client.deployments.delete(found.id) == ()


def test_cancelling_the_job_stops_the_rollout(site: Site) -> None:
    label = site.label()
    device = site.joined("gw-e", steps=("downloading",), site=label)
    found = site.client.deployments.deploy(MODEL, "edge", f"site={label}", QUICK)
    until(lambda: device.desired)
    site.client.cancel_job(found.id)
    assert ended(site.client, found.id).state is JobState.CANCELLED
    assert site.client.edge.rollout(found.id).state == "stopped"


def test_an_offline_device_takes_it_when_it_comes_back(site: Site) -> None:
    label = site.label()
    device = site.joined("gw-f", site=label)
    device.close()
    until(lambda: not site.client.edge.device("gw-f").online, what="its death")
    found = site.client.deployments.deploy(MODEL, "edge", f"site={label}", QUICK)
    time.sleep(1)
    assert site.client.deployments.get(found.id).places[0].state == "offered"
    device.connect("127.0.0.1", site.broker.port, site.home)
    assert ended(site.client, found.id).state is JobState.SUCCEEDED


def test_commands_are_answered(site: Site) -> None:
    device = site.joined("gw-g")
    answers = list(site.client.edge.command("gw-g", "ping", {"x": "1"}))
    assert [(answer.stage, answer.text) for answer in answers] == [("ack", "ping ack"), ("done", "ping done")]
    validator("command").validate(device.commands[0])
    list(site.client.edge.command("gw-g", "rotate-cert"))
    assert [command["n"] for command in device.commands] == [1, 2]
    assert device.enrol(f"http://{site.service.http}", device.commands[1]["args"]["token"])["certificate_pem"]
    device.close()
    with pytest.raises(TimedOut, match="did not answer within 1 s"):
        list(site.client.edge.command("gw-g", "ping", wait_s=1.0))
    with pytest.raises(InvalidInput):
        list(site.client.edge.command("gw-g", "format-disk"))
    with pytest.raises(NotFound):
        list(site.client.edge.command("gw-none", "ping"))


def test_what_is_no_frame_of_the_device_changes_nothing(site: Site) -> None:
    device, other = site.joined("gw-h"), FleetDevice("gw-h", seed=b"9" * 32)
    other.tenant = device.tenant
    before = site.client.edge.device("gw-h")
    death = {"v": 1, "online": False, "bd": before.rev + 10**6}
    for payload in (
        b"",
        b"K1",
        b"x" * 5000,
        other._frame("state", death),
        device._frame("rollout", {"v": 1}),
    ):
        device.publish_raw("state", payload)
        device.publish_raw("rollout", payload)
    list(site.client.edge.command("gw-h", "ping"))  # everything before it has been taken
    assert site.client.edge.device("gw-h").online


@pytest.mark.parametrize(
    ("to", "options", "error"),
    [
        ("site=nowhere", {}, "No enrolled device is chosen"),
        ("site", {}, "chooses no devices"),
        ("*", {"stages": "0.5"}, "are not the stages"),
        ("*", {"speed": "9"}, "has no option 'speed'"),
        ("*", {"on_error": "cry"}, "is not known"),
        ("*", {"windows": "{"}, "is no JSON"),
        ("*", {"probation_s": "-1"}, "is not a number"),
    ],
)
def test_what_cannot_be_deployed(site: Site, to: str, options: dict[str, str], error: str) -> None:
    with pytest.raises(InvalidInput, match=error):
        site.client.deployments.deploy(MODEL, "edge", to, options)
    with pytest.raises(InvalidInput, match="Unknown deploy target"):
        site.client.deployments.deploy(MODEL, "moon", to, options)


def test_the_command_line(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--address", site.service.grpc, "--home", str(site.home)]
    label = site.label()
    site.joined("gw-i", site=label)

    def run(*arguments: str, code: int = 0) -> str:
        capsys.readouterr()
        assert main([*arguments, *where]) == code, capsys.readouterr().err
        return capsys.readouterr().out

    assert run("edge", "enrol", "gw-new", "--label", "site=x", "--ttl", "1h").startswith("ke_")
    assert "gw-new" in run("edge", "tokens")
    assert "gw-i" in run("edge", "devices", f"site={label}")
    assert "none -> 1" in run(
        "deploy", f"{MODEL}@1", "--target", "edge", "--to", f"site={label}", "--dry-run"
    )
    arguments = (
        "deploy",
        f"{MODEL}@1",
        "--target",
        "edge",
        "--to",
        f"site={label}",
        "--id",
        "by-hand",
        "--wait",
        "-q",
    )
    assert "succeeded, deployment by-hand" in run(*arguments)
    assert json.loads(run("deployments", "status", "by-hand", "--json"))["state"] == "succeeded"
    for group in (("edge", "status"), ("edge", "logs"), ("edge", "rollout"), ("deployments", "logs")):
        assert "gw-i" in run(*group, "by-hand")
    assert "by-hand" in run("edge", "rollout") + run("deployments", "list")
    assert "edge" in run("deployments", "targets")
    assert "online" in run("edge", "status", "gw-i")
    assert "site=y" in run("edge", "label", "gw-i", "-l", "site=y")
    assert "ping done" in run("edge", "command", "gw-i", "ping")
    assert "gets back" in run("edge", "rollback", "by-hand", "--dry-run")
    assert "revoked" in run("edge", "revoke", "gw-i")
    run("edge", "rollout", "by-hand", "--pause", code=6)
