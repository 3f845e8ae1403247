"""The service is away, refuses, dies or has no room: one clear sentence, and nothing is lost."""

from __future__ import annotations

import datetime
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from e2e.conftest import Standin
from e2e.test_bad_input import sentence
from fakes.splunkd import SearchResult, Splunkd
from kepler.adapters.security.tls import make_self_signed
from support.running_service import RunningService, running, start

IRIS = "| inputlookup iris.csv"
TRAIN = f"{IRIS} | keplertrain GaussianNB species from * into app:held"
SEARCHES = (TRAIN, f"{IRIS} | keplerpredict app:held", "| keplermodels", "| keplersummary app:held")


def test_the_service_is_down(standin: Standin) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can take the port
        address = f"127.0.0.1:{held.getsockname()[1]}"
        with standin(address) as splunkd:
            for spl in SEARCHES:
                text = sentence(splunkd.search(spl))
                assert address in text
                assert "keplerhealth" in text
            health = splunkd.search("| keplerhealth")
    assert not health.is_failed
    assert any(address in str(row) for row in health.rows)


def test_a_wrong_token_and_an_authority_that_is_not_trusted(standin: Standin, tmp_path: Path) -> None:
    made = make_self_signed(tmp_path / "home", ["127.0.0.1", "localhost"])
    env = {
        "KEPLER_TLS__CERT_FILE": str(made.server_cert),
        "KEPLER_TLS__KEY_FILE": str(made.server_key),
        "KEPLER_REQUIRE_TOKEN": "true",
    }
    other = make_self_signed(tmp_path / "other", ["127.0.0.1"])
    with running(tmp_path / "home", env=env) as service:
        trusted = {"KEPLER_CA_FILE": str(made.ca)}
        for token in ("wrong-token", "kepler_" + "0" * 40, ""):
            with standin(service.grpc, env={**trusted, "KEPLER_TOKEN": token}) as splunkd:
                for spl in SEARCHES[:2]:
                    text = sentence(splunkd.search(spl))
                    assert "token" in text.lower()
                    assert not token or token not in text
        with standin(service.grpc, env={"KEPLER_CA_FILE": str(other.ca), "KEPLER_TOKEN": "x"}) as splunkd:
            assert "certificate" in sentence(splunkd.search(SEARCHES[1]))
        assert service.process.poll() is None


