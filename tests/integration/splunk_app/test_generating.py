"""The commands that make rows of their own."""

from __future__ import annotations

import datetime
import json

import pytest
from grpc_health.v1 import health_pb2

from integration.splunk_app.talk import Double, error_of, getinfo, make_certificate, records, said, talk
from kepler.core.errors import Denied
from kepler.v1 import common_pb2, jobs_pb2, models_pb2
from kepler_app import checks
from kepler_app.chunks import Command
from kepler_app.commands.delete import KeplerDelete
from kepler_app.commands.health import KeplerHealth
from kepler_app.commands.jobs import KeplerJobs
from kepler_app.commands.models import KeplerModels
from kepler_app.commands.summary import KeplerSummary
from kepler_app.commands.version import KeplerVersion


@pytest.fixture
def full(service: Double) -> Double:
    """Two models, one with two versions, and three jobs."""
    for name, count in (("app.search/m", 2), ("user.ana/n", 1)):
        service.versions[name] = [
            models_pb2.ModelVersion(
                name=name,
                version=number,
                algorithm="KMeans",
                required_fields=["a", "b"],
                rows=9,
                created_at=1_760_000_000,
                metrics=[common_pb2.Metric(name="r2", value=0.5)],
                params={"k": "3", "c": "1"},
            )
            for number in range(count, 0, -1)
        ]
    states = (jobs_pb2.Job.SUCCEEDED, jobs_pb2.Job.RUNNING, jobs_pb2.Job.FAILED)
    for number, state in enumerate(states):
        error = "It broke; see `kepler jobs list`." if state == jobs_pb2.Job.FAILED else ""
        service.jobs[f"j{number}"] = jobs_pb2.Job(id=f"j{number}", state=state, error=error, created_at=1)
    return service


def rows_of(command: Command, *args: str) -> list[dict[str, str]]:
    code, answers = talk(command, getinfo(*args), b"")
    assert code == 0, answers
    assert answers[0][0] == {"type": "reporting", "generating": True}
    assert answers[1][0]["finished"] is True
    return records(answers[1][1])


def test_models(full: Double) -> None:
    found = rows_of(KeplerModels())
    assert [(row["model"], row["version"]) for row in found] == [("app.search/m", "2"), ("user.ana/n", "1")]
    assert (found[0]["fields"], found[0]["params"], found[0]["metrics"]) == ("a,b", "c=1 k=3", "r2=0.5")
    assert found[0]["created"] == "2025-10-09T08:53:20Z"
    every = rows_of(KeplerModels(), "name=*", "versions=t")
    assert [row["version"] for row in every] == ["2", "1", "1"]


@pytest.mark.parametrize(
    ("given", "sent"), [("m*", "*/m*"), ("app:m", "*/m"), ("app.search/*", "app.search/*"), ("", "")]
)
def test_patterns_reach_over_full_names(given: str, sent: str) -> None:
    command = KeplerModels()
    talk(command, getinfo(*([given] if given else [])))
    assert command._pattern == sent


def test_summary(full: Double) -> None:
    assert rows_of(KeplerSummary(), "app:m@1", "view=Importance", "limit=3") == [
        {"feature": "a", "coefficient": "1.5"}
    ]
    assert (full.seen[-1].view, full.seen[-1].limit, full.seen[-1].model) == ("importance", 3, "app:m@1")
    [row] = rows_of(KeplerSummary(), "model=app:m", "json=t")
    assert row["model"] == "app.search/m@2"
    assert json.loads(row["summary"]) == [{"feature": "a", "coefficient": "1.5"}]


def test_delete(full: Double) -> None:
    expected = [{"model": "app.search/m", "version": "1", "state": "deleted"}]
    assert rows_of(KeplerDelete(), "app:m@1") == expected
    assert [version.version for version in full.versions["app.search/m"]] == [2]
    assert "There is no model" in error_of(KeplerDelete(), getinfo("app:m@1"), b"")


def test_versions_and_aliases(full: Double) -> None:
    assert [row["version"] for row in rows_of(KeplerVersion(), "list", "app:m")] == ["2", "1"]
    assert rows_of(KeplerVersion(), "promote", "app:m@1")[0]["aliases"] == "prod"
    [row] = rows_of(KeplerVersion(), "promote", "app:m", "to=prod")
    assert (row["version"], row["aliases"]) == ("2", "prod")
    [row] = rows_of(KeplerVersion(), "rollback", "app:m")
    assert (row["version"], row["aliases"]) == ("1", "prod")
    assert rows_of(KeplerVersion(), "alias", "app:m@2", "candidate")[0]["aliases"] == "candidate"
    assert rows_of(KeplerVersion(), "action=unalias", "model=app:m", "alias=candidate")[0]["aliases"] == ""
    assert "nothing to go back" in error_of(KeplerVersion(), getinfo("rollback", "app:m"), b"")


def test_jobs(full: Double) -> None:
    assert [row["job_id"] for row in rows_of(KeplerJobs())] == ["j2", "j1", "j0"]
    assert [row["job_id"] for row in rows_of(KeplerJobs(), "list", "count=1")] == ["j2"]
    [failed] = rows_of(KeplerJobs(), "state=failed")
    assert (failed["state"], failed["message"]) == ("failed", "It broke; see `keplerjobs list`.")
    assert rows_of(KeplerJobs(), "status", "j1")[0]["state"] == "running"
    assert rows_of(KeplerJobs(), "wait", "j0")[0]["state"] == "succeeded"
    assert rows_of(KeplerJobs(), "cancel", "j1")[0]["state"] == "cancelled"
    assert rows_of(KeplerJobs(), "cancel", "j1")[0]["state"] == "cancelled"
    assert "There is no job 'x'" in error_of(KeplerJobs(), getinfo("wait", "x"), b"")


