"""A release's way to serving, with real models that the service trained and signed."""

import json
import re
import shutil

import pytest

from kepler_edge.errors import InvalidInput, Unavailable
from kepler_edge.keys import Trust
from kepler_edge.releases import Releases
from support.edge_models import Signing, draft, registered, release_document, sample_rows
from support.edge_releases import WAY, AlwaysGood, Device

ROWS = sample_rows(60, seed=5)


@pytest.fixture(scope="module")
def signing():
    return Signing.fresh()


@pytest.fixture
def device(tmp_path, signing):
    return Device(tmp_path, signing)


def test_a_release_goes_its_whole_way_and_the_next_one_takes_the_other_slot(device):
    device.install(device.version("r1", "gbdt", thresholds={"bad": 0.5}))
    assert device.way("r1") == WAY
    assert [step["n"] for step in device.told] == list(range(1, len(WAY) + 1))
    assert device.told[-1]["data"]["scored"] >= 10
    figures = next(step["data"] for step in device.told if step["to"] == "probation")
    assert figures["rss_mb"] > 10
    assert figures["latency_ms_p99"] > 0
    scored = device.releases.serving()["app.search/m"].score(ROWS[0])
    assert scored.alert == (scored.out["probability(label=bad)"] >= 0.5)
    device.install(device.version("r2", "mlp", version=2))
    assert (device.state("r2"), device.version_now) == ("committed", 2)
    device.install(device.version("r3", "linear", version=3))
    assert device.version_now == 3
    device.restart()
    assert device.version_now == 3
    device.releases.rollback("app.search/m")
    assert device.version_now == 2
    assert device.way("r3")[-1] == "rolled-back"
    with pytest.raises(InvalidInput, match="nothing before"):
        device.releases.rollback("app.search/m")
    device.restart()
    assert device.version_now == 2


def test_a_shadow_scores_beside_and_takes_over(device):
    device.install(device.version("r1"))
    device.releases.desired([device.version("r2", "mlp", version=2, shadow_s=2)])
    device.run(until=lambda: bool(device.releases.shadows()))
    assert device.version_now == 1
    assert device.releases.shadows()["app.search/m"].version == 2
    device.run()
    assert device.way("r2") == [*WAY[:6], "shadow", *WAY[6:]]
    assert not device.releases.shadows()
    assert device.version_now == 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": 1, "kind": "mlp"}, "does not follow version 2"),
        ({"version": 2, "kind": "mlp"}, "does not follow version 2"),
        ({"version": 3, "expires": 1.7e9}, "expired"),
        ({"version": 3, "limits": {"min_agent": "99.0"}}, "needs agent 99.0"),
        ({"version": 3, "limits": {"max_rss_mb": 20}}, "may take 20|more than|more memory"),
        ({"version": 3, "limits": {"max_latency_ms": 0.0001}}, "One row takes"),
        ({"version": 3, "thresholds": {"no such": 1.0}}, "about no number"),
        ({"version": 3, "url": "http://service/x"}, "not https"),
    ],
)
def test_what_may_not_serve_is_refused_with_the_reason_and_the_other_goes_on(device, change, reason):
    device.install(device.version("r2", version=2))
    change = dict(change)
    document = device.version("bad", change.pop("kind", "linear"), version=change.pop("version"), **change)
    device.releases.desired([document])
    device.run()
    assert device.state("bad") == "refused"
    assert re.search(reason, device.reason("bad")), device.reason("bad")
    assert device.version_now == 2
    assert not (device.home / "device/models/app.search~m/b").exists()


def test_a_downgrade_that_is_allowed_and_an_expired_release_while_the_clock_is_not_set(device):
    device.install(device.version("r2", version=2))
    device.time.set = False
    device.install(device.version("r1", version=1, allow_downgrade=True, expires=1.0))
    assert device.version_now == 1


def test_the_same_version_with_other_thresholds_is_not_fetched_again(device):
    device.install(device.version("r1", "gbdt"))
    device.fetch.asked.clear()
    device.fetch.folders["r1b"] = device.fetch.folders["r1"]
    again = release_document(device.fetch.folders["r1"], release="r1b", thresholds={"bad": 0.0})
    device.install(again)
    assert device.state("r1b") == "committed"
    assert not device.fetch.asked
    assert device.releases.serving()["app.search/m"].score(ROWS[0]).alert


