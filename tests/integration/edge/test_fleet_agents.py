"""The service and real agents over TLS: enrol, deploy over HTTPS, roll a bad version back, rotate, revoke."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from kepler.adapters.cli.main import main
from kepler.client import KeplerClient
from kepler.client.fleet_records import EdgeDevice
from kepler.core.jobs import JobState
from support.broker import Broker, free_port
from support.fleet_device import until
from support.running_service import RunningService, start
from support.service_client import connect, ended, trained

ROOT = Path(__file__).resolve().parents[3]
MODEL = "app:line"
OPTIONS = {"stages": "0.5,1", "device_s": "90", "probation_s": "1", "input": "feed"}


@dataclass
class Plant:
    folder: Path
    broker: Broker
    service: RunningService
    client: KeplerClient
    agents: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def agent(self, name: str, **labels: str) -> Path:
        """Enrol and start an agent; gives its home."""
        home = self.folder / name
        home.mkdir()
        token = self.client.edge.create_token(name, labels).text
        self._command(home, "--home", str(home), "enrol", "--service", f"https://{self.service.http}",
                      "--ca", str(self.service.home / "tls" / "ca.crt"), "--device", name, token=token)  # fmt: skip
        with (home / "log").open("wb") as log:
            self.agents.append(
                subprocess.Popen(
                    [sys.executable, "-m", "kepler_edge", "--home", str(home), "run"],
                    stdout=log,
                    stderr=log,
                    env=self._environment(name),
                )
            )
        until(lambda: self.client.edge.device(name).online, 30, f"the birth of {name}")
        return home

    def _command(self, home: Path, *arguments: str, token: str = "") -> None:
        done = subprocess.run(
            [sys.executable, "-m", "kepler_edge", *arguments], input=token.encode(), capture_output=True,
            env=self._environment(home.name), timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()

    def _environment(self, name: str) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("KEPLER_")}
        return {**clean, "PYTHONPATH": str(ROOT / "edge_agent"), "KEPLER_EDGE_DEVICE": name}


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    folder = tmp_path_factory.mktemp("plant")
    home, broker = folder / "service", Broker(folder, tls=True)
    where = ["--home", str(home)]
    assert main(["tls", "init", *where, "--host", "127.0.0.1"]) == 0
    assert main(["edge", "broker", *where, "--to", str(broker.folder), "--host", "127.0.0.1"]) == 0
    port = free_port()
    environment = {
        "KEPLER_TLS__CERT_FILE": str(home / "tls" / "server.crt"),
        "KEPLER_TLS__KEY_FILE": str(home / "tls" / "server.key"),
        "KEPLER_MQTT__ADDRESS": broker.address,
        "KEPLER_MQTT__TLS": "true",
        "KEPLER_EDGE__PUBLIC_URL": f"https://127.0.0.1:{port}",
        "KEPLER_EDGE__CRL_FILE": str(broker.folder / "crl.pem"),
    }
    with broker:
        service = start(home, "--http", f"127.0.0.1:{port}", env=environment)
        made = Plant(folder, broker, service, connect(service, ca=home / "tls" / "ca.crt"))
        try:
            trained(made.client, MODEL)
            yield made
        finally:
            for agent in made.agents:
                agent.terminate()
            for agent in made.agents:
                agent.wait(20)
            made.client.close()
            service.stop()
            service.kill()


def test_real_agents_take_a_version_over_https(plant: Plant) -> None:
    homes = [plant.agent(f"press-{number}", site="plant7") for number in (1, 2)]
    found = plant.client.deployments.deploy(MODEL, "edge", "site=plant7", OPTIONS)
    job = ended(plant.client, found.id)
    logs = [line.text for line in plant.client.deployments.logs(found.id)]
    assert job.state is JobState.SUCCEEDED, (job, logs, (homes[0] / "log").read_text()[-3000:])
    done = plant.client.deployments.get(found.id)
    assert {place.name: place.state for place in done.places} == {
        "press-1": "committed",
        "press-2": "committed",
    }
    assert [text.split()[2] for text in logs].count("committed") == 2
    until(lambda: in_step(plant.client.edge.device("press-1")))
    context = ssl.create_default_context(cafile=str(plant.service.home / "tls" / "ca.crt"))
    metrics = httpx.get(f"https://{plant.service.http}/metrics", verify=context).text
    assert 'route="other",status="206"' in metrics, "the files came by ranges over HTTPS"


def test_a_real_agent_answers_commands(plant: Plant) -> None:
    answers = list(plant.client.edge.command("press-1", "ping", wait_s=20))
    assert answers[-1].stage == "done"
    bundle = list(plant.client.edge.command("press-1", "diag", wait_s=30))
    assert bundle[-1].stage == "done"
    assert "BEGIN" not in str(bundle), "no key leaves the device"


def test_the_first_version_comes_back_after_a_rollback(plant: Plant) -> None:
    trained(plant.client, MODEL)
    found = plant.client.deployments.deploy(MODEL, "edge", "site=plant7", OPTIONS)
    assert ended(plant.client, found.id).state is JobState.SUCCEEDED
    plant.client.deployments.rollback(found.id)
    until(lambda: plant.client.edge.rollout(found.id).state == "rolled-back")
    names = ("press-1", "press-2")
    until(lambda: all(in_step(plant.client.edge.device(name)) for name in names), 60, "the old version")


def in_step(device: EdgeDevice) -> bool:
    return device.rev_applied == device.rev and device.status == "in-step"


def test_a_revoked_agent_is_out(plant: Plant) -> None:
    plant.client.edge.revoke("press-2")
    plant.broker.reload()
    assert not plant.client.edge.device("press-2").online
    assert plant.client.edge.devices("site=plant7")[0].id == "press-1"
    assert len(plant.client.edge.devices("site=plant7")) == 1
