"""Secrets through every path of the main job on a real service, then looked for in all it keeps and says.

Source of the figures: issue 2, test 21: 0 occurrences. Values of rows must not be in a log either.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import grpc
import httpx
import pytest

from kepler.adapters.jobs.process_worker import ProcessTrainWorker
from kepler.adapters.security.home import HomeSecurity
from kepler.adapters.security.tls import make_self_signed
from kepler.adapters.storage.csv_slices import ArrowRowSpool
from kepler.bootstrap import SystemClock
from kepler.core.errors import KeplerError
from kepler.core.training import TrainSpec
from kepler.v1 import auth_pb2, auth_pb2_grpc
from support.canaries import files_of, found_in, processes_of
from support.running_service import RunningService, running
from support.service_client import COLUMNS, connect, ended, predict_one, train, trained

STORED = "stored-canary-7d1f0a9c"
HEADER = "header-canary-55aa0134"
ROW_NUMBER, ROW_TEXT = "918273.645", "rowcanary"


def test_no_secret_and_no_row_is_left_anywhere(tmp_path: Path) -> None:
    home = tmp_path / "home"
    tls = make_self_signed(home, ["127.0.0.1"])
    security = HomeSecurity(home, "file", SystemClock())
    installation = security.tokens.create("sh", "splunk", frozenset({"issue", "train", "predict"}), 0.0)[1]
    env = {
        "KEPLER_TLS__CERT_FILE": str(tls.server_cert),
        "KEPLER_TLS__KEY_FILE": str(tls.server_key),
        "KEPLER_TLS__CLIENT_CA_FILE": str(tls.ca),
        "KEPLER_REQUIRE_TOKEN": "true",
        "KEPLER_LOG__LEVEL": "debug",
    }
    stored = subprocess.run(
        [sys.executable, "-m", "kepler", "secret", "set", "hec", "--home", str(home)],
        input=STORED + "\n", text=True, capture_output=True, check=True,
    )  # fmt: skip
    said = [stored.stdout, stored.stderr]
    with running(home, env=env) as service:
        credentials = grpc.ssl_channel_credentials(
            tls.ca.read_bytes(), tls.client_key.read_bytes(), tls.client_cert.read_bytes()
        )
        with grpc.secure_channel(service.grpc, credentials) as channel:
            stub = auth_pb2_grpc.AuthServiceStub(channel)
            user_token = stub.IssueToken(
                auth_pb2.IssueTokenRequest(user="bob", capabilities=["train", "predict"], ttl_s=600),
                metadata=(("authorization", f"Bearer {installation}"),),
                timeout=20,
            ).token
            for header in (f"Bearer {HEADER}", f"Basic {HEADER}", HEADER, f"Bearer {user_token}x"):
                with pytest.raises(grpc.RpcError) as refused:
                    stub.WhoAmI(auth_pb2.WhoAmIRequest(), metadata=(("authorization", header),), timeout=20)
                said.append(str(refused.value))
        said += main_job(service, user_token, str(tls.ca), str(tls.client_cert), str(tls.client_key))
        with httpx.Client(base_url=f"https://{service.http}", verify=_trusting(tls.ca)) as http:
            for token in (installation, user_token, HEADER):
                for path in ("/metrics", "/readyz", "/healthz", f"/{token}"):
                    answer = http.get(
                        path, params={"token": token}, headers={"Authorization": f"Bearer {token}"}
                    )
                    said.append(answer.text + str(answer.headers))
        kept = processes_of(service.pid)
        limits = Path(f"/proc/{service.pid}/limits").read_text()
        assert service.stop() == 0
    security.close()
    assert any("cannot" in text or "not" in text for text in said)
    (core,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    assert core.split()[4:6] == ["0", "0"]
    keys = [home / "tls" / name for name in ("ca.key", "server.key", "client.key")]
    kept |= files_of(home, but=keys)
    kept["answers"] = "\n".join(said).encode()
    assert {"jobs.sqlite", "mlflow.sqlite", "tokens.sqlite", "stderr.log"} <= set(kept)
    assert any(place.startswith("audit") for place in kept)
    assert any(place.endswith("worker.log") for place in kept)
    assert any(place.endswith("manifest.json") for place in kept)
    secrets = {
        "stored secret": STORED,
        "header": HEADER,
        "installation token": installation,
        "its secret part": installation.split("_", 2)[2],
        "user token": user_token,
        "its secret part (user)": user_token.split("_", 1)[1],
        **{f"key {key.name}": key.read_text().splitlines()[1] for key in keys},
    }
    assert found_in(kept, secrets) == []
    logs = {place: content for place, content in kept.items() if place.endswith(".log") or "logs" in place}
    logs["answers to monitoring"] = "\n".join(said[-12:]).encode()
    assert found_in(logs, {"number": ROW_NUMBER, "text": ROW_TEXT, "row": "9,4,7"}) == []


def _trusting(ca: Path) -> object:
    import ssl

    return ssl.create_default_context(cafile=str(ca))


def main_job(service: RunningService, token: str, ca: str, cert: str, key: str) -> list[str]:
    """Everything a user does in a day, with some of it wrong; gives the errors they read."""
    read: list[str] = []
    access = {"token": token, "ca": ca, "cert": cert, "key": key}
    rows = "".join(f"{number},{ROW_TEXT}{number % 3},{ROW_NUMBER}\n" for number in range(30)).encode()
    with connect(service, **access) as client:  # type: ignore[arg-type]
        trained(client, "app:canary")
        ended(client, train(client, "app:rows", rows=rows))
        failing = [
            train(client, "", rows=rows, algorithm="LogisticRegression"),
            train(client, "", rows=rows, algorithm="sklearn.linear_model.GammaRegressor"),
            train(client, "", rows=rows.replace(ROW_NUMBER.encode(), b"-" + ROW_NUMBER.encode()),
                  algorithm="sklearn.linear_model.PoissonRegressor"),
        ]  # fmt: skip
        for job_id in failing:
            job = ended(client, job_id)
            read.append(job.failure.message if job.failure else "")
        predict_one(client, "app:canary", 9, 4)
        client.set_alias("app:canary@1", "prod")
        client.summarize("app:canary@prod")
        client.delete_alias("app:canary", "prod")
        for slices in ([f"{ROW_TEXT},1\n".encode()], [b"1,2,3\n"], [b'"1,2\n']):
            with pytest.raises(KeplerError) as bad, client.predict("app:canary", COLUMNS, slices) as stream:
                list(stream)
            read.append(bad.value.sentence)
        with pytest.raises(KeplerError) as denied:
            client.model("user.somebody/private")
        read.append(denied.value.sentence)
        client.delete_model("app:rows")
    return read


BROKEN_TRAINING = """
import sys
from kepler.adapters.jobs import training_main, worker_main
def fit_model(*parts):
    rows = ["{canary}"]
    return [float(cell) for cell in rows]
