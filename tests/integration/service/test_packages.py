"""A version from one running service to another, by command line, SDK and bare stream."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from kepler.core.errors import Conflict, Denied, InvalidInput, NotFound
from kepler.core.manifest import Manifest
from kepler.sdk import Session
from kepler.v1 import models_pb2 as pb
from kepler.v1 import models_pb2_grpc
from support.packages import LINE, RELEASED
from support.running_service import RunningService, running, start
from support.service_client import Line, connect, predict_one, trained


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with running(tmp_path_factory.mktemp("plant") / "home") as service:
        with connect(service) as client:
            trained(client, "app:line")
        yield service


@pytest.fixture
def office(tmp_path: Path) -> Iterator[RunningService]:
    with running(tmp_path / "home") as service:
        yield service


def kepler(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kepler", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def versions_left(service: RunningService) -> list[Path]:
    return [*(service.home / "imports").glob("*"), *(service.home / "models").glob("*/*")]


def test_a_version_travels_and_says_where_it_came_from(
    plant: RunningService, office: RunningService, tmp_path: Path
) -> None:
    package, key = tmp_path / "line.kepler", tmp_path / "plant.pem"
    done = kepler("version", "export", "app:line", package, "--home", plant.home)
    assert done.returncode == 0, done.stderr
    assert "app.search/line@1 is in" in done.stdout
    again = kepler("version", "export", "app:line", package, "--home", plant.home)
    assert "exists already" in again.stderr
    assert "does not end in .kepler" in kepler("version", "export", "m", "m.zip", "--home", plant.home).stderr

    refused = kepler("version", "import", package, "--home", office.home)
    assert refused.returncode != 0
    assert "No key that is trusted here has signed the package" in refused.stderr
    assert versions_left(office) == []

    key.write_text(kepler("version", "key", "--home", plant.home).stdout)
    assert kepler("version", "trust", key, "--home", office.home).returncode == 0
    taken = kepler("version", "import", package, "--into", "app:bought", "--json", "--home", office.home)
    moved = json.loads(taken.stdout)
    assert (moved["version"]["name"], moved["version"]["version"]) == ("app.search/bought", 1)
    assert moved["origin"] == "app.search/line@1"
    with connect(office) as client:
        assert Line().says(7, 3, predict_one(client, "app:bought", 7, 3)[1].values)
        found = client.model("app:bought")
        manifest = Manifest.from_json(found.manifest_json)
        assert (manifest.name, manifest.owner) == ("app.search/bought", found.owner)
        assert manifest.origin is not None
        assert (manifest.origin.full_name, manifest.origin.key_id) == ("app.search/line@1", moved["key_id"])
        with Session(client) as session:
            onward = session.export_version("app:bought", tmp_path / "onward.kepler")
            assert onward.version.full_name == "app.search/bought@1"
            with pytest.raises(Conflict, match="exists already"):
                session.export_version("app:bought", tmp_path / "onward.kepler")
            with pytest.raises(NotFound):
                session.export_version("app:nothing", tmp_path / "nothing.kepler")
            assert not (tmp_path / "nothing.kepler").exists()
            assert (
                session.import_version(tmp_path / "onward.kepler").version.full_name == "app.search/bought@2"
            )
            with pytest.raises(NotFound, match="no file"):
                session.import_version(tmp_path / "nothing.kepler")
    assert list((office.home / "imports").iterdir()) == []
    assert kepler("audit", "verify", "--home", office.home).returncode == 0
    log = (office.home / "audit" / "audit.jsonl").read_text()
    for part in ('"refused"', '"key.trust"', '"version.export"', "app.search/bought from app.search/line@1"):
        assert part in log


def test_streams_that_end_early_or_out_of_order_leave_nothing(office: RunningService) -> None:
    content = LINE.read_bytes()
    open_ = pb.ImportVersionRequest(open=pb.ImportOpen())
    chunk = pb.ImportVersionRequest(chunk=content)
    end = pb.ImportVersionRequest(end=pb.ImportEnd(size_bytes=len(content), sha256="0" * 64))
    with grpc.insecure_channel(office.grpc) as channel:
        call = models_pb2_grpc.ModelServiceStub(channel).ImportVersion
        for messages, code in (
            ([], grpc.StatusCode.INVALID_ARGUMENT),
            ([chunk], grpc.StatusCode.INVALID_ARGUMENT),
            ([open_, open_], grpc.StatusCode.INVALID_ARGUMENT),
            ([open_, chunk], grpc.StatusCode.CANCELLED),
            ([open_, chunk, end], grpc.StatusCode.INVALID_ARGUMENT),
            ([open_, pb.ImportVersionRequest(chunk=bytes((1 << 20) + 1))], grpc.StatusCode.INVALID_ARGUMENT),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                call(iter(messages), timeout=20)
            assert refused.value.code() is code
    assert versions_left(office) == []


def test_a_package_that_was_cut_and_a_service_that_was_killed(tmp_path: Path) -> None:
    cut = tmp_path / "cut.kepler"
    cut.write_bytes(LINE.read_bytes()[:-40])
    home = tmp_path / "home"
    service = start(home)
    try:
        with connect(service) as client:
            with pytest.raises(Denied):
                client.import_version(LINE)
            assert kepler("version", "trust", RELEASED / "linear_v1.pem", "--home", home).returncode == 0
            with pytest.raises(InvalidInput, match=r"no \.kepler package"):
                client.import_version(cut)

            def requests() -> Iterator[pb.ImportVersionRequest]:
                yield pb.ImportVersionRequest(open=pb.ImportOpen())
                yield pb.ImportVersionRequest(chunk=LINE.read_bytes())
                for _ in range(200):
                    if any((home / "imports").glob("*/package.kepler")):
                        break
                    _pause()
                service.kill()

            with grpc.insecure_channel(service.grpc) as channel, pytest.raises(grpc.RpcError):
                models_pb2_grpc.ModelServiceStub(channel).ImportVersion(requests(), timeout=30)
    finally:
        service.kill()
    assert len(versions_left(service)) == 1
    with running(home) as again, connect(again) as client:
        for _ in range(200):
            if not versions_left(again):
                break
            _pause()
        assert versions_left(again) == []
        assert client.import_version(LINE, into="app:line").version.version == 1
        assert Line().says(7, 3, predict_one(client, "app:line", 7, 3)[1].values)


def _pause() -> None:
    import time

    time.sleep(0.05)