def test_a_full_disk_is_seen_before_anything_is_fetched(tmp_path, signing):
    device = Device(tmp_path, signing, reserve_bytes=1 << 60)
    device.install(device.version("r1"))
    assert device.state("r1") == "refused"
    assert "disk has" in device.reason("r1")
    assert not device.fetch.asked


def test_a_manifest_of_another_key_or_name_is_refused(device):
    device.install(device.version("r1"))
    device.install(device.version("r2", version=2, signing=Signing.fresh()))
    assert "signature does not hold" in device.reason("r2")
    document = device.version("r3", version=3, name="app.search/other")
    device.install({**document, "model": "app.search/m"})
    assert "app.search/other@3, not app.search/m@3" in device.reason("r3")
    assert device.version_now == 1


def test_a_download_goes_on_where_it_ended_and_a_swapped_file_is_refused(device):
    document = device.version("r1", "gbdt")
    device.fetch.piece = 4096
    calls = []

    def flaky(file, offset):
        calls.append((file.path, offset))
        if len(calls) % 7 == 3:
            raise Unavailable("the line is down")
        return device.fetch(file, offset)

    device.releases.close()
    device.releases = Releases(
        device.home / "flaky", device.signing.trust, fetch=flaky, clock=device.time.clock,
        on_transition=device.told.append, selftest=AlwaysGood,
    )  # fmt: skip
    import kepler_edge.installs as installs

    quick = installs.download
    installs.download = lambda *given, **more: quick(*given, first_wait_s=0.001, **more)
    try:
        device.install(document)
    finally:
        installs.download = quick
    assert device.state("r1") == "committed"
    model = [offset for path, offset in calls if path == "model.onnx"]
    assert sorted(set(model)) == model or len(model) > len(set(model))  # never back, but for what failed
    assert len(set(model)) == -(-document["files"][0]["size"] // 4096)
    other = device.version("r2", "linear", version=2)
    folder = device.fetch.folders["r2"]
    data = bytearray((folder / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.onnx").write_bytes(data)
    device.install(other)
    assert device.state("r2") == "refused"
    assert "another hash" in device.reason("r2")
    assert device.version_now == 1


class Hangs(AlwaysGood):
    def poll(self):
        return None


def test_no_state_hangs(tmp_path, signing):
    device = Device(tmp_path, signing, selftest=Hangs)
    device.releases.desired([device.version("r1")])
    device.run(until=lambda: device.state("r1") == "selftest")
    device.time.go(301)
    device.run()
    assert device.state("r1") == "refused"
    assert "longer than 300 s in the state selftest" in device.reason("r1")

    def never(file, offset):
        raise Unavailable("no line")

    device.releases.close()
    device.fetch = never
    device.start()
    folder = tmp_path / "service" / "r2"
    registered(draft("linear"), folder, signing, version=2)
    device.releases.desired([release_document(folder, release="r2")])
    device.run(until=lambda: device.state("r2") == "downloading")
    device.time.go(8 * 86_400)
    device.run()
    assert "longer than" in device.reason("r2")


def test_an_agent_that_is_started_again_and_again_gives_the_release_up(tmp_path, signing):
    device = Device(tmp_path, signing, selftest=AlwaysGood)
    device.install(device.version("r1"))
    device.releases.desired([device.version("r2", "mlp", version=2, probation_s=1000)])
    device.run(until=lambda: device.version_now == 2, score=False)
    for _ in range(3):
        device.restart()
        assert device.version_now == 2
    device.restart()
    assert device.version_now == 1
    assert device.state("r2") == "rolled-back"
    assert "started 4 times" in device.reason("r2")


@pytest.mark.parametrize("harm", ["errors", "nan", "slow", "drift"])
def test_a_probation_that_goes_wrong_is_rolled_back_by_itself(tmp_path, signing, harm):
    from kepler_edge.model import Scored

    device = Device(tmp_path, signing, selftest=AlwaysGood)
    device.install(device.version("r1"))
    gates = {"max_latency_ms": 50, "max_drift": 0.5}
    device.releases.desired([device.version("r2", "mlp", version=2, probation_s=1000, gates=gates)])
    device.run(until=lambda: device.version_now == 2, score=False)
    model = device.releases.serving()["app.search/m"]
    bad = {
        "errors": (None, RuntimeError("the model fails")),
        "nan": (Scored({"predicted(label)": "bad"}, False, 10.0, nan=True), None),
        "slow": (Scored({"predicted(label)": "bad"}, False, 90_000.0), None),
        "drift": (Scored({"predicted(label)": "bad"}, False, 10.0), None),
    }[harm]
    for _ in range(250):
        device.releases.observe(model, *bad)
    device.run(score=False)
    assert device.state("r2") == "rolled-back"
    words = {"errors": "failed", "nan": "NaN", "slow": "90 ms", "drift": "drift"}
    assert words[harm] in device.reason("r2")
    assert device.version_now == 1
    device.score()
    device.restart()
    assert device.version_now == 1


def test_what_is_no_longer_named_stops_and_comes_back(device):
    document = device.version("r1")
    device.install(document)
    device.releases.desired([])
    assert not device.releases.serving()
    device.restart()
    assert not device.releases.serving()
    assert device.releases.desired([document]) == []
    assert device.version_now == 1
    assert len(device.way("r1")) == len(WAY)


def test_damage_on_the_disk_is_found_at_the_next_start(device):
    device.install(device.version("r1"))
    device.install(device.version("r2", "mlp", version=2))
    model = device.home / "device/models/app.search~m/b/model.onnx"
    data = bytearray(model.read_bytes())
    data[-100] ^= 0x10
    model.write_bytes(data)
    device.restart()
    assert device.version_now == 1
    assert "do not hold any more" in device.reason("r2")


def test_a_lost_journal_and_the_factorys_model(device):
    device.install(device.version("r1"))
    device.releases.close()
    (device.home / "device/releases.db").write_bytes(b"no database at all" * 1000)
    for suffix in ("-wal", "-shm"):
        (device.home / f"device/releases.db{suffix}").unlink(missing_ok=True)
    device.start()
    assert device.version_now == 1
    device.install(device.version("r2", "mlp", version=2))
    assert device.version_now == 2
    assert device.told[-1]["n"] > 1.7e9  # numbers of the lost journal are not used again
    shutil.rmtree(device.home / "device/models/app.search~m/a")
    shutil.rmtree(device.home / "device/models/app.search~m/b")
    factory = device.home / "device/models/app.search~m/factory"
    registered(draft("linear"), factory, device.signing, version=9)
    device.restart()
    assert device.version_now == 9
    assert device.state("r2") == "rolled-back"


def test_steps_are_told_until_the_listener_takes_them(device):
    def broken(step):
        raise RuntimeError("the outbox is full")

    told = device.told
    device.releases.close()
    device.told = type("Never", (), {"append": staticmethod(broken)})()
    device.start()
    device.install(device.version("r1"))
    assert device.version_now == 1
    device.releases.close()
    device.told = told
    device.start()
    assert device.way("r1") == WAY


def test_hostile_documents_harm_nobody(device):
    device.install(device.version("r1"))
    good = json.loads(json.dumps(device.version("r2", version=2)))
    bad = [
        7, None, {}, {"id": "x"}, {**good, "id": "../x"}, {**good, "model": ".."}, {**good, "more": 1},
        {**good, "files": []}, {**good, "manifest": {**good["manifest"], "path": "../../x"}},
        {**good, "windows": [{"field": "a", "seconds": 1, "rows": 1, "function": "mean", "as": "w"}]},
        {**good, "probation_s": -1}, {**good, "version": 2**70}, {**good, "url": "file:///etc/passwd"},
    ]  # fmt: skip
    for document in bad:
        assert device.releases.desired([device.version("r1"), document])
        device.run()
        assert device.version_now == 1


def test_trust_decides_at_every_start(device):
    device.install(device.version("r1"))
    device.signing = Signing(device.signing.signer, Trust([b"\1" * 32]))
    device.restart()
    assert device.version_now is None
    assert "signature does not hold" in device.reason("r1")