training_main.fit_model = fit_model
worker_main.run(preload=())
"""


def test_the_stack_of_an_unforeseen_failure_holds_no_row(tmp_path: Path) -> None:
    """The worker's log names files, lines and classes; no local variable, and no text of the exception."""
    script = tmp_path / "broken_training.py"
    canary_file = tmp_path / "canary"
    canary_file.write_text(ROW_TEXT)
    script.write_text(BROKEN_TRAINING.replace('["{canary}"]', f"open({str(canary_file)!r}).read().split()"))
    folder = tmp_path / "job"
    folder.mkdir()
    spec = TrainSpec("j", "LinearRegression", ("x",), ("x",))
    (folder / "spec.json").write_text(spec.to_json())
    spool = ArrowRowSpool(folder, ("x",), ("x",), 0)
    spool.write(b"1\n")
    spool.finish()
    worker = ProcessTrainWorker(command=(sys.executable, "-P", "-s", str(script)))
    outcome = worker.run(folder, lambda *_: None, lambda: False)
    worker.close()
    assert outcome.failure is not None
    assert outcome.failure.code == "InternalError"
    error_id = outcome.failure.cause.rpartition(" ")[2]
    log = (folder / "worker.log").read_text()
    assert error_id in log
    assert "builtins.ValueError" in log
    assert "in fit_model" in log
    assert ROW_TEXT not in log
    assert ROW_TEXT not in outcome.to_json()


def test_the_search_itself_finds_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "log").write_text(f"before {STORED} after")
    assert found_in(files_of(tmp_path), {"s": STORED, "h": HEADER}) == ["s in a/log"]
    assert files_of(tmp_path, but=[tmp_path / "a" / "log"]) == {}
