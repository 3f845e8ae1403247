"""Devices, tokens, certificates and rollouts in SQLite and in PostgreSQL."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fakes.postgres import fresh_database, postgres_url  # noqa: F401 (a fixture)
from kepler.adapters.fleet.device_rows import DeviceRows
from kepler.adapters.fleet.enrolment_rows import EnrolmentRows
from kepler.adapters.fleet.rollout_rows import RolloutRows
from kepler.adapters.fleet.tables import Tables
from kepler.core.errors import Conflict, NotFound
from kepler.fleet import rollouts as rules
from kepler.fleet.devices import DeviceState, LoadedModel, Selector
from kepler.fleet.rollouts import Part, Rollout, RolloutPlan, RolloutState
from kepler.ports.fleet import Birth, DeviceCertificate, JoinToken, Reported, ReportedRelease, Step

MODEL = "app.search/failure"
RELEASE = {"id": "r1-v2", "model": MODEL, "version": 2}


@dataclass
class Fleet:
    tables: Tables
    devices: DeviceRows
    enrolment: EnrolmentRows
    rollouts: RolloutRows
    made: int = 0

    @classmethod
    def open(cls, home: Path, url: str = "") -> Fleet:
        tables = Tables(home, url)
        devices = DeviceRows(tables)
        return cls(tables, devices, EnrolmentRows(tables, devices), RolloutRows(tables))

    def enrol(self, *names: str, **labels: str) -> None:
        for name in names:
            self.enrolment.register(self.certificate(name), labels, 10.0)

    def certificate(self, device: str, key: bytes = b"") -> DeviceCertificate:
        self.made += 1
        public = key or f"{device}-{self.made}".encode().ljust(32, b".")
        return DeviceCertificate(f"{self.made:x}", device, public, "PEM", float(self.made), 1000.0)

    def roll_out(self, names: list[str], rollout_id: str = "r1", version: int = 2) -> Rollout:
        plan = RolloutPlan(stages=(1.0,))
        release = {**RELEASE, "id": f"{rollout_id}-v{version}", "version": version}
        rollout = Rollout(rollout_id, str(release["id"]), MODEL, version, "*", plan, "ana", 20.0)
        return self.rollouts.create(rollout, rules.assign(names, plan, rollout_id), release)

    def look(self, rollout_id: str, now: float = 30.0) -> Rollout:
        """What the driver does."""
        for _ in range(3):
            was = self.rollouts.rollout(rollout_id)
            after, changed = rules.advance(was, self.rollouts.parts(rollout_id), now)
            if (after, changed) != (was, []):
                assert self.rollouts.save(after, was.n, changed)
            for part in self.rollouts.parts(rollout_id):
                if part.part is Part.CHOSEN:
                    self.rollouts.offer(after, part, now)
            for part in rules.to_withdraw(after, self.rollouts.parts(rollout_id)):
                assert self.rollouts.withdraw(after, part, now)
        return self.rollouts.rollout(rollout_id)

    def tell(self, device: str, n: int, to: str, release: str = "r1-v2") -> bool:
        return self.rollouts.tell(Step(device, release, MODEL, 2, n, "x", to, "why", {"ms": 1.5}, 1.0, 31.0))


@pytest.fixture(params=["sqlite", "postgres"])
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    if request.param == "sqlite":
        opened = Fleet.open(tmp_path)
        yield opened
        opened.tables.close()
        return
    with fresh_database(request.getfixturevalue("postgres_url"), f"t{uuid.uuid4().hex}") as url:
        opened = Fleet.open(tmp_path, url)
        yield opened
        opened.tables.close()


def test_devices_are_found_by_name_and_selector(fleet: Fleet) -> None:
    fleet.enrol("gw-2", "gw-1", site="plant7")
    fleet.enrol("gw-3", site="plant8")
    assert [device.id for device in fleet.devices.devices()] == ["gw-1", "gw-2", "gw-3"]
    assert [device.id for device in fleet.devices.devices(limit=1, offset=1)] == ["gw-2"]
    chosen = fleet.devices.devices(Selector.parse("site=plant7"))
    assert [device.id for device in chosen] == ["gw-1", "gw-2"]
    fleet.devices.set_labels("gw-3", {"line": "1"})
    assert fleet.devices.device("gw-3").labels == {"line": "1"}
    for call in (fleet.devices.device, fleet.devices.desired, fleet.devices.next_command):
        with pytest.raises(NotFound, match="There is no device 'none'"):
            call("none")
    with pytest.raises(NotFound):
        fleet.devices.set_labels("none", {})


def test_births_and_late_deaths(fleet: Fleet) -> None:
    fleet.enrol("gw")
    birth = Birth(4, "ab" * 8, "0.1.0", ("onnx",), (LoadedModel(MODEL, 2, "serving"),))
    born = fleet.devices.born("gw", birth, 5.0)
    assert born is not None
    assert (born.online, born.bd, born.caps, born.models[0].version) == (True, 4, ("onnx",), 2)
    assert fleet.devices.born("gw", replace(birth, bd=3), 6.0) is None
    assert not fleet.devices.died("gw", 3, 6.0)
    assert fleet.devices.device("gw").online
    assert fleet.devices.died("gw", 4, 7.0)
    assert not fleet.devices.device("gw").online
    assert fleet.devices.born("stranger", birth, 5.0) is None
    assert not fleet.devices.reported("stranger", Reported(1, 1, "in-step"), 5.0)


def test_desired_states_have_rising_revisions(fleet: Fleet) -> None:
    fleet.enrol("gw")
    first = fleet.devices.change_desired("gw", lambda doc: {**doc, "paused": True})
    assert (first.rev, first.doc) == (1, {"releases": [], "paused": True})
    assert fleet.devices.change_desired("gw", lambda doc: dict(doc)).rev == 1
    assert [item.rev for item in fleet.devices.unpublished()] == [1]
    fleet.devices.published("gw", 1, 50.0)
    assert fleet.devices.unpublished() == []
    assert fleet.devices.desired("gw").published_at == 50.0
    assert fleet.devices.republish("gw").rev == 2
    assert fleet.devices.unpublished()[0].rev == 2
    assert not fleet.devices.device("gw").in_step
    assert fleet.devices.reported("gw", Reported(2, 2, "in-step"), 51.0)
    assert fleet.devices.device("gw").in_step
    assert [fleet.devices.next_command("gw") for _ in range(3)] == [1, 2, 3]


def test_a_token_lets_one_device_in(fleet: Fleet) -> None:
    token = JoinToken("t1", "", {"site": "plant7"}, "ana", 1.0, 100.0)
    fleet.enrolment.add_token(token, b"d" * 32)
    assert fleet.enrolment.token("t1") == (token, b"d" * 32)
    assert fleet.enrolment.token("t2") is None
    assert not fleet.enrolment.join(token, fleet.certificate("gw"), 100.0), "it has expired"
    assert fleet.enrolment.join(token, fleet.certificate("gw"), 50.0)
    assert not fleet.enrolment.join(token, fleet.certificate("gw-2"), 51.0)
    assert fleet.devices.device("gw").labels == {"site": "plant7"}
    [used] = fleet.enrolment.tokens()
    assert (used.used_by, used.used_at) == ("gw", 50.0)
    found = fleet.enrolment.certificate_of(used)
    assert found is not None
    assert found.device == "gw"


def test_two_that_use_one_token_at_once(fleet: Fleet) -> None:
    token = JoinToken("t1", "", {}, "ana", 1.0, 100.0)
    fleet.enrolment.add_token(token, b"d" * 32)
    certificates = [fleet.certificate(f"gw-{number}") for number in range(8)]
    won: list[bool] = []
    threads = [
        threading.Thread(target=lambda item=item: won.append(fleet.enrolment.join(token, item, 50.0)))
        for item in certificates
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 7 + [True]
    assert len(fleet.devices.devices()) == 1


def test_keys_hold_until_they_expire_or_are_revoked(fleet: Fleet) -> None:
    fleet.enrol("gw")
    old = fleet.enrolment.certificates("gw")[0]
    fleet.enrol("gw")
    new = fleet.enrolment.certificates("gw")[0]
    assert set(fleet.enrolment.keys_of("gw", 50.0)) == {old.public_key, new.public_key}
    assert fleet.enrolment.keys_of("gw", 1000.0) == []
    fleet.enrolment.revoke("gw", 60.0, but=new.serial)
    assert fleet.enrolment.keys_of("gw", 61.0) == [new.public_key]
    assert fleet.enrolment.revoke("gw", 70.0).state is DeviceState.REVOKED
    assert fleet.enrolment.keys_of("gw", 71.0) == []
    with pytest.raises(Conflict, match="another device"):
        fleet.enrolment.register(fleet.certificate("gw-2", new.public_key), {}, 80.0)
    with pytest.raises(NotFound):
        fleet.enrolment.revoke("none", 1.0)
    fleet.enrol("gw")
    assert fleet.devices.device("gw").state is DeviceState.ENROLLED


def test_a_rollout_goes_through_and_remembers_every_step(fleet: Fleet) -> None:
    fleet.enrol("a", "b")
    rollout = fleet.roll_out(["a", "b"])
    assert fleet.roll_out(["a", "b"]) == rollout, "the same id is the same rollout"
    fleet.look("r1")
    assert fleet.devices.desired("a").doc == {"releases": [RELEASE]}
    assert [item.device for item in fleet.devices.unpublished()] == ["a", "b"]
    assert fleet.tell("a", 1, "downloading")
    assert not fleet.tell("a", 1, "downloading")
    assert fleet.tell("a", 2, "committed")
    assert {part.device: part.part for part in fleet.rollouts.parts("r1")} == {
        "a": Part.COMMITTED,
        "b": Part.OFFERED,
    }
    assert fleet.rollouts.observe("b", [ReportedRelease("r1-v2", "selftest")], 32.0) == 1
    assert fleet.rollouts.observe("b", [ReportedRelease("r1-v2", "committed")], 33.0) == 1
    assert fleet.rollouts.observe("b", [ReportedRelease("r1-v2", "committed")], 33.0) == 0
    assert fleet.look("r1").state is RolloutState.SUCCEEDED
    assert [(step.device, step.to_state) for step in fleet.rollouts.steps("r1")] == [
        ("a", "committed"),
        ("a", "downloading"),
    ]
    assert fleet.rollouts.steps("r1", device="b") == []
    assert fleet.rollouts.open_rollouts() == []
    fleet.rollouts.delete("r1")
    fleet.rollouts.delete("r1")
    with pytest.raises(NotFound):
        fleet.rollouts.rollout("r1")


def test_rolling_back_puts_back_what_was_there(fleet: Fleet) -> None:
    fleet.enrol("a")
    fleet.roll_out(["a"])
    fleet.look("r1")
    fleet.tell("a", 1, "committed")
    fleet.look("r1")
    fleet.roll_out(["a"], "r2", 3)
    fleet.look("r2")
    assert fleet.devices.desired("a").doc["releases"][0]["version"] == 3
    fleet.tell("a", 2, "rolled-back", "r2-v3")
    assert fleet.look("r2").state is RolloutState.ROLLED_BACK
    [back] = fleet.devices.desired("a").doc["releases"]
    assert back == {**RELEASE, "id": "r2-back", "allow_downgrade": True}
    assert fleet.rollouts.parts("r2")[0].part is Part.WITHDRAWN
    assert fleet.devices.desired("a").rev == 3


def test_two_rollouts_of_one_model_do_not_meet(fleet: Fleet) -> None:
    fleet.enrol("a", "b")
    fleet.roll_out(["a"])
    with pytest.raises(Conflict, match=r"Rollout r1 brings app\.search/failure to a already"):
        fleet.roll_out(["a", "b"], "r2")
    fleet.roll_out(["b"], "r3")
    assert [item.id for item in fleet.rollouts.open_rollouts()] == ["r1", "r3"]
    assert len(fleet.rollouts.rollouts()) == 2
    fleet.rollouts.delete("r1")
    assert fleet.rollouts.rollout("r1").state is RolloutState.RUNNING, "it has not ended"


def test_a_device_that_left_is_skipped(fleet: Fleet) -> None:
    fleet.enrol("a", "b")
    fleet.roll_out(["a", "b"])
    fleet.enrolment.revoke("b", 25.0)
    fleet.look("r1")
    fleet.tell("a", 1, "committed")
    assert fleet.look("r1").state is RolloutState.SUCCEEDED
    assert {part.device: part.part for part in fleet.rollouts.parts("r1")}["b"] is Part.SKIPPED
    assert fleet.devices.desired("b").rev == 0


def test_the_slower_of_two_writers_changes_nothing(fleet: Fleet) -> None:
    fleet.enrol("a")
    rollout = fleet.roll_out(["a"])
    parts = fleet.rollouts.parts("r1")
    after, changed = rules.advance(rollout, parts, 30.0)
    stopped, skipped = rules.stop(rollout, parts, 30.0)
    assert fleet.rollouts.save(stopped, rollout.n, skipped)
    assert not fleet.rollouts.save(after, rollout.n, changed)
    assert not fleet.rollouts.offer(after, changed[0], 31.0)
    assert fleet.devices.desired("a").rev == 0
