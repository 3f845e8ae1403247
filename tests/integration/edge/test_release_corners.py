"""The seldom ways of a release: cancelled, replaced, without a predecessor, on a broken disk."""

import sqlite3

import pytest

from kepler_edge.errors import InvalidInput
from kepler_edge.journal import Journal, NotWritten
from kepler_edge.model import Scored
from support.edge_models import Signing, draft, registered
from support.edge_releases import AlwaysGood, Device


@pytest.fixture(scope="module")
def signing():
    return Signing.fresh()


@pytest.fixture
def device(tmp_path, signing):
    return Device(tmp_path, signing, selftest=AlwaysGood)


MODELS = "device/models/app.search~m"


def at(device, release, state):
    device.run(until=lambda: device.state(release) == state, score=False)


def test_a_release_that_is_no_longer_wanted_or_whose_document_changed(device):
    device.install(device.version("r1"))
    long = device.version("r2", "mlp", version=2, probation_s=1_000)
    device.releases.desired({"releases": [long]})
    device.run(until=lambda: device.version_now == 2, score=False)
    device.releases.desired([{**long, "thresholds": {"bad": 0.7}}])
    assert device.version_now == 1
    assert device.way("r2")[-2:] == ["rolled-back", "offered"]
    device.run(until=lambda: device.version_now == 2, score=False)
    device.releases.rollback("app.search/m")  # in its probation
    assert (device.version_now, device.state("r2")) == (1, "rolled-back")
    assert device.reason("r2") == "A rollback was asked for"
    other = device.version("r3", "mlp", version=3)
    device.releases.desired([other])
    at(device, "r3", "downloading")
    device.releases.desired([])
    assert device.way("r3")[-1] == "refused"
    assert not device.releases.reported()


def test_a_model_named_twice_and_two_models_one_after_the_other(device):
    first, second = device.version("r1"), device.version("r2", version=2)
    assert device.releases.desired([first, second]) == ["The desired state names its model twice"]
    device.run()
    assert (device.state("r1"), device.state("r2")) == ("committed", "refused")
    more = device.version("o1", name="app.search/other"), device.version("p1", name="user.ana/pumps")
    device.releases.desired([first, *more])
    device.run(until=lambda: device.state("o1") == "preflight")
    assert device.state("p1") == "offered"
    device.run()
    assert set(device.releases.serving()) == {"app.search/m", "app.search/other", "user.ana/pumps"}


def test_a_superseded_release_that_is_named_again_must_still_rise(device):
    first = device.version("r1")
    device.install(first)
    device.install(device.version("r2", "mlp", version=2))
    device.install(first)
    assert device.state("r1") == "refused"
    assert "does not follow version 2" in device.reason("r1")
    assert device.version_now == 2


def test_a_version_that_rests_still_counts(device):
    device.install(device.version("r2", version=2))
    device.releases.desired([])
    device.install(device.version("r1", version=1))
    assert "does not follow version 2" in device.reason("r1")
    assert device.version_now is None


def test_a_first_release_that_fails_leaves_nothing_or_the_factorys(device):
    device.releases.desired([device.version("r1", probation_s=1_000)])
    device.run(until=lambda: device.version_now == 1, score=False)
    for _ in range(30):
        device.releases.observe("app.search/m", None, "broken")
    device.releases.observe("app.search/absent", None, "broken")
    device.run(score=False)
    assert device.version_now is None
    assert "broken" in device.reason("r1")
    with pytest.raises(InvalidInput, match="nothing before"):
        device.releases.rollback("app.search/m")
    registered(draft("linear"), device.home / MODELS / "factory", device.signing, version=3)
    device.restart()
    assert device.version_now == 3
    device.install(device.version("r2", version=2))
    assert "does not follow version 3" in device.reason("r2")
    device.install(device.version("r4", "mlp", version=4))
    device.releases.rollback("app.search/m")
    assert device.version_now == 3
    (device.home / MODELS / "factory" / "model.onnx").write_bytes(b"")
    device.restart()
    assert device.version_now is None


