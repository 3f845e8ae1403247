"""keplerdeploy and kepleredge as splunkd starts them, against a real service with devices."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.splunk_app.talk import error_of, getinfo, records, said, talk
from kepler.client import KeplerClient
from kepler_app.chunks import Command
from kepler_app.commands.deploy import KeplerDeploy
from kepler_app.commands.edge import KeplerEdge
from support.broker import Broker
from support.fleet_device import FleetDevice, until
from support.running_service import running
from support.service_client import connect, trained


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeplerClient]:
    """A service on a broker without TLS, with a model and two devices of plant 7."""
    folder = tmp_path_factory.mktemp("searches")
    with (
        Broker(folder) as broker,
        running(folder / "home", env={"KEPLER_MQTT__ADDRESS": broker.address}) as service,
        connect(service) as connected,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("KEPLER_ADDRESS", service.grpc)
        trained(connected, "app:line")
        devices = [FleetDevice(f"gw-{number}") for number in (1, 2)]
        for device in devices:
            token = connected.edge.create_token("", {"site": "plant7"})
            device.enrol(f"http://{service.http}", token.text)
            device.connect("127.0.0.1", broker.port)
        until(lambda: all(item.online for item in connected.edge.devices()))
        yield connected
        for device in devices:
            device.close()


def rows_of(command: Command, *args: str) -> list[dict[str, str]]:
    code, answers = talk(command, getinfo(*args), b"")
    assert code == 0, answers
    return records(answers[1][1])


def test_from_a_plan_to_a_rollback(client: KeplerClient) -> None:
    asked = ("app:line@1", "target=edge", 'to="site=plant7"', 'stages="0.5,1"')
    plan = rows_of(KeplerDeploy(), *asked, "dry_run=t")
    assert [row["kind"] for row in plan] == ["step", "step", "change", "change", "cost"]
    assert client.deployments.list() == []
    [row] = rows_of(KeplerDeploy(), *asked, "id=plant7-line", "wait=true", "timeout=30")
    assert (row["state"], row["model"], row["target"], row["to"]) == (
        "succeeded", "app.search/line@1", "edge", "site=plant7",
    )  # fmt: skip
    assert "committed=2" in row["figures"]
    assert [row["deployment"] for row in rows_of(KeplerDeploy(), *asked, "id=plant7-line")] == ["plant7-line"]

    devices = rows_of(KeplerEdge(), "devices", 'to="device=gw-*"')
    assert [(row["device"], row["online"], row["labels"]) for row in devices] == [
        ("gw-1", "true", "site=plant7"),
        ("gw-2", "true", "site=plant7"),
    ]
    assert {row["state"] for row in rows_of(KeplerEdge(), "status", "plant7-line")} == {"committed"}
    assert rows_of(KeplerDeploy(), "status", "plant7-line") == rows_of(KeplerEdge(), "status", "plant7-line")
    [rollout] = rows_of(KeplerEdge(), "rollout")
    assert (rollout["rollout"], rollout["state"], rollout["stages"]) == ("plant7-line", "succeeded", "0.5,1")
    assert rows_of(KeplerEdge(), "rollout", "plant7-line")[0]["committed"] == "2"
    steps = rows_of(KeplerEdge(), "logs", "plant7-line", "device=gw-1")
    assert [row["text"].split()[2] for row in steps][-1] == "committed"
    assert rows_of(KeplerDeploy(), "logs", "plant7-line", "place=gw-1") == steps

    dry = rows_of(KeplerEdge(), "rollback", "plant7-line", "dry_run=t")
    assert {row["where"] for row in dry} == {"gw-1", "gw-2"}
    assert {row["dry_run"] for row in rows_of(KeplerEdge(), "rollback", "plant7-line")} == {"false"}
    until(lambda: client.edge.rollout("plant7-line").state == "rolled-back")
    assert rows_of(KeplerDeploy(), "delete", "plant7-line")
    assert rows_of(KeplerDeploy(), "list") == []


def test_steering_and_waiting_no_longer_than_asked(client: KeplerClient) -> None:
    code, answers = talk(
        KeplerEdge(),
        getinfo(
            "deploy", "app:line", 'to="site=plant7"', "soak_s=600", 'stages="0.5,1"', "wait=t", "timeout=1s"
        ),
        b"",
    )
    assert code == 0
    assert "has not ended within 1 seconds" in said(answers)[-1][1]
    rollout = records(answers[1][1])[0]["deployment"]
    assert (
        rows_of(KeplerEdge(), "rollout", "pause", rollout, 'reason="shift change"')[0]["reason"]
        == "shift change"
    )
    assert rows_of(KeplerEdge(), "rollout", "stop", rollout)[0]["state"] == "stopped"
    assert "cannot be resumed" in error_of(KeplerEdge(), getinfo("rollout", "resume", rollout), b"")


def test_a_preview_deploys_nothing(client: KeplerClient) -> None:
    before = len(client.deployments.list())
    code, answers = talk(KeplerDeploy(), getinfo("app:line", "target=edge", 'to="*"', preview=True), b"")
    assert (code, answers[1][1]) == (0, b"")
    assert len(client.deployments.list()) == before


@pytest.mark.parametrize(
    ("command", "args", "error"),
    [
        (KeplerDeploy, (), "No model is named"),
        (KeplerDeploy, ("app:line",), "No target is named"),
        (KeplerDeploy, ("app:line", "twice", "target=edge"), "too many words"),
        (KeplerDeploy, ("app:line", "target=moon"), "Unknown deploy target 'moon'"),
        (KeplerDeploy, ("app:line", "target=edge", 'to="site=mars"'), "No enrolled device is chosen"),
        (KeplerDeploy, ("app:line", "target=edge", 'to="*"', "speed=9"), "has no option 'speed'"),
        (KeplerDeploy, ("status",), "Write keplerdeploy"),
        (KeplerDeploy, ("logs", "none-such"), "There is no deployment"),
        (KeplerDeploy, ("list", "speed=9"), "has no option speed="),
        (KeplerEdge, (), "No action is named"),
        (KeplerEdge, ("juggle",), "must be one of"),
        (KeplerEdge, ("rollback",), "Write kepleredge"),
        (KeplerEdge, ("rollout", "pause"), "Write kepleredge"),
        (KeplerEdge, ("deploy", "app:line", "target=local", "to=x"), "deploys to devices alone"),
        (KeplerEdge, ("devices", 'to="site"'), "chooses no devices"),
        (KeplerEdge, ("rollout", "none-such"), "There is no rollout"),
    ],
)
def test_what_is_refused(
    client: KeplerClient, command: type[Command], args: tuple[str, ...], error: str
) -> None:
    assert error in error_of(command(), getinfo(*args), b"")


def test_targets_are_listed(client: KeplerClient, tmp_path: Path) -> None:
    found = {row["target"]: row["description"] for row in rows_of(KeplerDeploy(), "targets")}
    assert found["edge"].startswith("Brings a signed ONNX model")