def test_waiting_for_a_job_ends(full: Double) -> None:
    code, answers = talk(KeplerJobs(), getinfo("wait", "j1", "timeout=1s"), b"")
    assert code == 0
    assert any("it goes on" in text for _, text in said(answers))


@pytest.mark.parametrize(
    ("command", "args", "words"),
    [
        (KeplerModels, ["a", "b"], "More than one name"),
        (KeplerModels, ["x=1"], "no option x="),
        (KeplerSummary, [], "model is missing"),
        (KeplerSummary, ["m", "view=all"], "view="),
        (KeplerSummary, ["m", "limit=0"], "limit="),
        (KeplerDelete, [], "model is missing"),
        (KeplerDelete, ["a", "b"], "more than once"),
        (KeplerVersion, [], "No action"),
        (KeplerVersion, ["move", "m"], "action="),
        (KeplerVersion, ["promote"], "No model"),
        (KeplerVersion, ["alias", "m"], "No alias"),
        (KeplerVersion, ["list", "m", "to=x"], "takes no alias"),
        (KeplerVersion, ["promote", "m", "a", "b"], "too many words"),
        (KeplerJobs, ["status"], "status|wait|cancel"),
        (KeplerJobs, ["list", "x"], "status|wait|cancel"),
        (KeplerJobs, ["state=done"], "state="),
        (KeplerHealth, ["x=1"], "no option x="),
    ],
)
def test_arguments_are_checked_while_planning(command: type[Command], args: list[str], words: str) -> None:
    assert words in error_of(command(), getinfo(*args))


def test_previews_change_nothing(full: Double) -> None:
    for command, args in (
        (KeplerDelete(), ["app:m"]),
        (KeplerVersion(), ["promote", "app:m"]),
        (KeplerJobs(), ["cancel", "j1"]),
    ):
        code, answers = talk(command, getinfo(*args, preview=True), b"")
        assert (code, answers[1][1]) == (0, b"")
    assert len(full.versions["app.search/m"]) == 2
    assert full.jobs["j1"].state == jobs_pb2.Job.RUNNING


def health() -> dict[str, dict[str, str]]:
    found = rows_of(KeplerHealth())
    assert [row["check"] for row in found] == list(checks.CHECKS)
    for row in found:
        assert bool(row["next_step"]) == (row["status"] in ("failed", "warning")), row
    return {row["check"]: row for row in found}


def statuses() -> str:
    return " ".join(row["status"] for row in health().values())


def test_all_is_well(service: Double) -> None:
    found = health()
    assert {row["status"] for row in found.values()} == {"ok"}
    assert "predict, train" in found["token"]["detail"]


def test_nothing_is_configured() -> None:
    found = health()
    assert statuses() == "failed" + " skipped" * 7
    assert "KEPLER_ADDRESS" in found["settings"]["detail"]


def test_each_broken_part_is_named(service: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    service.capabilities = []
    assert health()["token"]["status"] == "warning"
    service.capabilities = ["predict"]
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    service.server_time = past.isoformat().replace("+00:00", "Z")
    assert "behind" in health()["clock"]["detail"]
    service.server_time = past.replace(tzinfo=None).isoformat()
    assert health()["clock"]["status"] == "warning"
    service.server_time = "noon"
    assert "cannot be read" in health()["clock"]["detail"]
    service.fail["WhoAmI"] = Denied("The token is revoked", fix="Make another")
    assert statuses() == "ok ok ok ok ok failed skipped skipped"
    service.health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    assert statuses() == "ok ok ok ok failed skipped skipped skipped"
    service.stop()
    assert statuses() == "ok ok failed skipped skipped skipped skipped skipped"
    for name in ("no-such-host.invalid", "a" * 64 + ".invalid"):
        monkeypatch.setenv("KEPLER_ADDRESS", f"{name}:1")
        assert statuses() == "ok failed skipped skipped skipped skipped skipped skipped"


def test_what_answers_may_be_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    import http.server
    import threading

    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("KEPLER_ADDRESS", f"127.0.0.1:{server.server_address[1]}")
        assert health()["service"]["status"] == "failed"
        server.shutdown()


@pytest.mark.parametrize(
    ("days", "trusted", "status", "words"),
    [
        (90, True, "ok", "valid for"),
        (5, True, "warning", "valid for"),
        (-1, True, "failed", "expired"),
        (90, False, "failed", "not trusted"),
    ],
)
def test_certificates(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    days: int,
    trusted: bool,
    status: str,
    words: str,
) -> None:
    ca, _, issuer = make_certificate(names=("Test CA",), days=1000)
    other, _, _ = make_certificate(names=("Other CA",), days=1000)
    certificate, key, _ = make_certificate(issuer=issuer, days=days)
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    path.write_bytes(ca if trusted else other)
    monkeypatch.setenv("KEPLER_CA_FILE", str(path))
    service = Double()
    monkeypatch.setenv("KEPLER_ADDRESS", service.secure(certificate, key))
    with service:
        row = health()["tls"]
        assert row["status"] == status
        assert words in row["detail"]
        monkeypatch.setenv("KEPLER_ADDRESS", service.address)
        assert health()["tls"]["status"] == "failed"
        path.write_text("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n")
        assert "not valid PEM" in health()["tls"]["detail"]
