"""The target ``edge`` keeps the contract of `kepler.testing.check_target`, with devices that install at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.clock import FakeClock
from fakes.manifests import make_manifest
from fakes.secret_store import InMemorySecretStore
from kepler.adapters.fleet.device_rows import DeviceRows
from kepler.adapters.fleet.enrolment_rows import EnrolmentRows
from kepler.adapters.fleet.file_links import SignedLinks
from kepler.adapters.fleet.rollout_rows import RolloutRows
from kepler.adapters.fleet.tables import Tables
from kepler.adapters.mqtt.fleet import NoFleetLink
from kepler.core.errors import InvalidInput
from kepler.core.manifest import FileEntry
from kepler.core.saved import SavedModel
from kepler.fleet.desired import releases_of
from kepler.ports.deploy import DeployRequest, ReadyVersion, TargetContext
from kepler.ports.fleet import DeviceCertificate, Step
from kepler.registry import Targets, load_targets
from kepler.targets.edge import EdgeTarget
from kepler.testing import RecordingWork, TargetBench, check_target
from kepler.usecases.fleet import DriveRollouts

MODEL = "app.search/failure"


class OneVersion:
    """Implements `ports.deploy.ReadyVersions`."""

    def __init__(self, folder: Path) -> None:
        names = ("manifest.json", "manifest.sig", "model.onnx")
        files = {name: FileEntry(f"{number}" * 64, 100 + number) for number, name in enumerate(names)}
        self.version = ReadyVersion(folder, make_manifest(name=MODEL, version=2), files)

    def ready(self, model: str, version: int) -> ReadyVersion:
        return self.version


class Fleet:
    """Two devices that commit whatever they are offered, at the next tick."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self.clock = FakeClock()
        self.tables = Tables(home)
        links = SignedLinks(InMemorySecretStore(), self.clock, "https://service.plant")
        self.devices, self.rollouts = DeviceRows(self.tables), RolloutRows(self.tables, links.folder_url)
        enrolment = EnrolmentRows(self.tables, self.devices)
        for number in (1, 2):
            name = f"gw-{number}"
            enrolment.register(
                DeviceCertificate(str(number), name, bytes([number] * 32), "", 1.0, 9e9), {}, 1.0
            )
        self.versions = OneVersion(home)
        self.context = TargetContext(self.versions, self.devices, self.rollouts, links, self.clock)
        self.driver = DriveRollouts(self.devices, self.rollouts, NoFleetLink(), self.clock)
        self.numbers = itertools.count(1)
        self.told: set[tuple[str, str]] = set()

    def tick(self) -> None:
        self.clock.advance(1)
        self.driver.run()
        for device in self.devices.devices():
            for release in releases_of(self.devices.desired(device.id).doc):
                if (device.id, release["id"]) not in self.told:
                    self.told.add((device.id, release["id"]))
                    self.rollouts.tell(
                        Step(device.id, release["id"], MODEL, 2, next(self.numbers), "probation", "committed",
                             received_at=self.clock.now())
                    )  # fmt: skip

    def seen(self) -> object:
        rollouts = self.rollouts.rollouts()
        parts = [self.rollouts.parts(rollout.id) for rollout in rollouts]
        return rollouts, parts, [self.devices.desired(device.id) for device in self.devices.devices()]

    def bench(self) -> TargetBench:
        request = DeployRequest("d-one", "edge", MODEL, 2, "*", {"stages": "0.5,1"}, "ana")
        return TargetBench(EdgeTarget(self.context), request, self.tick, self.seen)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Callable[[], Fleet]]:
    made: list[Fleet] = []

    def make() -> Fleet:
        made.append(Fleet(tmp_path / str(len(made))))
        return made[-1]

    yield make
    for one in made:
        one.tables.close()


def test_edge_keeps_the_contract(fleet: Callable[[], Fleet]) -> None:
    check_target(lambda: fleet().bench())


def test_a_target_that_changes_things_in_a_dry_run_is_found(fleet: Callable[[], Fleet]) -> None:
    class Hasty(EdgeTarget):
        def rollback(self, request, *, dry_run=False):  # type: ignore[no-untyped-def]
            return super().rollback(request)

    def make() -> TargetBench:
        one = fleet()
        return replace(one.bench(), target=Hasty(one.context))

    with pytest.raises(AssertionError, match="a dry run of rollback changes nothing"):
        check_target(make)


def test_models_that_devices_cannot_run_are_refused_with_the_reason(fleet: Callable[[], Fleet]) -> None:
    one = fleet()
    bench = one.bench()
    native = SavedModel("skops", ("model.skops",), "float64", ("label",), reason="It has no converter")
    one.versions.version = replace(
        one.versions.version, manifest=replace(one.versions.version.manifest, model=native)
    )
    with pytest.raises(InvalidInput, match="It has no converter"):
        bench.target.plan(bench.request)
    with pytest.raises(InvalidInput):
        bench.target.deploy(bench.request, RecordingWork("d-one", bench.tick))


def test_targets_are_found_by_name_and_the_unknown_lists_the_known(fleet: Callable[[], Fleet]) -> None:
    targets: Targets = load_targets(fleet().context)
    assert isinstance(targets.get("Edge"), EdgeTarget)
    assert targets.get("edge") is targets.get("edge")
    with pytest.raises(InvalidInput, match=r"Unknown deploy target 'moon'.*edge"):
        targets.get("moon")