def _expired(folder: Path) -> tuple[bytes, bytes, Path]:
    """A certificate that ended yesterday, its key, and the file of the authority: itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=30))
        .not_valid_after(now - datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "ca.pem").write_bytes(pem)
    plain = serialization.NoEncryption()
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    return pem, secret, folder / "ca.pem"


def test_an_expired_certificate(standin: Standin, tmp_path: Path) -> None:
    """The service refuses to start with one; here it ends while a server goes on with it."""
    certificate, key, ca = _expired(tmp_path)
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials([(key, certificate)]))
        server.start()
        with standin(f"localhost:{port}", env={"KEPLER_CA_FILE": str(ca)}) as splunkd:
            for spl in SEARCHES[:2]:
                text = sentence(splunkd.search(spl))
                assert "expired" in text
                assert "Renew" in text
        server.stop(None)


class KillAfter:
    """Kills the service once a command has answered ``replies`` executes (getinfo replies don't count)."""

    def __init__(self, command: str, replies: int) -> None:
        self.command, self.left = command, replies
        self.service: RunningService | None = None

    def __call__(self, command: str, way: str, message: bytes) -> None:
        if command != self.command or way != "out" or b'"type"' in message[:200]:
            return
        self.left -= 1
        if self.left == 0 and self.service is not None:
            self.service.kill()


@pytest.mark.timeout(240)
def test_killed_in_mid_search(standin: Standin, tmp_path: Path) -> None:
    home = tmp_path / "home"
    service = start(home)
    try:
        with standin(service.grpc) as splunkd:
            assert not splunkd.search(TRAIN).errors
            before = splunkd.search(f"{IRIS} | keplerpredict app:held").rows
        for command, rest in (
            ("keplerpredict", "keplerpredict app:held"),
            ("keplertrain", "keplertrain GaussianNB species from * into app:lost"),
        ):
            killer = KillAfter(command, 2)
            with standin(service.grpc, chunk_rows=20, on_message=killer) as splunkd:
                killer.service = service
                text = sentence(splunkd.search(f"{IRIS} | {rest}"))
                assert killer.left <= 0, "it was over before the kill"
                assert service.grpc in text
            assert service.process.poll() is not None
            service = start(home)
            with standin(service.grpc) as splunkd:
                assert splunkd.search(f"{IRIS} | keplerpredict app:held").rows == before
                assert [row["model"] for row in splunkd.search("| keplermodels").rows] == ["app.search/held"]
                jobs = splunkd.search("| keplerjobs").rows
                assert [job["state"] for job in jobs] == ["succeeded"]
    finally:
        service.kill()


def _wait_for(found: Callable[[], bool], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.05)


@pytest.mark.timeout(240)
def test_killed_in_mid_training(standin: Standin, tmp_path: Path) -> None:
    """The rows are up and the job runs: the search outlives a restart, and the job ends once."""
    home = tmp_path / "home"
    service = start(home)
    slow = (
        "| inputlookup cancer.csv | keplertrain MLPClassifier diagnosis from * into app:slow "
        "hidden_layer_sizes=64-64 max_iter=200 tol=0"
    )
    try:
        with standin(service.grpc) as splunkd:
            results: list[SearchResult] = []
            search = threading.Thread(target=lambda: results.append(splunkd.search(slow)))
            search.start()
            _wait_for(lambda: any(r["state"] == "running" for r in splunkd.search("| keplerjobs").rows))
            service.kill()
            service = start(home, "--grpc", service.grpc)
            search.join(120)
            assert len(results) == 1
            assert not results[0].is_failed, results[0].errors
            assert len(results[0].rows) == 569
            jobs = splunkd.search("| keplerjobs").rows
            assert [job["state"] for job in jobs] == ["succeeded"]
            versions = splunkd.search("| keplerversion list app:slow").rows
            assert [row["version"] for row in versions] == ["1"]
            asked = splunkd.search("| inputlookup cancer.csv | keplerpredict app:slow")
            guess = "predicted(diagnosis)"
            assert [row[guess] for row in asked.rows] == [row[guess] for row in results[0].rows]
    finally:
        service.kill()


@dataclass
class Filling:
    """``before`` are the predictions while there was room."""

    disk: Path
    splunkd: Splunkd
    service: RunningService
    before: list[dict[str, str]]


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of that size; skips where mounting is not permitted."""
    folder.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "kepler-test", str(folder)]
    try:
        done = subprocess.run(options, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount program here, so no small disk to fill")
    if done.returncode:
        pytest.skip(f"mounting a small disk is not permitted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _fill(folder: Path, leave: int) -> Path:
    """A file that takes all but ``leave`` bytes of the disk."""
    stat = os.statvfs(folder)
    ballast = folder / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, stat.f_bavail * stat.f_frsize - leave)
    return ballast


BIG = "| inputlookup cancer.csv | keplertrain GaussianNB diagnosis from * into app:big"


@pytest.fixture
def filling(standin: Standin, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Filling]:
    """A service on a disk of its own, with a model to ask; the parameter is the floor it keeps free."""
    with small_disk(tmp_path / "disk", 400) as disk:
        env = {"KEPLER_TRAINING__MIN_FREE_DISK_BYTES": request.param}
        # Its log lies elsewhere: on the full disk nobody could read what it says about it.
        log_file = tmp_path / "service.log"
        with running(disk / "home", env=env, log_file=log_file) as service, standin(service.grpc) as splunkd:
            assert not splunkd.search(TRAIN).errors
            yield Filling(disk, splunkd, service, splunkd.search(f"{IRIS} | keplerpredict app:held").rows)
            assert splunkd.search(f"{IRIS} | keplerpredict app:held").rows
            assert service.process.poll() is None


@pytest.mark.timeout(240)
@pytest.mark.parametrize("filling", ["1048576"], indirect=True)
def test_a_disk_that_is_nearly_full(filling: Filling) -> None:
    """Uploads are refused, predictions go on, and room helps."""
    ballast = _fill(filling.disk, leave=600_000)
    assert "disk" in sentence(filling.splunkd.search(BIG)).lower()
    assert filling.splunkd.search(f"{IRIS} | keplerpredict app:held").rows == filling.before
    ballast.unlink()
    assert not filling.splunkd.search(BIG).errors


@pytest.mark.timeout(240)
@pytest.mark.parametrize("filling", ["0"], indirect=True)
def test_a_disk_that_is_full_to_the_last_byte(filling: Filling) -> None:
    """Without a floor the training waits for room: its search names the job, which ends once there is some."""
    splunkd = filling.splunkd
    ballast = _fill(filling.disk, leave=250_000)
    since = time.monotonic()
    answer = splunkd.search(f"{BIG} timeout=5s")
    if answer.is_failed:
        assert re.search("disk|space", sentence(answer), re.IGNORECASE)
    else:
        assert any("goes on" in text for text in answer.warnings)
    assert splunkd.search(f"{IRIS} | keplerpredict app:held").rows == filling.before
    minutes = (time.monotonic() - since) / 60
    ballast.unlink()
    engine = [
        line
        for line in filling.service.log.splitlines()
        if "OperationalError) database or disk is full" in line
    ]
    assert len(engine) <= 2 * (1 + minutes), (
        "a warning and an error, each once a minute, however often it polls"
    )
    for row in answer.rows:
        ended = splunkd.search(f"| keplerjobs wait {row['job_id']} timeout=60s").rows[0]
        assert ended["state"] == "succeeded", ended
    assert not splunkd.search(BIG).errors


def test_a_disk_below_the_floor(standin: Standin, tmp_path: Path) -> None:
    """The same without a small disk: a floor that no disk reaches."""
    with running(tmp_path / "home", env={"KEPLER_TRAINING__MIN_FREE_DISK_BYTES": str(2**60)}) as service:
        with standin(service.grpc) as splunkd:
            assert "disk" in sentence(splunkd.search(TRAIN)).lower()
            assert splunkd.search("| keplermodels").rows == []
        assert service.process.poll() is None