def test_a_shadow_that_fails_never_served(device):
    device.install(device.version("r1"))
    device.releases.desired([device.version("r2", "mlp", version=2, shadow_s=1_000)])
    device.run(until=lambda: bool(device.releases.shadows()), score=False)
    shadow = device.releases.shadows()["app.search/m"]
    for _ in range(30):
        device.releases.observe(shadow, Scored({"x": None}, False, 1.0, nan=True))
    device.run(score=False)
    assert (device.state("r2"), device.version_now) == ("refused", 1)
    assert "NaN" in device.reason("r2")
    assert not device.releases.shadows()
    again = device.version("r3", "mlp", version=3, shadow_s=1_000)
    device.releases.desired([again])
    device.run(until=lambda: bool(device.releases.shadows()), score=False)
    device.restart()
    assert not device.releases.shadows()
    device.run(until=lambda: bool(device.releases.shadows()), score=False)
    device.releases.rollback("app.search/m")
    assert device.version_now == 1


@pytest.mark.parametrize("state", ["staged", "shadow", "probation"])
def test_files_that_break_under_way(device, state):
    device.install(device.version("r1"))
    document = device.version("r2", "mlp", version=2, probation_s=1_000, shadow_s=1_000 * (state == "shadow"))
    device.releases.desired([document])
    at(device, "r2", state)
    (device.home / MODELS / "b" / "model.onnx").write_bytes(b"gone")
    if state == "staged":  # what the self-test does not see, the next start does
        device.run(score=False)
    device.restart()
    device.run(score=False)
    assert device.state("r2") in ("refused", "rolled-back")
    assert "not the file" in device.reason("r2")
    assert device.version_now == 1


def test_the_version_before_must_hold_to_be_gone_back_to(device):
    device.install(device.version("r1"))
    device.install(device.version("r2", "mlp", version=2))
    (device.home / MODELS / "a" / "release.json").write_text("{}")
    with pytest.raises(InvalidInput, match="does not hold any more"):
        device.releases.rollback("app.search/m")
    assert device.version_now == 2


def test_a_first_file_that_is_not_the_model(device):
    document = device.version("r1")
    folder = device.fetch.folders["r1"]
    (folder / "other.onnx").write_bytes((folder / "model.onnx").read_bytes())
    (entry,) = document["files"]
    device.install({**document, "files": [{**entry, "path": "other.onnx"}, entry]})
    assert "first file is not the model's" in device.reason("r1")


def test_a_full_disk_holds_releases_up_and_ends_nothing(tmp_path, signing):
    (tmp_path / "device").mkdir()
    journal = Journal(tmp_path / "device" / "releases.db")
    device = Device(tmp_path, signing, selftest=AlwaysGood, journal=journal)
    document = device.version("r1")

    def full(yes):
        journal._db.execute(f"PRAGMA query_only={int(yes)}")  # every write fails

    full(True)
    with pytest.raises(NotWritten):
        device.releases.desired([document])
    full(False)
    device.releases.desired([document])
    at(device, "r1", "verifying")
    full(True)
    for _ in range(5):
        assert device.releases.tick() is False
    assert device.state("r1") == "verifying"
    full(False)
    device.run()
    assert device.version_now == 1


def test_a_journal_that_cannot_be_opened_is_not_taken_for_a_damaged_one(tmp_path):
    path = tmp_path / "releases.db"
    Journal(path).close()
    path.rename(tmp_path / "kept")
    path.mkdir()
    with pytest.raises(NotWritten, match="cannot be opened"):
        Journal(path)
    path.rmdir()
    (tmp_path / "kept").rename(path)
    holder = sqlite3.connect(path)
    holder.close()
    journal = Journal(path)
    assert not journal.lost
    journal.close()


def test_pages_of_the_journal_that_were_torn_are_found(tmp_path, signing):
    device = Device(tmp_path, signing, selftest=AlwaysGood)
    device.install(device.version("r1"))
    device.install(device.version("r2", "mlp", version=2))
    device.releases.close()
    path = tmp_path / "device" / "releases.db"
    data = bytearray(path.read_bytes())
    data[4096:8192] = b"\x5a" * 4096
    path.write_bytes(data)
    device.start()
    assert device.version_now == 2
    assert path.with_name("releases.db.corrupt").exists()


def test_work_that_goes_on_is_ended_with_the_agent(tmp_path, signing):
    class Slow(AlwaysGood):
        stopped = 0

        def poll(self):
            return None

        def stop(self):
            Slow.stopped += 1

    device = Device(tmp_path, signing, selftest=Slow)
    document = device.version("r1")
    device.releases.desired([document])
    at(device, "r1", "selftest")
    device.releases.tick()
    device.releases.close()
    assert Slow.stopped == 1
    device.start()
    device.releases.tick()
    device.releases.desired([])
    assert Slow.stopped == 2
