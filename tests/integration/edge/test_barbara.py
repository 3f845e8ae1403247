"""The target ``barbara`` against the stand-in, through Barbara's own SDK: upload, deploy, poll, roll back, log in anew."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from fakes.barbara.server import FakeBarbara
from fakes.clock import FakeClock
from kepler.core.errors import Cancelled, Conflict, Denied, InvalidInput, NotFound, Unavailable
from kepler.core.manifest import FileEntry
from kepler.ports.deploy import DeployRequest, DeployState, ReadyVersion, TargetContext
from kepler.targets import _barbara_api
from kepler.targets._barbara_zip import check_compose, check_zip, compose
from kepler.targets.barbara import BarbaraTarget
from kepler_edge.keys import Trust
from kepler_edge.package import open_package
from support.edge_models import Signing, draft, registered


class Run:
    """Implements `ports.jobs.WorkRun`: steps are remembered, as a durable job remembers them."""

    job_id = "d-one"

    def __init__(self, steps: dict[str, dict[str, Any]] | None = None, die_before: str = "") -> None:
        self.steps = {} if steps is None else steps
        self.die_before = die_before
        self.phases: list[str] = []

    def step(self, name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if name == self.die_before:
            raise Cancelled("the service was killed")
        if name not in self.steps:
            self.steps[name] = json.loads(json.dumps(work()))
        return self.steps[name]

    def progress(self, fraction: float, phase: str) -> None:
        self.phases.append(phase)

    def wait(self, seconds: float) -> None:
        pass


class Place:
    def __init__(self, folder: Path, fake: FakeBarbara) -> None:
        self.signing, self.fake = Signing.fresh(), fake
        manifest = registered(draft("linear"), folder, self.signing, name="app.search/failure", version=3)
        files = {
            path.name: FileEntry("0" * 64, path.stat().st_size) for path in folder.iterdir() if path.is_file()
        }
        self.version = ReadyVersion(folder, manifest, files)
        context = TargetContext(
            cast("Any", self), cast("Any", None), cast("Any", None), cast("Any", None), FakeClock(),
            settings={"barbara": fake.settings()}, secret=fake.secret,
        )  # fmt: skip
        self.target = BarbaraTarget(context)

    def ready(self, model: str, version: int) -> ReadyVersion:
        if (model, version) != ("app.search/failure", 3):
            raise NotFound("no such version")
        return self.version


def request(id_: str = "d-one", to: str = "press-7,press-8", **options: str) -> DeployRequest:
    return DeployRequest(
        id_, "barbara", "app.search/failure", 3, to, {"poll_s": "0", "health_s": "0.05", **options}
    )


@pytest.fixture
def fake() -> Iterator[FakeBarbara]:
    with FakeBarbara() as found:
        yield found


@pytest.fixture
def place(tmp_path: Path, fake: FakeBarbara, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr("barbara.client.compute_backoff", lambda *_: 0.0)
    return Place(tmp_path / "version", fake)


def test_it_uploads_deploys_and_waits_until_every_node_is_healthy(place: Place, fake: FakeBarbara) -> None:
    plan = place.target.plan(request())
    assert [change.what for change in plan.changes] == ["press-7", "press-8"]
    assert fake.running("press-7") == ""
    run = Run()
    status = place.target.deploy(request(), run)
    assert status.state is DeployState.SUCCEEDED
    assert dict(status.figures) == {"nodes": 2, "healthy": 2}
    assert (fake.running("press-7"), fake.running("press-8")) == ("d-one", "d-one")
    assert list(run.steps) == ["upload", "deploy press-7", "deploy press-8"]
    [line] = place.target.logs(request(), place="press-7")
    assert line.text == "d-one on press-7"
    before = len(fake.requests)
    place.target.deploy(request(), Run())  # once more from nothing: it finds all of it done
    written = [item for item in fake.requests[before:] if item[0] in ("PUT", "DELETE")]
    assert written == []
    assert (
        len([item for item in fake.requests[before:] if item[0] == "POST" and "appversions" in item[1]]) == 0
    )


def test_the_zip_is_what_barbara_takes_and_an_agent_reads_its_model(
    place: Place, fake: FakeBarbara, tmp_path: Path
) -> None:
    place.target.deploy(request(), Run())
    content = fake.artifact("d-one")
    document = check_zip(content)
    service = document["services"]["kepler-edge"]
    assert service["restart"] == "unless-stopped"
    assert service["env_file"] == [".barbara_env"]
    assert service["volumes"] == ["./persist/:/persist/", "./appconfig/:/appconfig/"]
    assert service["deploy"]["resources"]["limits"] == {"cpus": "0.5", "memory": "256M"}
    with zipfile.ZipFile(io.BytesIO(content)) as package:
        package.extractall(tmp_path / "zip")
        names = set(package.namelist())
    assert {"docker-compose.yaml", "Dockerfile", "start.sh", ".barbara_env"} <= names
    assert (tmp_path / "zip" / "Dockerfile").read_text().startswith("FROM registry.plant/kepler-edge:0.1.0\n")
    factory = tmp_path / "zip" / "factory" / "app.search~failure" / "factory"
    manifest, model = open_package(factory, place.signing.trust)
    assert (manifest.name, manifest.version) == ("app.search/failure", 3)
    assert model == (place.version.folder / "model.onnx").read_bytes()
    assert isinstance(place.signing.trust, Trust)


def test_a_sick_node_gets_back_what_it_had_and_so_do_those_before_it(place: Place, fake: FakeBarbara) -> None:
    place.target.deploy(request("d-old", to="press-7"), Run())
    fake.sick.add("d-new")
    with pytest.raises(Conflict, match="press-7 does not run") as caught:
        place.target.deploy(request("d-new"), Run())
    assert "unhealthy" in caught.value.cause
    assert (fake.running("press-7"), fake.running("press-8")) == ("d-old", "")
    assert place.target.status(request("d-new")).state is DeployState.ROLLED_BACK


def test_a_node_that_never_takes_the_order_is_rolled_back_after_its_time(
    place: Place, fake: FakeBarbara
) -> None:
    fake.slow.add("press-8")
    fake.offline.add("press-8")
    assert [notice.text for notice in place.target.plan(request()).notices] == [
        "press-8 is offline: it takes the app when it comes back"
    ]
    with pytest.raises(Conflict, match="press-8") as caught:
        place.target.deploy(request(), Run())
    assert "pending" in caught.value.cause
    assert (fake.running("press-7"), fake.running("press-8")) == ("", "")


def test_it_goes_on_after_the_service_was_killed(place: Place, fake: FakeBarbara) -> None:
    steps: dict[str, dict[str, Any]] = {}
    with pytest.raises(Cancelled):
        place.target.deploy(request(), Run(steps, die_before="deploy press-8"))
    assert list(steps) == ["upload", "deploy press-7"]
    assert place.target.deploy(request(), Run(steps)).state is DeployState.SUCCEEDED
    uploads = [path for method, path in fake.requests if method == "POST" and path.endswith("appversions")]
    assert len(uploads) == 1


def test_an_expired_token_is_a_fresh_login_and_a_busy_api_another_try(
    place: Place, fake: FakeBarbara
) -> None:
    place.target.deploy(request(to="press-7"), Run())
    with _barbara_api.Barbara(fake.settings(), fake.secret) as api:
        api.node("press-7")
        logins = fake.logins
        fake.expire()
        assert api.node("press-8") == "node-1"
        assert fake.logins == logins + 1
        fake.unavailable = 2
        assert api.node("press-8") == "node-1"
        fake.unavailable = 50
        with pytest.raises(Unavailable, match="cannot do"):
            api.node("press-8")


def test_wrong_credentials_unknown_nodes_and_silence_are_said(place: Place, fake: FakeBarbara) -> None:
    with pytest.raises(NotFound, match="press-9"):
        place.target.plan(request(to="press-9"))
    with pytest.raises(NotFound, match="no version d-none"):
        place.target.status(request("d-none"))
    with pytest.raises(Denied) as caught, _barbara_api.Barbara(fake.settings(), lambda _: "wrong") as api:
        api.node("press-7")
    assert "wrong" not in caught.value.sentence
    with pytest.raises(InvalidInput, match="username"):
        _barbara_api.Barbara(fake.settings(username=""), fake.secret)
    away = fake.settings(api_url="http://127.0.0.1:9", auth_url="http://127.0.0.1:9/auth")
    with (
        pytest.raises(Unavailable, match="cannot be reached"),
        _barbara_api.Barbara(away, fake.secret) as api,
    ):
        api.node("press-7")


def test_rollback_and_delete_touch_their_own_version_alone_and_can_be_repeated(
    place: Place, fake: FakeBarbara
) -> None:
    place.target.deploy(request("d-old"), Run())
    place.target.deploy(request("d-new"), Run())
    dry = place.target.rollback(request("d-new"), dry_run=True)
    assert [change.text for change in dry] == ["gets d-old back", "gets d-old back"]
    assert fake.running("press-7") == "d-new"
    assert place.target.rollback(request("d-new")) == dry
    assert fake.running("press-7") == "d-old"
    assert place.target.rollback(request("d-new")) == ()
    assert place.target.delete(request("d-new")) == ()
    assert len(place.target.delete(request("d-old"))) == 2
    assert fake.running("press-7") == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"to": "press-7,press-7"}, "each node once"),
        ({"to": " "}, "each node once"),
        ({"colour": "red"}, "no option 'colour'"),
        ({"architectures": "armv7"}, "does not run on 'armv7'"),
        ({"cpus": "many"}, "cpus=many"),
        ({"image": "not an image"}, "is no image"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_asked(
    place: Place, fake: FakeBarbara, changes: dict[str, str], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        place.target.plan(request(**changes))
    assert fake.requests == []
    with pytest.raises(InvalidInput, match="not split"):
        place.target.traffic(request(), {3: 100.0})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("restart", "always", "restart: always"),
        ("restart", False, "unquoted restart"),
        ("privileged", True, "privileges"),
        ("cap_add", ["NET_ADMIN"], "privileges"),
        ("tty", True, "tty"),
        ("env_file", ".barbara_env", "env_file as a text"),
        ("volumes", ["/etc:/etc"], "mount of '/etc'"),
        ("volumes", ["./persist/../..:/host"], "mount of"),
    ],
)
def test_every_form_that_barbara_rejects_is_known(key: str, value: object, message: str) -> None:
    document = compose()
    document["services"]["kepler-edge"][key] = value
    with pytest.raises(InvalidInput, match=message):
        check_compose(document)
    with pytest.raises(InvalidInput, match="top-level name"):
        check_compose({**compose(), "name": "kepler"})
    check_compose(compose())


def test_groups_and_other_formats_are_refused(place: Place) -> None:
    manifest = place.version.manifest
    native = replace(manifest, model=replace(manifest.model, format="skops"))
    place.version = replace(place.version, manifest=native)
    with pytest.raises(InvalidInput, match="no single ONNX model"):
        place.target.plan(request())
